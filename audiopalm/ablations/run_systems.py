"""Train, decode and score the systems of the design; write tables.json, TABLES.md and the plots.

tables.sh runs it in the directory of a recipe whose stages 1 to 10 are finished (the base run). A finished run is not
repeated; an interrupted run resumes.
"""

import logging
import math
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from graphlib import TopologicalSorter
from pathlib import Path

from audiopalm.ablations.curves import write_curves
from audiopalm.ablations.design import Comparison, Design, System
from audiopalm.ablations.recipe_calls import BUDGET, RESULTS, TEST, SystemRun
from audiopalm.ablations.runs import Run, draw_figures, read_runs, used_rows, write_runs
from audiopalm.ablations.tables_page import markdown, needed
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import read_json, write_text
from audiopalm.core.processes import end_with_parent
from audiopalm.core.tensors import stored_tensors
from audiopalm.report.plots import read_log
from audiopalm.scoring.results import read_rows

Key = tuple[str, int]  # the system and the seed of a run


@dataclass(frozen=True)
class Outputs:
    """The files that the runs of a recipe are written into: the scores, the page, and the page of plots."""

    results: Path
    report: Path
    plots: Path


def planned_runs(design: Design, comparisons: Iterable[Comparison], seeds: list[int] | None, expdir: Path,
                 lm_args: str = "", cmd: str = "") -> list[SystemRun]:
    """The runs that comparisons need, each after the runs that it starts from.

    seeds: instead of those of the design. Systems that the recipe has no files for are left out, with a warning.
    """
    wanted: dict[tuple[str, int], SystemRun] = {}
    missing = {system.name: missing_files(system) for system in design.systems}
    for comparison in comparisons:
        for side in comparison.sides:
            chain = design.chain(side.system)
            if files := [file for system in chain for file in missing[system.name]]:
                logging.warning("%s: the system %s is left out: it needs %s (docs/tables.md says where from)",
                                comparison.name, side.system, files[0])
                continue
            for system in chain:
                for seed in range(design.seeds_of(comparison)) if seeds is None else seeds:
                    wanted[system.name, seed] = SystemRun(design, system, seed, expdir, lm_args, cmd)
    order = [system.name for system in design.systems]
    return sorted(wanted.values(), key=lambda run: (run.depth, run.seed, order.index(run.system.name)))


def missing_runs(design: Design, runs: list[SystemRun], known: Iterable[Run]) -> list[SystemRun]:
    """Those of `runs` whose scores are not among the runs `known`, and those that they start from."""
    scored = {(run.system, run.seed) for run in known if run.design == design.design}
    missing = [run for run in runs if run.system.last == 12 and (run.system.name, run.seed) not in scored]
    wanted = {(system.name, run.seed) for run in missing for system in design.chain(run.system.name)}
    return [run for run in runs if (run.system.name, run.seed) in wanted]


def missing_files(system: System) -> list[str]:
    """The files that a system needs and the recipe does not have."""
    files = (system.units_config, system.acoustic_config, system.decode_config, system.needs)
    return [file for file in files if file and not Path(file).exists()]


def run_systems(design: Design, runs: list[SystemRun], parallel: int, outputs: Outputs) -> None:
    """Make the runs that are not finished, `parallel` at a time.

    After each run its scores are added to tables.json, and the pages are written again. A run that fails stops those
    that start from it, and no others. Raises AudioPaLMError for a folder that was begun with other settings, before
    anything runs, and for the first run that failed, at the end.
    """
    write = threading.Lock()
    unfinished = {(run.system.name, run.seed) for run in runs}
    for run in runs:
        run.check()
    collect(design, [run for run in runs if run.product.exists()], outputs)

    def finish(run: SystemRun) -> None:
        earlier = design.chain(run.system.name)[:-1]
        lacking = [system.name for system in earlier if (system.name, run.seed) in unfinished]
        if lacking:
            raise AudioPaLMError(f"{run.folder} is left out, because it starts from {lacking[0]}, which failed")
        known = run.product.exists()
        make(run, launcher)
        unfinished.discard((run.system.name, run.seed))
        if not known:
            with write:
                collect(design, [run], outputs)

    with Launcher(parallel) as launcher:
        for run in runs:
            if codec_ids := run.codec_call():
                launcher.run(run.codec_run, *codec_ids)
        keys = {(run.system.name, run.seed) for run in runs}
        errors = launcher.all(
            {(run.system.name, run.seed): partial(finish, run) for run in runs},
            {(run.system.name, run.seed): {(system.name, run.seed) for system in design.chain(run.system.name)[:-1]}
             & keys for run in runs})
    if errors:
        raise errors[0]
    logging.info("%d runs are finished: %s, %s", len(runs), outputs.report, outputs.plots)


def make(run: SystemRun, launcher: "Launcher") -> None:
    """Run all commands of a run, up to its scores, unless it is finished."""
    run.prepare()
    for words, product in ((run.thin_call, run.tokens / TEST / "meta.json"),
                           (run.first_call, run.folder / "textlm" / "model.safetensors"),
                           (run.budget_call, run.folder / BUDGET), (run.last_call, run.product)):
        if run.product.exists():
            break
        call = words()
        if call is not None:
            launcher.run(run.folder, call, product)
    logging.info("%s is finished", run.folder)


def collect(design: Design, finished: list[SystemRun], outputs: Outputs) -> None:
    """Replace the entries of finished runs that have scores in tables.json, and write the pages again."""
    known = {(run.system, run.seed, run.design): run for run in read_runs(outputs.results)}
    for run in finished:
        if run.system.last == 12:
            name = run.system.name
            rows = used_rows(design, name, read_rows(run.folder / RESULTS))
            known[name, run.seed, design.design] = Run(name, run.seed, design.design, run.commands(), rows, cost(run),
                                                       draw_figures(design, name, rows, run.folder / "score"))
    runs = needed(design, list(known.values()))
    write_runs(outputs.results, runs)
    write_pages(design, runs, outputs)


def write_pages(design: Design, runs: list[Run], outputs: Outputs) -> None:
    """Write TABLES.md and the page of plots from the runs of tables.json."""
    write_text(outputs.report, markdown(design, runs))
    write_text(outputs.plots, write_curves(design, runs))


def cost(run: SystemRun) -> dict[str, float]:
    """The steps, tokens, weights and seconds of stage 8 of a finished run; empty if it has none."""
    if not run.system.mixture:
        return {}
    budget, lm = read_json(run.folder / BUDGET), run.folder / "lm"
    _, weights = stored_tensors(lm / "model.safetensors")
    parameters = sum(math.prod(weight.shape) for weight in weights.values())
    return {**{key: budget[key] for key in ("steps", "task_tokens", "tokens")}, "parameters": parameters,
            "seconds": read_log(lm / "log.jsonl")[-1]["seconds"]}


class Launcher:
    """Runs commands, `parallel` at a time, with their output in `<folder>/log/run.log`. None outlives this process."""

    def __init__(self, parallel: int) -> None:
        self.parallel = max(parallel, 1)
        self.children: list[subprocess.Popen] = []
        self.stopped = False
        self.starting = threading.Lock()  # no command starts once `stopped` is true

    def __enter__(self) -> "Launcher":
        return self

    def __exit__(self, *error: object) -> None:
        with self.starting:
            self.stopped = True
        for child in self.children:
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
        for child in self.children:
            child.wait()

    def all(self, jobs: Mapping[Key, Callable[[], None]], after: Mapping[Key, set[Key]]) -> list[BaseException]:
        """Call every job, each as soon as the jobs that it comes `after` have ended; return the errors of those that
        failed."""
        waiting = TopologicalSorter(after)
        waiting.prepare()
        running: dict[Future[None], Key] = {}
        errors: list[BaseException] = []
        with ThreadPoolExecutor(self.parallel) as pool:
            try:
                while waiting.is_active():
                    ready = set(waiting.get_ready())
                    running |= {pool.submit(job): key for key, job in jobs.items() if key in ready}
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        if (error := future.exception()) is not None:
                            errors.append(error)
                            if not self.stopped:
                                logging.error("%s", error)
                        waiting.done(running.pop(future))
            except KeyboardInterrupt:
                self.__exit__()
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        return errors

    def run(self, folder: Path, command: list[str], product: Path) -> None:
        """Run the command unless `product` exists. Raises AudioPaLMError for a command that fails."""
        if product.exists():
            return
        environment = {"OMP_NUM_THREADS": str(max(len(os.sched_getaffinity(0)) // self.parallel, 1)),
                       "AUDIOPALM_PYTHON": sys.executable} | os.environ
        log = folder / "log" / "run.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        words = [sys.executable, *command[1:]] if command[0] == "python" else command
        with open(log, "a", encoding="utf-8") as stream:
            with self.starting:
                if self.stopped:
                    raise AudioPaLMError(f"{folder} was not started")
                logging.info("%s: %s", folder, shlex.join(command))
                child = subprocess.Popen(words, stdout=stream, stderr=subprocess.STDOUT, env=environment,
                                         preexec_fn=lambda: end_with_parent(signal.SIGTERM))
                self.children.append(child)
            if child.wait() != 0:
                raise AudioPaLMError(f"{folder} {'stopped' if self.stopped else 'failed'}; its output is in {log}")
