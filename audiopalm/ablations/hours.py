"""The hours that the missing runs of a design take, from the seconds that the base run and finished runs took here.

If another seed of a system is finished, a run takes as long as that seed took. Otherwise each stage takes the seconds
of the base run (`exp/log/stage<N>.log`). Trainings of language models are scaled by steps, by tokens of a step and by
weights of the model. Seconds that the base run does not have, such as those of a training of units, are in `timing` of
the design.
"""

import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from audiopalm.ablations.design import Design, System
from audiopalm.ablations.recipe_calls import BASE_RUN, RAW, TOKENS, TRAIN, SystemRun, makes
from audiopalm.core.config import apply_overrides, from_dict, load_config, to_dict
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import read_json, require
from audiopalm.lm.budget import tokens_per_batch
from audiopalm.lm.estimate import Device, estimate
from audiopalm.lm.huggingface.pretrained import read_config
from audiopalm.lm.mixture import Mixture
from audiopalm.lm.model import ModelConfig
from audiopalm.lm.training import LMConfig, LMData, LMInputs, read_data
from audiopalm.report.plots import read_log
from audiopalm.report.results_page import table

SECONDS = re.compile(r"^# exit code 0, ([\d.]+) s", re.M)


class Timer:
    """Estimates for the runs of a design. Raises AudioPaLMError without a finished base run."""

    def __init__(self, design: Design) -> None:
        self.design = design
        require(BASE_RUN / "lm" / "model.safetensors", "./run.sh")
        data, tokens = RAW / TRAIN, TOKENS / TRAIN
        self.data: LMData = read_data(LMInputs(BASE_RUN / "vocabulary", data, data, tokens, tokens))
        self.base = ModelConfig(**read_json(BASE_RUN / "lm" / "config.json")["model"])
        self.sources: dict[str, str] = {}

    def seconds(self, run: SystemRun) -> float:
        """The seconds of a run that is not finished."""
        finished = [path for path in sorted(run.expdir.glob(f"{run.system.name}_seed*"))
                    if (path / run.product.relative_to(run.folder)).exists()]
        if finished:
            self.sources[run.system.name] = f"{finished[0]}/log"
            return sum(_logged(path) for path in finished[0].glob("log/stage*.log"))
        system, stages = run.system, range(run.system.first, run.system.last + 1)
        self.sources[system.name] = "exp/log"
        return sum(getattr(self, f"_stage_{stage}", self._logged_stage)(run, stage) for stage in stages
                   if stage != 4 and (stage not in (9, 10, 11) or makes(system, stage)))

    def _logged_stage(self, run: SystemRun, stage: int) -> float:
        return _logged(BASE_RUN / "log" / f"stage{stage}.log")

    def _timing(self, key: str) -> float:
        if key not in self.design.timing:
            raise AudioPaLMError(f"the design has no seconds for {key}; add them to `timing`")
        return self.design.timing[key]

    def _stage_3(self, run: SystemRun, stage: int) -> float:
        return self._timing(run.system.units_config)

    def _stage_9(self, run: SystemRun, stage: int) -> float:
        return self._timing(run.system.acoustic_config)

    def _stage_12(self, run: SystemRun, stage: int) -> float:
        return self._logged_stage(run, stage) if makes(run.system, 11) else self._timing("scores of texts")

    def _stage_7(self, run: SystemRun, stage: int) -> float:
        if run.system.init_lm:
            return self._timing("import of a text LM")
        default = load_config(LMConfig, "conf/textlm.yaml")
        config = load_config(LMConfig, "conf/textlm.yaml", run.system.textlm_args.split())
        return (_trained(BASE_RUN / "textlm") * config.training.steps / default.training.steps
                * _parameters(self._shape(run.system)) / _parameters(self.base))

    def _stage_8(self, run: SystemRun, stage: int) -> float:
        config = lm_config(run)
        per_step = config.batch.rows * config.batch.row_length * config.training.micro_batches
        base = read_json(BASE_RUN / "lm" / "training.json")["made_from"]["config"]
        base_tokens = (base["batch"]["rows"] * base["batch"]["row_length"] * base["training"]["micro_batches"]
                       * base["training"]["steps"])
        return (_trained(BASE_RUN / "lm") * self.steps(run) * per_step / base_tokens
                * _parameters(self._shape(run.system)) / _parameters(self.base))

    def steps(self, run: SystemRun) -> float:
        """The steps of stage 8, estimated with the text tokenizer and the units of the base run."""
        config, budget = lm_config(run), self.design.budgets[run.system.budget]
        mixture: Mixture = self.data.mixture(config, self.data.examples, run.seed)  # of units at the full rate
        counted = np.array([(not budget.tasks or cell.task.name in budget.tasks)
                            and (not budget.targets or cell.target in budget.targets) for cell in mixture.cells])
        return float(budget.tokens / tokens_per_batch(mixture)[counted].sum() / config.training.micro_batches)

    def _shape(self, system: System) -> ModelConfig:
        """The shape of the joint LM that stage 8 trains."""
        audio = self.data.vocabulary.audio_size
        trainer = next((before for before in reversed(self.design.chain(system.name)) if makes(before, 7)), None)
        if trainer is None:
            return self.base
        if trainer.init_lm:
            shape = read_config(Path(trainer.init_lm))
            shape.vocabulary_size += audio
            layers = re.search(r"--layers (\d+)", trainer.textlm_args)
            shape.layers = int(layers[1]) if layers else shape.layers
            return shape
        config = load_config(LMConfig, "conf/textlm.yaml", trainer.textlm_args.split())
        return ModelConfig(self.data.vocabulary.text_size + audio, **to_dict(config.model))


def lm_config(run: SystemRun) -> LMConfig:
    """The configuration of stage 8 of a run, without its steps."""
    mixture = [to_dict(entry) for entry in run.design.mixtures[run.system.mixture]]
    return from_dict(LMConfig, apply_overrides({"mixture": mixture}, run.all_lm_args.split()), run.system.name)


def hours_table(design: Design, runs: Iterable[SystemRun], parallel: int) -> str:
    """A Markdown table of the systems with runs that are not finished: runs, minutes of a run, hours in all."""
    with _without_warnings():  # the trainings themselves will name the utterances that do not fit
        return _hours_table(design, runs, parallel)


@contextmanager
def _without_warnings() -> Iterator[None]:
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _hours_table(design: Design, runs: Iterable[SystemRun], parallel: int) -> str:
    timer = Timer(design)
    of_system: dict[str, list[SystemRun]] = {}
    for run in runs:
        if not run.product.exists():
            of_system.setdefault(run.system.name, []).append(run)
    lines, total = [], 0.0
    for name, missing in of_system.items():
        seconds = timer.seconds(missing[0])
        steps = f"{timer.steps(missing[0]):.0f}" if missing[0].system.mixture else ""
        total += seconds * len(missing)
        lines.append([f"`{name}`", str(len(missing)), steps, f"{seconds / 60:.1f}",
                      f"{seconds * len(missing) / 3600:.1f}", timer.sources[name]])
    shown = table(["system", "runs", "steps of stage 8", "minutes each", "hours", "measured in"], lines)
    number = sum(len(missing) for missing in of_system.values())
    return (f"{shown}\n\n{number} runs take {total / 3600:.1f} hours one after another"
            + (f", at least {total / 3600 / parallel:.1f} hours {parallel} at a time" if parallel > 1 else "")
            + ". Seconds of trainings that the base run does not have are those of `timing` in the design.")


def _logged(log: Path) -> float:
    """The seconds of all commands of a log that succeeded. Raises AudioPaLMError if there is no such log."""
    return sum(map(float, SECONDS.findall(require(log, "./run.sh").read_text(encoding="utf-8"))))


def _trained(folder: Path) -> float:
    """The seconds of a finished training."""
    return float(read_log(require(folder / "log.jsonl", "./run.sh"))[-1]["seconds"])


def _parameters(shape: ModelConfig) -> int:
    return estimate(shape, LMConfig([]), Device()).parameters
