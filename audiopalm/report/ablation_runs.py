"""Train, decode and score the systems of the paper's ablations in small; write tables.json and TABLES.md.

tables.sh runs it in the directory of a recipe whose stages 1 to 10 are finished (the base run). A finished run is not
repeated; an interrupted run resumes.
"""

import logging
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import read_json, require, write_json, write_text
from audiopalm.core.processes import end_with_parent
from audiopalm.report.ablations import AblationRun, Ablations, System, markdown, read_runs, used_rows, write_runs
from audiopalm.scoring.results import read_rows
from audiopalm.stages.decode_record import DECODES, write_record

BASE = Path("exp")  # folder of the base run
DEV, SET = "dev", "test"
SPOKEN = "s2st_es_en"  # the decode of the base run that the acoustic models speak
RESULTS = "results.json"  # of a run, in its folder


@dataclass(frozen=True)
class TableFiles:
    """What the ablations write: `expdir` with a folder for each run, `results` (JSON) and `report` (Markdown)."""

    expdir: Path
    results: Path
    report: Path


def run_ablations(ablations: Ablations, rows: list[str], seeds: list[int], files: TableFiles, lm_args: str,
                  parallel: int) -> None:
    """Run the systems that `rows` of the tables compare (all rows if none is named), each with every seed.

    After each run its scores are added to the results, and the report is written again. Raises AudioPaLMError for an
    unknown row and for the first run that fails.
    """
    wanted = {side.system for comparison in ablations.chosen(rows) for side in comparison.sides}
    systems = [system for system in ablations.systems if system.name in wanted and _is_available(system)]
    lm_args = f"{ablations.lm_args} {lm_args}".strip()
    runs = [Run(system, seed, files.expdir, lm_args) for seed in seeds for system in systems]
    shared = dict(product for run in runs if (product := run.shared()) is not None)
    write = threading.Lock()

    def finish(run: "Run") -> None:
        run.start(launcher)
        with write:
            collect(ablations, run, files)

    with Launcher(parallel) as launcher:
        launcher.all([partial(launcher.run, files.expdir, [command], product) for product, command in shared.items()])
        launcher.all([partial(finish, run) for run in runs])
    logging.info("%d runs are finished: %s", len(runs), files.report)


def _is_available(system: System) -> bool:
    """Whether the recipe has the files of a system; logs a warning if not."""
    for file in (system.lm_config, system.units_config, system.acoustic_config, system.needs):
        if file and not Path(file).exists():
            logging.warning("the system %s is left out: the recipe has no %s", system.name, file)
            return False
    return True


class Run:
    """One system with one seed, in `<expdir>/<system>_seed<N>`."""

    def __init__(self, system: System, seed: int, expdir: Path, lm_args: str) -> None:
        self.system, self.seed, self.lm_args = system, seed, lm_args
        self.folder = expdir / f"{system.name}_seed{seed}"
        # All seeds of a system share its units and their tokens.
        self.units = expdir / system.name if system.units_config else BASE

    def shared(self) -> tuple[Path, list[str]] | None:
        """A product that the runs of all seeds share: the file that marks it, and the call of run.sh that makes it.

        None if the system needs no such product.
        """
        stages = ["./run.sh", "--stop_stage", "5", "--train_acoustic", "true", "--codec_exp", str(BASE / "codec"),
                  "--train_units", "true", "--units_exp", str(self.units / "units")]
        if self.system.units_config:
            tokens = self.units / "tokens"
            return tokens / SET / "units.scp", [
                *stages, "--stage", "3", "--skip_stages", "4", "--expdir", str(self.units), "--tokendir", str(tokens),
                "--test_sets", SET, "--units_config", self.system.units_config,
                "--tokenize_args", "--codec_tokens false"]
        if self.system.acoustic_config:  # the base run needed no codec ids of the train set
            return Path("dump/tokens/train/codec.scp"), [*stages, "--stage", "5"]
        return None

    def commands(self) -> list[list[str]]:
        """The calls of run.sh that train, decode and score the system."""
        folder, system = str(self.folder), self.system
        common = ["--seed", str(self.seed), "--expdir", folder, "--codec_exp", str(BASE / "codec"), "--test_sets", SET]
        score = f"--recipe mini-{system.name} --processes 1"
        if system.acoustic_config:
            seed = read_json(BASE / "lm" / "config.json", "./run.sh")["seed"]  # of the model that decoded
            return [["./run.sh", "--stage", "9", "--stop_stage", "12", "--skip_stages", "10", *common,
                     "--train_acoustic", "true", "--acoustic_config", system.acoustic_config,
                     "--synthesize_args", "",
                     "--score_args", f"{score} --seed {seed}"]]
        first = 6 if system.units_config else 7 if system.textlm_args else 8
        units = ["--units_exp", str(self.units / "units")]
        units += ["--tokendir", str(self.units / "tokens")] if system.units_config else []
        textlm = ["--textlm_args", system.textlm_args] if system.textlm_args else []
        return [["./run.sh", "--stage", str(first), "--stop_stage", "12", "--skip_stages", "9 11", *common, *units,
                 *textlm, "--lm_config", system.lm_config, "--lm_args", self.lm_args,
                 "--decode_config", system.decode_config, "--score_args", score]]

    def start(self, launcher: "Launcher") -> None:
        """Run all commands, up to the scores. Raises AudioPaLMError if the folder belongs to a run with other options.
        """
        commands = [shlex.join(line) for line in self.commands()]
        note = {"system": self.system.name, "seed": self.seed, "commands": commands}
        path = self.folder / "run.json"
        if path.exists() and read_json(path) != note:
            raise AudioPaLMError(f"{self.folder} was begun with other options; remove it, or give another --expdir")
        write_json(path, note)
        self._inherit()
        launcher.run(self.folder, self.commands(), self.folder / RESULTS)

    def _inherit(self) -> None:
        """Link to the folders of the base run that are used as they are, and copy the decodes to be spoken."""
        system = self.system
        if system.acoustic_config:
            for path in (Path("decode", data, SPOKEN, name) for data in (DEV, SET)
                         for name in ("units.scp", "meta.json")):
                if not (self.folder / path).exists():
                    write_text(self.folder / path, require(BASE / path, "./run.sh").read_text(encoding="utf-8"))
            for data in (DEV, SET):
                folder = self.folder / "decode" / data
                write_record(folder, {SPOKEN: read_json(BASE / "decode" / data / DECODES, "./run.sh")[SPOKEN]})
            return
        inherited = [] if system.units_config else ["vocabulary"] if system.textlm_args else ["vocabulary", "textlm"]
        for name in inherited:
            link = self.folder / name
            if not link.exists():
                link.symlink_to(os.path.relpath(require(BASE / name, "./run.sh"), self.folder))


def collect(ablations: Ablations, run: Run, files: TableFiles) -> None:
    """Replace the rows of a finished run in tables.json, and write TABLES.md again."""
    rows = used_rows(ablations.comparisons, run.system.name, read_rows(run.folder / RESULTS))
    others = [other for other in read_runs(files.results) if (other.system, other.seed) != (run.system.name, run.seed)]
    write_runs(files.results, [*others, AblationRun(**read_json(run.folder / "run.json"), rows=rows)])
    write_text(files.report, markdown(ablations, read_runs(files.results)))


class Launcher:
    """Runs commands, `parallel` at a time, with their output in `<folder>/log/run.log`. None outlives this process."""

    def __init__(self, parallel: int) -> None:
        self.parallel = max(parallel, 1)
        self.children: list[subprocess.Popen] = []
        self.stopped = False

    def __enter__(self) -> "Launcher":
        return self

    def __exit__(self, *error: object) -> None:
        self.stopped = True
        for child in self.children:
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
        for child in self.children:
            child.wait()

    def all(self, jobs: list[Callable[[], None]]) -> None:
        """Call every job. If jobs fail, the others continue, and the first failure is raised at the end."""
        with ThreadPoolExecutor(self.parallel) as pool:
            futures = [pool.submit(job) for job in jobs]
            try:
                for future in as_completed(futures):
                    if future.exception() and not self.stopped:
                        logging.error("%s", future.exception())
            except KeyboardInterrupt:
                self.__exit__()
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        for future in futures:
            future.result()

    def run(self, folder: Path, commands: list[list[str]], product: Path) -> None:
        """Run the commands unless `product` exists. Raises AudioPaLMError for a command that fails."""
        if product.exists():
            logging.info("%s is finished", folder)
            return
        environment = {"OMP_NUM_THREADS": str(max(len(os.sched_getaffinity(0)) // self.parallel, 1)),
                       "AUDIOPALM_PYTHON": sys.executable} | os.environ
        log = folder / "log" / "run.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        for command in commands:
            logging.info("%s: %s", folder, shlex.join(command))
            with open(log, "a", encoding="utf-8") as stream:
                child = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, env=environment,
                                         preexec_fn=lambda: end_with_parent(signal.SIGTERM))
                self.children.append(child)
                if child.wait() != 0:
                    raise AudioPaLMError(f"{folder} {'stopped' if self.stopped else 'failed'}; its output is in {log}")
        logging.info("%s is finished", folder)
