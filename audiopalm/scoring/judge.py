"""Independent ASR judges of English, and their transcripts cached by the content of the audio file.

A judge is one of JUDGES, or any Whisper or CTC model in Hugging Face's layout, by its folder or hub id.

Judges lose the first and last sound of a tightly cut file: 0.3 s of silence on both sides takes Moonshine's WER on 60
true English recordings from 0.21 to 0.05. So every file gets it, true recordings and model output alike, for every
judge.
"""

import logging
import multiprocessing
import re
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Protocol

import numpy as np

from audiopalm.core.errors import AudioPaLMError, nearest
from audiopalm.core.files import read_json, sha256, write_json
from audiopalm.core.hub import find_pretrained
from audiopalm.core.processes import end_worker_with_parent
from audiopalm.core.progress import progress
from audiopalm.data.audio import SAMPLE_RATE, read_audio
from audiopalm.data.audio_archive import audio_exists, hash_audio

PAD_SECONDS = 0.3
SILENCE = 1e-4  # of full scale
SAVE_EVERY = 50  # files between two writes of the cache


class Judge(Protocol):
    """Speech `[T]` float32 at 16 kHz -> its transcript as the judge writes it, which no earlier speech may change."""

    package: str
    settings: str  # of the signature: what else makes a transcript; may be empty

    def transcribe(self, samples: np.ndarray) -> str: ...


class Moonshine:
    """Moonshine tiny-en, packaged in moonshine-voice 0.0.73 (MIT).

    Without its voice activity detector, which keeps a state from file to file: of 60 files, 17 were heard otherwise in
    another order. But the model alone loops on speech of half a minute and more, so that is cut.
    """

    package = "moonshine-voice"
    settings = "no voice activity detector, cut to 20 s"

    def __init__(self) -> None:
        from moonshine_voice import ModelArch, Transcriber, get_assets_path

        self.transcriber = Transcriber(f"{get_assets_path()}/tiny-en", ModelArch.TINY,
                                       options={"return_audio_data": "false", "vad_threshold": "0"})

    def transcribe(self, samples: np.ndarray) -> str:
        if np.abs(samples).max() < SILENCE:
            return ""  # it would write "You"
        lines = [line.text for piece in cut(samples, 20 * SAMPLE_RATE)
                 for line in self.transcriber.transcribe_without_streaming(piece.tolist(), SAMPLE_RATE).lines]
        return " ".join(" ".join(lines).split())


def cut(samples: np.ndarray, longest: int) -> list[np.ndarray]:
    """Pieces `[<= longest]` of speech `[T]`, cut at the quietest 0.1 s of the second half of what one may be."""
    pieces = []
    while len(samples) > longest:
        frame = SAMPLE_RATE // 10
        energies = np.square(samples[longest // 2:longest // frame * frame]).reshape(-1, frame).sum(1)
        end = longest // 2 + int(energies.argmin()) * frame + frame // 2
        pieces.append(samples[:end])
        samples = samples[end:]
    return [*pieces, samples]


class Pocketsphinx:
    """PocketSphinx with its en-us model (BSD): weak, but of an entirely different make."""

    package = "pocketsphinx"
    settings = ""

    def __init__(self) -> None:
        from pocketsphinx import Decoder

        self.decoder = Decoder(samprate=SAMPLE_RATE, loglevel="FATAL")

    def transcribe(self, samples: np.ndarray) -> str:
        self.decoder.start_utt()
        self.decoder.process_raw((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes(), full_utt=True)
        self.decoder.end_utt()
        found = self.decoder.hyp()
        return found.hypstr if found else ""


class Transformers:
    """Any Whisper or CTC model that transformers loads, greedily."""

    package = "transformers"
    settings = ""

    def __init__(self, name: str) -> None:
        from transformers import pipeline

        self.pipeline = pipeline("automatic-speech-recognition", model=str(_folder(name)), device="cpu")
        kind = type(self.pipeline.model).__name__
        if not kind.endswith("ForCTC") and not kind.startswith("Whisper"):
            raise AudioPaLMError(f"the judge {name!r} cannot run: it is a {kind}, not a Whisper or CTC model; take "
                                 "another --judges")
        settings = getattr(self.pipeline.model, "generation_config", None)
        several = getattr(settings, "is_multilingual", False)
        self.arguments = {"generate_kwargs": {"language": "en", "task": "transcribe"}} if several else {}

    def transcribe(self, samples: np.ndarray) -> str:
        speech = {"raw": samples.astype(np.float32), "sampling_rate": SAMPLE_RATE}
        return " ".join(self.pipeline(speech, **self.arguments)["text"].split())


JUDGES: dict[str, type[Judge]] = {"moonshine": Moonshine, "pocketsphinx": Pocketsphinx}


def short_name(name: str) -> str:
    """The name of a judge without the path to its folder; a hub id stays whole."""
    return Path(name).resolve().name if Path(name).is_dir() else name


def file_name(name: str) -> str:
    """For files of a judge: `openai/whisper-tiny` -> `openai_whisper-tiny`."""
    return re.sub(r"[^\w.-]+", "_", short_name(name))


@cache
def _folder(name: str) -> Path:
    return find_pretrained(name)


@cache
def _model_hash(name: str) -> str:
    weights = sorted(_folder(name).glob("*.safetensors"))
    if not weights:
        raise AudioPaLMError(f"the judge {name!r} has no *.safetensors in {_folder(name)}")
    return sha256(weights[0] if len(weights) == 1 else _folder(name) / "model.safetensors.index.json")[:16]


def judge_signature(name: str) -> str:
    """`pocketsphinx 5.1.1, 0.3 s silence around`, also what a judge's settings are, of a model its hash.

    Raises AudioPaLMError for an unknown judge, a missing package, or a model that is not there.
    """
    own = name not in JUDGES
    if own and "/" not in name and not Path(name).is_dir():
        raise AudioPaLMError(f"unknown judge {name!r}, and no folder or hub id of a model; {nearest(name, JUDGES)}")
    judge = Transformers if own else JUDGES[name]
    try:
        found = f"{judge.package} {version(judge.package)}"
    except PackageNotFoundError:
        raise AudioPaLMError(f"the judge {name!r} needs the package {judge.package}; run tools/setup.sh") from None
    if own:
        found = f"{short_name(name)}, {found}, model {_model_hash(name)}"
    return ", ".join(filter(None, [found, judge.settings, f"{PAD_SECONDS} s silence around"]))


def transcribe(name: str, files: Mapping[str, str], cache_dir: str | Path, processes: int = 2) -> dict[str, str]:
    """{utterance: audio path} -> {utterance: transcript} by the judge `name`.

    Transcripts are kept in `cache_dir` by judge and SHA-256 of the file: a file is judged once, whoever asks.
    """
    signature = judge_signature(name)
    path = Path(cache_dir) / f"{file_name(name)}.json"
    cached = read_json(path) if path.exists() else {}
    if cached.get("signature") != signature:
        cached = {"signature": signature, "transcripts": {}}
    known: dict[str, str] = cached["transcripts"]
    hashes = {utterance: hash_audio(_existing(file)) for utterance, file in files.items()}
    missing = {digest: files[utterance] for utterance, digest in hashes.items() if digest not in known}
    heard = _hear(name, missing.values(), processes)
    for count, (digest, text) in enumerate(zip(missing, progress(heard, len(missing), f"judging by {short_name(name)}"),
                                               strict=True), start=1):
        known[digest] = text
        if count % SAVE_EVERY == 0 or count == len(missing):
            write_json(path, cached)
    if missing:
        logging.info("%s: judged %d files, %d were known", name, len(missing), len(set(hashes.values())) - len(missing))
    return {utterance: known[digest] for utterance, digest in hashes.items()}


def _existing(file: str) -> str:
    if not audio_exists(file):
        raise AudioPaLMError(f"audio {file} does not exist; run stage 11 (synthesize) first")
    return file


def _hear(name: str, files: Iterable[str], processes: int) -> Iterator[str]:
    """Transcripts in the order of `files`; a few files are not worth the start of processes.

    A model of transformers uses all cores by itself.
    """
    files = list(files)
    if processes <= 1 or len(files) < 16 or name not in JUDGES:
        _start(name)
        yield from map(_judge_file, files)
        return
    context = multiprocessing.get_context("spawn")  # a forked child may hang on locks of ONNX threads
    with ProcessPoolExecutor(processes, context, initializer=_start_worker, initargs=(name,)) as pool:
        try:
            yield from pool.map(_judge_file, files, chunksize=4)
        except BrokenProcessPool:
            raise AudioPaLMError(f"the judge {name!r} cannot run here: its processes ended at once; try --processes 1, "
                                 "which says why") from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


_judges: dict[str, Judge] = {}  # of this process; loading one takes a second
_current = ""


def _start_worker(name: str) -> None:
    end_worker_with_parent()
    _start(name)


def _start(name: str) -> None:
    global _current
    _current = name
    if name in _judges:
        return
    try:
        _judges[name] = JUDGES[name]() if name in JUDGES else Transformers(name)
    except AudioPaLMError:
        raise
    except Exception as error:  # of its package, its libraries or its model: the same to the user
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise AudioPaLMError(f"the judge {name!r} cannot run: {reason}; take another --judges") from None


def _judge_file(file: str) -> str:
    return _judges[_current].transcribe(np.pad(read_audio(file), round(PAD_SECONDS * SAMPLE_RATE)))
