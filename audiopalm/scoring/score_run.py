"""Stage 12: the rows of results.json for one run, that is, for all sets that one model has decoded."""

import logging
import platform
import subprocess
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import audiopalm
from audiopalm.core.errors import AudioPaLMError
from audiopalm.scoring.decodes import TestSet, sets_of
from audiopalm.scoring.forgetting import Models, forgetting_rows
from audiopalm.scoring.judge import judge_signature
from audiopalm.scoring.results import ResultRow
from audiopalm.scoring.score_set import Run, score_set
from audiopalm.scoring.speaker_encoder import OnnxSpeakerEncoder, Resemblyzer, SpeakerEncoder
from audiopalm.scoring.unit_rows import unit_rows
from audiopalm.stages.decode_record import DECODE


@dataclass(frozen=True)
class ScoreOptions:
    """The inputs and settings of a scoring. The fields are the options of the command of stage 12.

    speaker_encoder: a second encoder of voices, an ONNX file (`audiopalm.scoring.speaker_encoder`).
    forgetting: the number of texts of each language and test set that the text LM (`text_lm`) and the model (`lm`)
    translate, to measure what the model has forgotten; 0 for none.

    Transcripts and speaker embeddings are cached in `output` by the content of the audio. A second call computes only
    those of new audio.
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
    speaker_encoder: Path | None = None
    dnsmos: int = 0
    forgetting: int = 0
    vocabulary: Path | None = None
    text_lm: Path | None = None
    lm: Path | None = None
    processes: int = 2
    seed: int = 0


def score_run(options: ScoreOptions) -> list[ResultRow]:
    """The rows of the units of stage 3, then those of `options.sets`, or of all decoded sets if none is named.

    Raises AudioPaLMError if the decodes are not those that stage 10 made last, or were made by several models.
    """
    encoders: list[SpeakerEncoder] = [Resemblyzer()]
    if options.speaker_encoder is not None:
        encoders.append(OnnxSpeakerEncoder(options.speaker_encoder))
    settings = Run(options.recipe, options.seed, code_version(), options.output, parse_judges(options.judges),
                   options.processes, options.translations, options.recognition, options.speech, tuple(encoders),
                   options.dnsmos)
    names = options.sets.split() or sets_of(options.decode_dir)
    test_sets = [TestSet(options.decode_dir, options.data_dir, name) for name in names]
    _check_models(test_sets, options.seed)
    rows = unit_rows(options.units, options.recipe, options.seed, settings.code) if options.units else []
    for test_set in test_sets:
        rows += score_set(test_set, settings)
        logging.info("%s: %d decodes scored", test_set.name, len(test_set.decodes))
    if options.forgetting:
        if options.vocabulary is None or options.text_lm is None or options.lm is None:
            raise AudioPaLMError("--forgetting needs --vocabulary, --text_lm and --lm")
        models = Models(options.vocabulary, options.text_lm, options.lm)
        for name in names:
            if name.startswith("test") and "_robust_" not in name:  # distorted copies have the texts of their set
                rows += forgetting_rows(models, options.data_dir / name, options.forgetting, options.recipe,
                                        options.seed, settings.code, options.translations)
    return rows


def _check_models(test_sets: list[TestSet], seed: int) -> None:
    """Raise AudioPaLMError if the sets were decoded by several models, or by a model of another seed."""
    models: dict[str, str] = {}  # SHA-256 of a model -> the first set that it decoded
    for test_set in test_sets:
        for decode in test_set.decodes:
            models.setdefault(decode.meta["model_sha256"], test_set.name)
            trained = decode.meta.get("model_seed", seed)
            if trained != seed:
                raise AudioPaLMError(f"{test_set.decode_dir} was decoded by a model of seed {trained}, not {seed}; "
                                     f"give --seed {trained} or run {DECODE} again")
    if len(models) > 1:
        (model, first), (other, second) = list(models.items())[:2]
        raise AudioPaLMError(f"the decodes of {first} and of {second} are of different models, {model:.16} and "
                             f"{other:.16}; run {DECODE} again for all sets, or give --sets")


def parse_judges(text: str) -> dict[str, int | None]:
    """`moonshine pocketsphinx:40` -> {"moonshine": None, "pocketsphinx": 40}: {judge: utterances, or None for all}.

    Raises AudioPaLMError for an unknown or unusable judge and for a count that is not a positive number.
    """
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
    """The versions of the package (with its git commit), of Python and of torch."""
    folder = Path(audiopalm.__file__).resolve().parent
    try:
        asked = subprocess.run(["git", "rev-parse", "--show-toplevel", "--short=10", "HEAD"], cwd=folder,
                               capture_output=True, text=True)
        root, head = asked.stdout.split("\n")[:2] if asked.returncode == 0 else ("", "")
    except FileNotFoundError:  # git is not installed
        root = head = ""
    # An installed package may lie in the repository of another project.
    commit = head if root and Path(root).resolve() == folder.parent else "no git"
    return (f"audiopalm {audiopalm.__version__} ({commit}), Python {platform.python_version()}, "
            f"torch {version('torch')}")
