"""Stage 2 as tests call it: the audio of one set by jobs on this machine, then its tables."""

from pathlib import Path

from audiopalm.data.segments import all_speech
from audiopalm.stages.format_audio import format_directory, make_audio
from audiopalm.stages.jobs import Launcher


def make_files(directory: Path, audio: Path, jobs: int = 1) -> tuple[int, dict[str, str]]:
    """Number of new FLAC files, and {name: reason} of those with damaged audio."""
    speeches = (speech for table in all_speech(directory).values() for speech in table.values())
    return make_audio(speeches, audio, Launcher("run.pl", jobs, audio / "jobs"))


def format_set(directory: Path, output: Path, audio: Path, **limits: float) -> dict:
    """The report of the set; the files go to the folder `audio`."""
    return format_directory(directory, output, audio, make_files(directory, audio)[1], **limits)
