"""The jobs of stage 2: source files, or cuts of them joined in order, as 16 kHz mono FLAC."""

import os
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.partials import partial_path
from audiopalm.data.audio import SAMPLE_RATE, DamagedAudio, read_audio
from audiopalm.stages.jobs import work

Cuts = list[tuple[str, float, float]]  # source file, start and end in seconds


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


def write_flac(path: str, cuts: Cuts, target: Path) -> dict:
    """Write the speech of `path` (the whole file, or `cuts` of any files) to `target`.

    Returns {"name", "damaged", "error"}: what is wrong with its audio, and what is wrong with anything else; errors are
    results, so that the command says them in one line, whichever job met them.
    """
    result = {"name": target.name, "damaged": "", "error": ""}
    temporary = partial_path(target)
    try:
        samples = np.concatenate([read_cut(*cut) for cut in cuts]) if cuts else read_audio(path)
        # Level 0 packs speech nearly as well as the default at a third of the time. No fsync: a file that a crash
        # empties is found by its missing samples when the stage is run again.
        soundfile.write(str(temporary), np.clip(samples, -1, 1), SAMPLE_RATE, format="FLAC", subtype="PCM_16",
                        compression_level=0)
        os.replace(temporary, target)
    except DamagedAudio as error:
        result["damaged"] = error.reason
    except AudioPaLMError as error:
        result["error"] = str(error)
    finally:
        temporary.unlink(missing_ok=True)
    return result


def write_audio_files(todo: Path, done: Path, audio_dir: Path) -> None:
    """Make the files of a job in `audio_dir`; see audiopalm/stages/jobs.py for `todo` and `done`."""
    def write(item: dict) -> dict:
        return write_flac(item["path"], [tuple(cut) for cut in item["cuts"]], audio_dir / item["name"])

    work(todo, done, write)
