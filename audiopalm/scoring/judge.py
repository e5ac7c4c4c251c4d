"""Independent English ASR judges, and their transcripts cached by the content of the audio file.

Moonshine cuts speech by its own voice activity detector, which loses the first and last sound of a tightly cut
file. 0.3 s of silence on both sides took its WER on 150 true composed English recordings from 0.35 to 0.12. So every
file gets it, true recordings and model output alike, for every judge. Nothing is done about its loops on digit
strings: the ceiling on true recordings carries them too.
"""

import logging
import multiprocessing
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Protocol

import numpy as np

from audiopalm.bin.common import progress
from audiopalm.data.audio import SAMPLE_RATE, read_audio
from audiopalm.data.files import read_json, sha256, write_json
from audiopalm.errors import AudioPaLMError, nearest

PAD_SECONDS = 0.3
SAVE_EVERY = 50  # files between two writes of the cache


class Judge(Protocol):
    """Speech `[T]` float32 at 16 kHz -> its transcript as the judge writes it; empty when it hears none."""

    package: str

    def transcribe(self, samples: np.ndarray) -> str: ...


class Moonshine:
    """Moonshine tiny-en, packaged in moonshine-voice 0.0.73 (MIT)."""

    package = "moonshine-voice"

    def __init__(self) -> None:
        from moonshine_voice import ModelArch, Transcriber, get_assets_path

        self.transcriber = Transcriber(f"{get_assets_path()}/tiny-en", ModelArch.TINY,
                                       options={"return_audio_data": "false"})

    def transcribe(self, samples: np.ndarray) -> str:
        lines = self.transcriber.transcribe_without_streaming(samples.tolist(), SAMPLE_RATE).lines
        return " ".join(" ".join(line.text for line in lines).split())


class Pocketsphinx:
    """PocketSphinx with its en-us model (BSD): weak, but of an entirely different make."""

    package = "pocketsphinx"

    def __init__(self) -> None:
        from pocketsphinx import Decoder

        self.decoder = Decoder(samprate=SAMPLE_RATE, loglevel="FATAL")

    def transcribe(self, samples: np.ndarray) -> str:
        self.decoder.start_utt()
        self.decoder.process_raw((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes(), full_utt=True)
        self.decoder.end_utt()
        found = self.decoder.hyp()
        return found.hypstr if found else ""


JUDGES: dict[str, type[Judge]] = {"moonshine": Moonshine, "pocketsphinx": Pocketsphinx}


def judge_signature(name: str) -> str:
    """`moonshine-voice 0.0.73, 0.3 s silence around`; raises AudioPaLMError for an unknown judge or no package."""
    if name not in JUDGES:
        raise AudioPaLMError(f"unknown judge {name!r}; {nearest(name, JUDGES)}")
    package = JUDGES[name].package
    try:
        return f"{package} {version(package)}, {PAD_SECONDS} s silence around"
    except PackageNotFoundError:
        raise AudioPaLMError(f"the judge {name!r} needs the package {package}; run tools/setup.sh") from None


def transcribe(name: str, files: Mapping[str, str], cache_dir: str | Path, processes: int = 2) -> dict[str, str]:
    """{utterance: audio path} -> {utterance: transcript} by the judge `name`.

    Transcripts are kept in `cache_dir` by judge and SHA-256 of the file: a file is judged once, whoever asks.
    """
    signature = judge_signature(name)
    path = Path(cache_dir) / f"{name}.json"
    cached = read_json(path) if path.exists() else {}
    if cached.get("signature") != signature:
        cached = {"signature": signature, "transcripts": {}}
    known: dict[str, str] = cached["transcripts"]
    hashes = {utterance: sha256(_existing(file)) for utterance, file in files.items()}
    missing = {digest: files[utterance] for utterance, digest in hashes.items() if digest not in known}
    heard = _hear(name, missing.values(), processes)
    for count, (digest, text) in enumerate(zip(missing, progress(heard, len(missing), f"judging by {name}"),
                                               strict=True), start=1):
        known[digest] = text
        if count % SAVE_EVERY == 0 or count == len(missing):
            write_json(path, cached)
    if missing:
        logging.info("%s: judged %d files, %d were known", name, len(missing), len(set(hashes.values())) - len(missing))
    return {utterance: known[digest] for utterance, digest in hashes.items()}


def _existing(file: str) -> str:
    if not Path(file).is_file():
        raise AudioPaLMError(f"audio {file} does not exist; run stage 11 (synthesize) first")
    return file


def _hear(name: str, files: Iterable[str], processes: int) -> Iterator[str]:
    """Transcripts in the order of `files`; a few files are not worth the start of processes."""
    files = list(files)
    if processes <= 1 or len(files) < 16:
        _start(name)
        yield from map(_judge_file, files)
        return
    context = multiprocessing.get_context("spawn")  # a forked child may hang on locks of ONNX threads
    with ProcessPoolExecutor(processes, context, initializer=_start, initargs=(name,)) as pool:
        try:
            yield from pool.map(_judge_file, files, chunksize=4)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


_judges: dict[str, Judge] = {}  # of this process; loading one takes a second
_current = ""


def _start(name: str) -> None:
    global _current
    _current = name
    if name not in _judges:
        _judges[name] = JUDGES[name]()


def _judge_file(file: str) -> str:
    return _judges[_current].transcribe(np.pad(read_audio(file), round(PAD_SECONDS * SAMPLE_RATE)))
