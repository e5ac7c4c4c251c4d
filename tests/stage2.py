"""Stage 2 in this process: the audio of a set by jobs on this machine, then its tables."""

from pathlib import Path

from audiopalm.data.segments import all_speech
from audiopalm.stages.audio_store import AudioStore
from audiopalm.stages.format_audio import Limits, format_directory, make_audio
from audiopalm.stages.jobs import Launcher


def make_files(directory: Path, audio: Path, jobs: int = 1, audio_format: str = "flac") -> tuple[int, dict[str, str]]:
    """(number of new recordings, {name: reason} of damaged recordings)"""
    speeches = (speech for table in all_speech(directory).values() for speech in table.values())
    return make_audio(speeches, AudioStore(audio, audio_format), Launcher("run.pl", jobs, audio / "jobs"))


def format_set(directory: Path, output: Path, audio: Path, audio_format: str = "flac", jobs: int = 1,
               **limits: float) -> dict:
    """The report of the set, whose audio is written to the folder `audio`."""
    damaged = make_files(directory, audio, jobs, audio_format)[1]
    return format_directory(directory, output, AudioStore(audio, audio_format), damaged, Limits(**limits))
