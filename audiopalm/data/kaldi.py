"""The tables of a Kaldi data directory and their keys.

`wav.scp` is keyed by recording if there is a table `segments`, otherwise by utterance: an utterance and its recording
then have the same id. Translations (`text.en`, `wav.scp.en`, `segments.en`) may lack utterances, but have no others.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from audiopalm.core.errors import AudioPaLMError

BY_UTTERANCE = ("text", "utt2spk", "utt2lang", "utt2dur", "utt2num_frames", "utt2uniq", "feats.scp", "vad.scp")
BY_SPEAKER = ("cmvn.scp", "spk2gender")
BY_RECORDING = ("reco2dur", "reco2file_and_channel")
BY_LANGUAGE = ("text", "wav.scp", "segments")  # followed by .<language>
PATHS = ("wav.scp", "feats.scp", "vad.scp", "cmvn.scp")  # their values name files


@dataclass(frozen=True)
class Tables:
    """Names of the tables that a directory has.

    complete: tables with every utterance; the last one is `wav.scp` or `segments`. partial: tables that may lack
    utterances. speakers: tables keyed by speaker. recordings: tables keyed by recording (`wav.scp` beside `segments`).
    """

    complete: list[str] = field(default_factory=list)
    partial: list[str] = field(default_factory=list)
    speakers: list[str] = field(default_factory=list)
    recordings: list[str] = field(default_factory=list)

    def all(self) -> list[str]:
        """The names of all tables."""
        return [*self.complete, *self.partial, *self.speakers, *self.recordings]


def tables_of(directory: Path, utterance_files: Sequence[str] = (), speaker_files: Sequence[str] = ()) -> Tables:
    """The tables of a directory; `utterance_files` and `speaker_files` name further tables, which may lack ids.

    Raises AudioPaLMError for the name of a further table that leads out of the directory.
    """
    for name in (*utterance_files, *speaker_files):
        if "/" in name or name in ("", ".", ".."):
            raise AudioPaLMError(f"{name!r} is no name of a table of {directory}")

    def there(names: Sequence[str]) -> list[str]:
        return [name for name in names if (directory / name).is_file()]

    segmented = (directory / "segments").is_file()
    by_language = sorted(path.name for name in BY_LANGUAGE for path in directory.glob(f"{name}.*") if path.is_file())
    known = {*BY_UTTERANCE, *BY_SPEAKER, *BY_RECORDING, *by_language, "wav.scp", "segments", "spk2utt"}
    return Tables([*there(BY_UTTERANCE), "segments" if segmented else "wav.scp"],
                  by_language + [name for name in there(utterance_files) if name not in known],
                  there([*BY_SPEAKER, *(name for name in speaker_files if name not in known)]),
                  there([*BY_RECORDING, *(["wav.scp"] if segmented else [])]))
