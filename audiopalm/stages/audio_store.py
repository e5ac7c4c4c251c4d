"""The speech of stage 2 by its name: a file each, or archives of many, as ESPnet's `--audio_format` says.

An archive `audio.<hash>.ark` is whole when its index `audio.<hash>.json` is there, which states how long it is, where
each recording begins, and which sources of it are damaged.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import read_json, write_json
from audiopalm.data.audio import SAMPLE_RATE
from audiopalm.data.audio_archive import audio_info

FORMATS = ("flac", "flac.ark", "wav")
ARCHIVE_FILES = 500  # recordings in an archive: what a kill loses at most, per job


class AudioStore:
    """The recordings in `folder`, in one of FORMATS. Raises AudioPaLMError for a damaged index."""

    def __init__(self, folder: Path, audio_format: str = "flac"):
        self.folder, self.format = folder, audio_format
        self.damaged: dict[str, str] = {}  # {name: what is wrong with its source}, of archives
        self._entries: dict[str, tuple[str, int]] = {}
        if self.in_archives:
            self.read_indexes()

    @property
    def in_archives(self) -> bool:
        return self.format.endswith(".ark")

    def read_indexes(self) -> None:
        """Learn what the whole archives hold."""
        for path in sorted(self.folder.glob("audio.*.json")):
            index = read_json(path)
            try:
                if self._is_whole(path.with_suffix(".ark"), index):
                    self._entries |= {name: (f"{path.with_suffix('.ark')}:{offset}", samples)
                                      for name, (offset, samples) in index["entries"].items()}
                    self.damaged |= index["damaged"]
            except (KeyError, TypeError, ValueError, AttributeError):
                raise AudioPaLMError(f"{path} is no index of an audio archive; remove it and run stage 2 again"
                                     ) from None

    def has_archive(self, stem: str) -> bool:
        return (self.folder / f"{stem}.json").exists() and self._is_whole(self.folder / f"{stem}.ark",
                                                                          read_json(self.folder / f"{stem}.json"))

    def _is_whole(self, archive: Path, index: dict) -> bool:
        return archive.is_file() and archive.stat().st_size == index["bytes"]

    def path(self, name: str) -> str:
        """What stands in wav.scp for the recording, which exists."""
        return self._entries[name][0] if self.in_archives else str(self.folder / f"{name}.{self.format}")

    def seconds(self, name: str) -> float:
        """Its length; 0 where it is missing or broken."""
        if self.in_archives:
            return self._entries[name][1] / SAMPLE_RATE if name in self._entries else 0.0
        try:
            samples, rate = audio_info(self.path(name))
        except (AudioPaLMError, OSError):
            return 0.0
        return samples / rate


def archive_stem(names: Sequence[str]) -> str:
    """The name of the archive of these recordings, without its suffix."""
    return "audio." + hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]


def write_index(archive: Path, entries: dict[str, list[int]], damaged: dict[str, str]) -> None:
    """Mark an archive as whole: {name: [offset in bytes, samples]}, and {name: reason} of damaged sources."""
    write_json(archive.with_suffix(".json"), {"bytes": archive.stat().st_size, "entries": entries, "damaged": damaged})


