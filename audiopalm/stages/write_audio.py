"""The jobs of stage 2: source files, or cuts of them joined in order, as 16 kHz mono FLAC."""

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.partials import partial_path
from audiopalm.data.audio import SAMPLE_RATE, DamagedAudio, read_audio
from audiopalm.stages.jobs import Result, work


@dataclass(frozen=True)
class SpeechFile:
    """A FLAC file to write: all of the recording `path`, or `cuts` (path, start, end in seconds) joined in order."""

    name: str
    path: str
    cuts: list[tuple[str, float, float]]


@dataclass(frozen=True)
class WrittenFile(Result):
    """The name of a file, and what is wrong with its audio (empty: nothing). Any other fault is the `error`."""

    name: str = ""
    damaged: str = ""


@lru_cache(maxsize=2)
def decoded(path: str) -> np.ndarray:
    """Samples `[T]` of a whole source file at 16 kHz."""
    return read_audio(path)


@lru_cache(maxsize=1000)
def read_cut(path: str, start: float, end: float) -> np.ndarray:
    """Samples `[T]` from `start` to `end` seconds; the cuts of composed sentences recur, so each is decoded once.

    Raises AudioPaLMError when the cut lies outside its recording.
    """
    first, last = round(start * SAMPLE_RATE), round(end * SAMPLE_RATE)
    try:
        with soundfile.SoundFile(path) as file:
            if (file.samplerate, file.channels) == (SAMPLE_RATE, 1) and 0 <= first < last <= file.frames:
                file.seek(first)
                return file.read(last - first, dtype="float32")
    except soundfile.LibsndfileError:
        pass  # the whole file is read below, and says what is wrong with it
    source = decoded(path)
    if not 0 <= first < last <= len(source):
        raise AudioPaLMError(f"audio {path}: cut {start} to {end} s lies outside its {len(source) / SAMPLE_RATE} s")
    return source[first:last]


def write_flac(speech: SpeechFile, folder: Path) -> WrittenFile:
    """Write one file into `folder`. Errors are results, so that the command reports them, whichever job met them."""
    target = folder / speech.name
    temporary = partial_path(target)
    try:
        samples = np.concatenate([read_cut(*cut) for cut in speech.cuts]) if speech.cuts else read_audio(speech.path)
        # Level 0 packs speech nearly as well as the default at a third of the time. No fsync: a file that a crash
        # empties is found by its missing samples when the stage is run again.
        soundfile.write(str(temporary), np.clip(samples, -1, 1), SAMPLE_RATE, format="FLAC", subtype="PCM_16",
                        compression_level=0)
        os.replace(temporary, target)
    except DamagedAudio as error:
        return WrittenFile(name=speech.name, damaged=error.reason)
    except AudioPaLMError as error:
        return WrittenFile(name=speech.name, error=str(error))
    finally:
        temporary.unlink(missing_ok=True)
    return WrittenFile(name=speech.name)


def write_audio_files(todo: Path, done: Path, audio_dir: Path) -> None:
    """Make the files of a job in `audio_dir`; see audiopalm/stages/jobs.py for `todo` and `done`."""
    work(todo, done, SpeechFile, lambda speech: write_flac(speech, audio_dir))
