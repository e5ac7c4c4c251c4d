"""Stage 12: the rows of a run, which are those of all its sets, by one model."""

import logging
import platform
import subprocess
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import audiopalm
from audiopalm.core.errors import AudioPaLMError
from audiopalm.scoring.decodes import DECODE, TestSet, sets_of
from audiopalm.scoring.judge import judge_signature
from audiopalm.scoring.results import ResultRow
from audiopalm.scoring.score_set import Run, score_set
from audiopalm.scoring.unit_rows import unit_rows


@dataclass(frozen=True)
class ScoreOptions:
    """What is scored and how; the fields are the options of the command of stage 12.

    Transcripts and voice embeddings are cached in `output` by the content of the audio, so that a second call judges
    only what is new.
    """

    decode_dir: Path
    data_dir: Path
    output: Path
    recipe: str
    units: Path | None = None
    sets: str = ""
    judges: str = "moonshine"
    translations: str = "basic"
    recognition: str = "basic"
    speech: str = "english"
    dnsmos: int = 0
    processes: int = 2
    seed: int = 0


def score_run(options: ScoreOptions) -> list[ResultRow]:
    """The rows of the sets that were asked for, or of all that were decoded; with those of the units of stage 3.

    Raises AudioPaLMError where the decodes are not what stage 10 made last, or are of several models.
    """
    settings = Run(options.recipe, options.seed, code_version(), options.output, parse_judges(options.judges),
                   options.processes, options.translations, options.recognition, options.speech, options.dnsmos)
    names = options.sets.split() or sets_of(options.decode_dir)
    test_sets = [TestSet(options.decode_dir, options.data_dir, name) for name in names]
    _check_models(test_sets, options.seed)
    rows = unit_rows(options.units, options.recipe, options.seed, settings.code) if options.units else []
    for test_set in test_sets:
        rows += score_set(test_set, settings)
        logging.info("%s: %d decodes scored", test_set.name, len(test_set.decodes))
    return rows


def _check_models(test_sets: list[TestSet], seed: int) -> None:
    """Raise AudioPaLMError where the sets were decoded by several models, or by one of another seed."""
    found: dict[str, str] = {}  # model -> a set that it decoded
    for test_set in test_sets:
        for decode in test_set.decodes:
            found.setdefault(decode.meta["model_sha256"], test_set.name)
            trained = decode.meta.get("model_seed", seed)
            if trained != seed:
                raise AudioPaLMError(f"{test_set.decode_dir} was decoded by a model of seed {trained}, not {seed}; "
                                     f"give --seed {trained} or run {DECODE} again")
    if len(found) > 1:
        (one, first), (other, second) = list(found.items())[:2]
        raise AudioPaLMError(f"the decodes of {first} and of {second} are of different models, {one:.16} and "
                             f"{other:.16}; run {DECODE} again for all sets, or give --sets")


def parse_judges(text: str) -> dict[str, int | None]:
    """`moonshine pocketsphinx:40` -> {"moonshine": None, "pocketsphinx": 40}; raises for one that is not there."""
    judges: dict[str, int | None] = {}
    for word in text.split():
        name, _, count = word.partition(":")
        name = name.rstrip("/")
        judge_signature(name)
        if count and not (count.isdigit() and int(count) > 0):
            raise AudioPaLMError(f"--judges {word!r}: {count!r} is not a number of utterances")
        judges[name] = int(count) if count else None
    return judges


def code_version() -> str:
    """What made the rows: package, git commit, Python, torch."""
    found = subprocess.run(["git", "rev-parse", "--short=10", "HEAD"], cwd=Path(audiopalm.__file__).parent,
                           capture_output=True, text=True)
    commit = found.stdout.strip() if found.returncode == 0 else "no git"
    return (f"audiopalm {audiopalm.__version__} ({commit}), Python {platform.python_version()}, "
            f"torch {version('torch')}")
