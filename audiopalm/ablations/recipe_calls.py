"""A system with a seed as calls of run.sh, in a folder that links to what the systems before it have made."""

import os
import shlex
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from audiopalm.ablations.design import Design, System
from audiopalm.core.config import to_dict
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import read_json, require, write_json, write_text
from audiopalm.stages.decode_record import DECODES, write_record

BASE_RUN = Path("exp")  # folder of the finished run of run.sh
RAW, TOKENS = Path("dump/raw"), Path("dump/tokens")
DEV, TEST, TRAIN = "dev", "test", "train"
SPOKEN = "s2st_es_en"  # the decode of the base run that acoustic models speak
RECORD, BUDGET, RESULTS = "run.json", "budget.json", "results.json"
LINKED = {6: "vocabulary", 7: "textlm", 8: "lm", 9: "acoustic"}  # {stage: the folder that it makes}
READERS = {6: (7, 8, 10), 7: (8,), 8: (10,), 9: (11,)}  # {stage: the stages that read this folder}
FORGETTING = 20  # translations of texts in each language, before and after the finetuning


def makes(system: System, stage: int) -> bool:
    """Whether a system has a product of stage 3, 6, 7, 8, 9, 10 or 11 of its own."""
    if stage in (8, 9):
        return bool(system.mixture if stage == 8 else system.acoustic_config)
    if stage == 10:
        return system.first <= 10 <= system.last and not system.acoustic_config
    if stage == 11:
        return bool(system.acoustic_config or system.synthesize_args)
    return system.first <= stage <= system.last


@dataclass(frozen=True)
class SystemRun:
    """One system with one seed, in `<expdir>/<system>_seed<N>`.

    lm_args: of every stage 8, after those of the design and before those of the system. cmd: the launcher of jobs that
    run.sh gets, or empty.
    """

    design: Design
    system: System
    seed: int
    expdir: Path
    lm_args: str = ""
    cmd: str = ""

    @property
    def folder(self) -> Path:
        return self.expdir / f"{self.system.name}_seed{self.seed}"

    @property
    def product(self) -> Path:
        """The file that marks the run as finished."""
        return self.folder / (RESULTS if self.system.last == 12 else f"{LINKED[self.system.last]}/model.safetensors")

    @property
    def depth(self) -> int:
        """The number of systems that it comes after."""
        return len(self.design.chain(self.system.name)) - 1

    def provider(self, stage: int) -> Path:
        """The folder of the run that has made the product of a stage: this one, one before it, or the base run."""
        for system in reversed(self.design.chain(self.system.name)):
            if makes(system, stage):
                return self.expdir / f"{system.name}_seed{self.seed}"
        return BASE_RUN

    @property
    def codec_run(self) -> Path:
        """The folder of the codec and of its tokens: the base run, or `<expdir>/<codec>`, which all seeds share."""
        codecs = [system.codec for system in self.design.chain(self.system.name) if system.codec]
        return self.expdir / Path(codecs[-1]).name if codecs else BASE_RUN

    @property
    def tokens(self) -> Path:
        """The folder of the tokens of stage 5, or of every k-th of them."""
        if self.system.unit_every > 1:
            return self.folder / "tokens"
        if self.codec_run != BASE_RUN:
            return self.codec_run / "tokens"
        folder = self.provider(3)
        return TOKENS if folder == BASE_RUN else folder / "tokens"

    @cached_property
    def all_lm_args(self) -> str:
        """The arguments of stage 8, without its steps."""
        return " ".join(filter(None, [self.design.lm_args, self.lm_args, self.system.lm_args]))

    def record(self) -> dict[str, Any]:
        """Everything that the result depends on, for run.json."""
        system = self.system
        mixture = self.design.mixtures.get(system.mixture, [])
        budget = self.design.budgets.get(system.budget)
        # Defaults are left out, so that a new option does not make earlier runs those of other settings.
        options = {field.name: getattr(system, field.name) for field in fields(system)
                   if getattr(system, field.name) != field.default}
        return {"system": options, "seed": self.seed, "design": self.design.design,
                "mixture": [to_dict(entry) for entry in mixture], "budget": to_dict(budget) if budget else None,
                "lm_args": self.all_lm_args if system.mixture else ""}

    def check(self) -> None:
        """Raise AudioPaLMError if the folder belongs to a run with other settings."""
        path = self.folder / RECORD
        if path.exists() and read_json(path) != self.record():
            raise AudioPaLMError(f"{self.folder} was begun with other settings; remove it, or give another --expdir")

    def prepare(self) -> None:
        """Make the folder: run.json, the mixture as lm.yaml, links to the models of earlier systems, decodes to speak.

        Raises AudioPaLMError as `check` does, and if an earlier system has not made what this one needs.
        """
        self.check()
        write_json(self.folder / RECORD, self.record())
        if self.system.mixture:
            mixture = [{key: value for key, value in to_dict(entry).items() if value not in ([], None)}
                       for entry in self.design.mixtures[self.system.mixture]]
            write_text(self.folder / "lm.yaml", f"# Written by audiopalm.bin.ablations: the mixture of "
                       f"{self.system.name}.\n{yaml.safe_dump({'mixture': mixture}, sort_keys=False)}")
        for stage, name in LINKED.items():
            provider = self.provider(stage)
            if provider == self.folder or not self._reads(stage):
                continue
            link = self.folder / name
            if not link.exists():
                target = require(provider / name, "./run.sh" if provider == BASE_RUN else f"{provider}'s run")
                link.symlink_to(os.path.relpath(target, self.folder))
        if makes(self.system, 11):
            self._inherit_decodes()

    def _reads(self, stage: int) -> bool:
        """Whether a stage of the system reads the product of an earlier stage."""
        return any(makes(self.system, reader) for reader in READERS[stage])

    def _inherit_decodes(self) -> None:
        """Copy the units that the base run has decoded."""
        for data in (DEV, TEST):
            source, folder = BASE_RUN / "decode" / data, self.folder / "decode" / data
            for name in ("units.scp", "meta.json"):
                if not (folder / SPOKEN / name).exists():
                    text = require(source / SPOKEN / name, "./run.sh").read_text(encoding="utf-8")
                    write_text(folder / SPOKEN / name, text)
            write_record(folder, {SPOKEN: read_json(source / DECODES, "./run.sh")[SPOKEN]})

    def codec_call(self) -> tuple[list[str], Path] | None:
        """The call of run.sh that makes the codec ids of the train set, and their table; None if no stage 9 reads them.

        Stage 4 of it takes the codec of the system. The base run has a codec, and no such ids.
        """
        if not self.system.acoustic_config:
            return None
        first = ["--stage", "4", "--pretrained_codec", self.system.codec] if self.system.codec else ["--stage", "5"]
        words = ["./run.sh", *first, "--stop_stage", "5", "--train_acoustic", "true", "--expdir", str(self.codec_run),
                 "--units_exp", str(BASE_RUN / "units"), "--codec_exp", str(self.codec_run / "codec"),
                 "--tokendir", str(self.tokens), "--test_sets", TEST]
        return words + (["--cmd", self.cmd] if self.cmd else []), self.tokens / TRAIN / "codec.scp"

    def thin_call(self) -> list[str] | None:
        """The command that takes every k-th unit of the base run; None if the system takes all."""
        if self.system.unit_every == 1:
            return None
        sets = [TRAIN, DEV, *self.system.test_sets.split()]
        return ["python", "-m", "audiopalm.bin.thin_tokens", "--tokens", *(str(TOKENS / name) for name in sets),
                "--output", *(str(self.tokens / name) for name in sets), "--every", str(self.system.unit_every)]

    def first_call(self) -> list[str] | None:
        """The call of run.sh up to stage 7; None if the system begins later."""
        system = self.system
        if system.first > 7:
            return None
        units = self.folder / "units" if system.first == 3 else self.provider(3) / "units"
        words = self._call(system.first, min(system.last, 7), "4", units)
        if system.first == 3:
            words += ["--train_units", "true", "--train_acoustic", "true", "--units_config", system.units_config,
                      "--units_args", system.units_args, "--tokenize_args", "--codec_tokens false"]
        words += ["--init_lm", system.init_lm] if system.init_lm else []
        return words + (["--textlm_args", system.textlm_args] if system.textlm_args else [])

    def budget_call(self) -> list[str] | None:
        """The command that computes the steps of stage 8; None if the system has none."""
        if not self.system.mixture:
            return None
        budget = self.design.budgets[self.system.budget]
        return ["python", "-m", "audiopalm.bin.budget", "--config", str(self.folder / "lm.yaml"),
                "--vocabulary", str(self.folder / "vocabulary"), "--data_dir", str(RAW / TRAIN),
                "--tokens", str(self.tokens / TRAIN), "--budget", str(budget.tokens),
                "--tasks", " ".join(budget.tasks), "--targets", " ".join(budget.targets), "--seed", str(self.seed),
                "--output", str(self.folder / BUDGET), *self.all_lm_args.split()]

    def last_call(self) -> list[str] | None:
        """The call of run.sh from stage 8 on; None if the system ends before. It reads the steps of `budget_call`."""
        system = self.system
        if system.last < 8:
            return None
        skipped = [str(stage) for stage in (9, 10, 11) if not makes(system, stage)]
        words = self._call(max(system.first, 8), system.last, " ".join(skipped), self.provider(3) / "units")
        seed = self.seed
        if system.mixture:
            steps = read_json(self.folder / BUDGET)["steps"]
            words += ["--lm_config", str(self.folder / "lm.yaml"),
                      "--lm_args", f"{self.all_lm_args} training.steps={steps}"]
        if system.acoustic_config:
            words += ["--train_acoustic", "true", "--acoustic_config", system.acoustic_config]
        if makes(system, 11):
            words += ["--synthesize_args", system.synthesize_args]
            seed = read_json(BASE_RUN / "lm" / "config.json", "./run.sh")["seed"]  # of the model that decoded
        if makes(system, 10):
            words += ["--decode_config", system.decode_config or "conf/tables/decode.yaml"]
        forgetting = f"--forgetting {FORGETTING}" if system.mixture else ""
        score = [f"--recipe mini-{system.name} --processes 1 --seed {seed}", forgetting, system.score_args]
        return [*words, "--score_args", " ".join(filter(None, score))]

    def _call(self, first: int, last: int, skipped: str, units: Path) -> list[str]:
        words = ["./run.sh", "--stage", str(first), "--stop_stage", str(last), "--skip_stages", skipped,
                 "--seed", str(self.seed), "--expdir", str(self.folder), "--codec_exp", str(self.codec_run / "codec"),
                 "--units_exp", str(units), "--tokendir", str(self.tokens), "--test_sets", self.system.test_sets,
                 "--text_sets", ""]
        return words + (["--cmd", self.cmd] if self.cmd else [])

    def commands(self) -> list[str]:
        """The commands that made the finished run."""
        calls = [self.thin_call(), self.first_call(), self.budget_call(), self.last_call()]
        return [shlex.join(call) for call in calls if call is not None]
