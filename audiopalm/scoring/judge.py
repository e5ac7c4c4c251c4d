"""Independent ASR models that judge English speech. Their transcripts are cached by the content of the audio file.

A judge is one of JUDGES, or any Whisper or CTC model in Hugging Face's layout, by its folder or hub id.

Judges miss the first and last sound of a tightly cut file: 0.3 s of silence on both sides reduces Moonshine's WER on 60
true English recordings from 0.21 to 0.05. Every file gets this silence, true recordings and model output alike, for
every judge.
"""

import logging
import multiprocessing
import re
from collections.abc import Iterator, Mapping
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

JUDGED_LANGUAGE = "en"
PAD_SECONDS = 0.3
SILENCE = 1e-4  # of full scale
SAVE_EVERY = 50  # files between two writes of the cache


class Judge(Protocol):
    """An ASR model. `transcribe` may not depend on speech that was transcribed earlier."""

    package: str
    settings: str  # further settings that decide the transcripts, for the signature; may be empty

    def transcribe(self, samples: np.ndarray) -> str:
        """Speech `[T]` float32 at 16 kHz -> its transcript as the judge writes it."""
        ...


class Moonshine:
    """Moonshine tiny-en, packaged in moonshine-voice 0.0.73 (MIT).

    Its voice activity detector is off, because it has a state that passes from file to file: 17 of 60 files got another
    transcript in another order. Without the detector the model loops on speech of half a minute and more, so long
    speech is cut.
    """

    package = "moonshine-voice"
    settings = "no voice activity detector, cut to 20 s"

    def __init__(self) -> None:
        from moonshine_voice import ModelArch, Transcriber, get_assets_path

        self.transcriber = Transcriber(f"{get_assets_path()}/tiny-en", ModelArch.TINY,
                                       options={"return_audio_data": "false", "vad_threshold": "0"})

    def transcribe(self, samples: np.ndarray) -> str:
        if np.abs(samples).max() < SILENCE:
            return ""  # Moonshine writes "You" for silence
        lines = [line.text for piece in cut(samples, 20 * SAMPLE_RATE)
                 for line in self.transcriber.transcribe_without_streaming(piece.tolist(), SAMPLE_RATE).lines]
        return " ".join(" ".join(lines).split())


def cut(samples: np.ndarray, longest: int) -> list[np.ndarray]:
    """Cut speech `[T]` into pieces of at most `longest` samples, each at the quietest 0.1 s of its second half."""
    pieces = []
    while len(samples) > longest:
        frame = SAMPLE_RATE // 10
        energies = np.square(samples[longest // 2:longest // frame * frame]).reshape(-1, frame).sum(1)
        end = longest // 2 + int(energies.argmin()) * frame + frame // 2
        pieces.append(samples[:end])
        samples = samples[end:]
    return [*pieces, samples]


class Pocketsphinx:
    """PocketSphinx with its en-us model (BSD): less accurate, but of an entirely different architecture."""

    package = "pocketsphinx"
    settings = ""

    def __init__(self) -> None:
        from pocketsphinx import Decoder

        self.decoder = Decoder(samprate=SAMPLE_RATE, loglevel="FATAL")

    def transcribe(self, samples: np.ndarray) -> str:
        self.decoder.start_utt()
        self.decoder.process_raw((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes(), full_utt=True)
        self.decoder.end_utt()
        hypothesis = self.decoder.hyp()
        return hypothesis.hypstr if hypothesis else ""


class Transformers:
    """Any Whisper or CTC model that transformers loads, with greedy decoding."""

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
        multilingual = getattr(settings, "is_multilingual", False)
        self.is_whisper = kind.startswith("Whisper")
        self.arguments = {"generate_kwargs": {"language": "en", "task": "transcribe"}} if multilingual else {}

    def transcribe(self, samples: np.ndarray) -> str:
        speech = {"raw": samples.astype(np.float32), "sampling_rate": SAMPLE_RATE}
        # Whisper reads 30 s at once. Of longer speech it needs time stamps to know where to go on.
        long = {"return_timestamps": True} if self.is_whisper and len(samples) > 30 * SAMPLE_RATE else {}
        return " ".join(self.pipeline(speech, **self.arguments, **long)["text"].split())


JUDGES: dict[str, type[Judge]] = {"moonshine": Moonshine, "pocketsphinx": Pocketsphinx}


def short_name(name: str) -> str:
    """The name of a judge without the path to its folder; a hub id stays whole."""
    return Path(name).resolve().name if Path(name).is_dir() else name


def file_name(name: str) -> str:
    """The name of a judge in names of files: `openai/whisper-tiny` -> `openai_whisper-tiny`."""
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
    """For example `pocketsphinx 5.1.1, 0.3 s silence around`; also the judge's settings and the hash of a model.

    Raises AudioPaLMError for an unknown judge, a missing package, and a model that cannot be found.
    """
    is_model = name not in JUDGES
    if is_model and "/" not in name and not Path(name).is_dir():
        raise AudioPaLMError(f"unknown judge {name!r}, and no folder or hub id of a model; {nearest(name, JUDGES)}")
    judge = Transformers if is_model else JUDGES[name]
    try:
        package = f"{judge.package} {version(judge.package)}"
    except PackageNotFoundError:
        raise AudioPaLMError(f"the judge {name!r} needs the package {judge.package}; run tools/setup.sh") from None
    if is_model:
        package = f"{short_name(name)}, {package}, model {_model_hash(name)}"
    return ", ".join(filter(None, [package, judge.settings, f"{PAD_SECONDS} s silence around"]))


def transcribe(name: str, files: Mapping[str, str], cache_dir: str | Path, processes: int = 2) -> dict[str, str]:
    """{utterance: audio path} -> {utterance: transcript} by the judge `name`.

    Transcripts are cached in `cache_dir` by judge and SHA-256 of the file, so that each file is transcribed once.
    Raises AudioPaLMError for missing audio and for a judge that cannot run.
    """
    signature = judge_signature(name)
    path = Path(cache_dir) / f"{file_name(name)}.json"
    cached = read_json(path) if path.exists() else {}
    if cached.get("signature") != signature:
        cached = {"signature": signature, "transcripts": {}}
    known: dict[str, str] = cached["transcripts"]
    hashes = {utterance: hash_audio(_existing(file)) for utterance, file in files.items()}
    missing = {digest: files[utterance] for utterance, digest in hashes.items() if digest not in known}
    transcripts = progress(_transcripts(name, list(missing.values()), processes), len(missing),
                           f"judging by {short_name(name)}")
    for count, (digest, text) in enumerate(zip(missing, transcripts, strict=True), start=1):
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


def _transcripts(name: str, files: list[str], processes: int) -> Iterator[str]:
    """The transcripts of `files`, in order.

    Only a judge of JUDGES with 16 files or more gets several processes: for fewer files their start takes longer than
    the work, and a model of transformers uses all cores by itself.
    """
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


_judges: dict[str, Judge] = {}  # the judges that this process has loaded
_current = ""  # the name of the judge that _judge_file uses


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
    except Exception as error:  # the judge's package, its libraries or its model may raise anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise AudioPaLMError(f"the judge {name!r} cannot run: {reason}; take another --judges") from None


def _judge_file(file: str) -> str:
    return _judges[_current].transcribe(np.pad(read_audio(file), round(PAD_SECONDS * SAMPLE_RATE)))
