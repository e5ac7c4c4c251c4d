"""The jobs of stage 2: write sources, or cuts of them joined in order, as 16 kHz mono files or archives."""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import atomic_path
from audiopalm.core.partials import partial_path
from audiopalm.data.audio import SAMPLE_RATE, DamagedAudio, finite, read_audio
from audiopalm.data.audio_archive import SETTINGS, open_audio, write_audio_ark
from audiopalm.stages.audio_store import write_index
from audiopalm.stages.jobs import Result, work


@dataclass(frozen=True)
class SpeechFile:
    """A recording to write: all of the source `path`, or `cuts` (path, start, end in seconds) joined in order.

    A source that ends in `|` is a command whose output is the file. It is run only if the user allows it (--pipes).
    """

    name: str
    path: str
    cuts: list[tuple[str, float, float]]


@dataclass(frozen=True)
class SpeechArchive:
    """An archive to write, `<stem>.ark`, of the recordings `files` (fields of SpeechFile)."""

    stem: str
    files: list[dict]


@dataclass(frozen=True)
class WrittenAudio(Result):
    """The number of written recordings, and {name: reason} of recordings with damaged sources.

    Any other fault is the `error`.
    """

    written: int = 0
    damaged: dict[str, str] = field(default_factory=dict)


def read_source(path: str) -> np.ndarray:
    """Samples `[T]` float32 at 16 kHz of a file, of an entry of an archive, or of the output of a command.

    Raises DamagedAudio for audio that cannot be decoded and AudioPaLMError for a command that fails.
    """
    if not path.endswith("|"):
        return read_audio(path)
    command = path[:-1].strip()
    ended = subprocess.run(["bash", "-o", "pipefail", "-c", command], stdin=subprocess.DEVNULL, capture_output=True)
    if ended.returncode != 0:
        reason = (ended.stderr.decode(errors="replace").strip().splitlines() or ["no message"])[-1]
        raise AudioPaLMError(f"the command {command!r} of wav.scp failed with exit code {ended.returncode}: {reason}")
    try:
        return read_audio(ended.stdout)
    except DamagedAudio as error:
        raise DamagedAudio(f"of the command {command!r}", error.reason) from None


@lru_cache(maxsize=2)
def decoded(path: str) -> np.ndarray:
    """`read_source` with a cache of two sources."""
    return read_source(path)


@lru_cache(maxsize=1000)
def read_cut(path: str, start: float, end: float) -> np.ndarray:
    """Samples `[T]` float32 at 16 kHz from `start` to `end` seconds of a source.

    Composed sentences repeat cuts, so the cuts are cached. Raises AudioPaLMError if the cut lies outside its recording,
    and as `read_source` does.
    """
    first, last = round(start * SAMPLE_RATE), round(end * SAMPLE_RATE)
    if not path.endswith("|"):
        try:
            with open_audio(path) as stream, soundfile.SoundFile(stream) as file:
                if (file.samplerate, file.channels) == (SAMPLE_RATE, 1) and 0 <= first < last <= file.frames:
                    file.seek(first)
                    return finite(file.read(last - first, dtype="float32"), path)
        except soundfile.LibsndfileError:
            pass  # `decoded` reads the whole file and raises an error with the reason
    source = decoded(path)
    if not 0 <= first < last <= len(source):
        raise AudioPaLMError(f"audio {path}: cut {start} to {end} s lies outside its {len(source) / SAMPLE_RATE} s")
    return source[first:last]


def read_speech_file(speech: SpeechFile) -> np.ndarray:
    """The samples `[T]` float32 at 16 kHz of a recording."""
    return np.concatenate([read_cut(*cut) for cut in speech.cuts]) if speech.cuts else read_source(speech.path)


def write_file(speech: SpeechFile, folder: Path, audio_format: str) -> WrittenAudio:
    """Write one file into `folder`. An error is returned as a result, so that the stage reports the error of any job.
    """
    target = folder / f"{speech.name}.{audio_format}"
    temporary = partial_path(target)
    try:
        # No fsync: if a crash empties the file, a rerun of the stage sees that it has no samples and writes it again.
        soundfile.write(str(temporary), np.clip(read_speech_file(speech), -1, 1), SAMPLE_RATE, **SETTINGS[audio_format])
        os.replace(temporary, target)
    except DamagedAudio as error:
        return WrittenAudio(damaged={speech.name: error.reason})
    except AudioPaLMError as error:
        return WrittenAudio(error=str(error))
    finally:
        temporary.unlink(missing_ok=True)
    return WrittenAudio(written=1)


def write_archive(archive: SpeechArchive, folder: Path) -> WrittenAudio:
    """Write an archive into `folder`, then its index. An error is returned as a result."""
    damaged: dict[str, str] = {}

    def sound() -> Iterator[tuple[str, np.ndarray]]:
        for values in archive.files:
            speech = SpeechFile(**values)
            try:
                yield speech.name, read_speech_file(speech)
            except DamagedAudio as error:
                damaged[speech.name] = error.reason

    path = folder / f"{archive.stem}.ark"
    try:
        with atomic_path(path) as partial:
            entries = {name: [offset, samples] for name, offset, samples
                       in write_audio_ark(partial, sound(), SAMPLE_RATE)}
    except AudioPaLMError as error:
        return WrittenAudio(error=str(error))
    write_index(path, entries, damaged)
    return WrittenAudio(written=len(entries), damaged=damaged)


def write_audio_files(todo: Path, done: Path, audio_dir: Path, audio_format: str) -> None:
    """Write the files or archives of a job into `audio_dir`; audiopalm/stages/jobs.py explains `todo` and `done`."""
    if audio_format == "flac.ark":
        work(todo, done, SpeechArchive, lambda archive: write_archive(archive, audio_dir))
    else:
        work(todo, done, SpeechFile, lambda speech: write_file(speech, audio_dir, audio_format))
