"""The recordings of stage 2 by name: as files or in archives, like ESPnet's `--audio_format`.

An archive `audio.<hash>.ark` is complete if it has an index, `audio.<hash>.json`. The index states the length of the
archive, the offset of each recording, and the recordings whose sources are damaged.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import read_json, write_json
from audiopalm.data.audio import SAMPLE_RATE
from audiopalm.data.audio_archive import audio_info

FORMATS = ("flac", "flac.ark", "wav")
ARCHIVE_FILES = 500  # recordings in an archive; a killed job loses at most this many


class AudioStore:
    """The recordings in `folder`, in one of FORMATS. Raises AudioPaLMError for a damaged index."""

    def __init__(self, folder: Path, audio_format: str = "flac") -> None:
        self.folder, self.format = folder, audio_format
        self.damaged: dict[str, str] = {}  # {name: reason} of the damaged recordings that the archives list
        self._entries: dict[str, tuple[str, int]] = {}
        if self.in_archives:
            self.read_indexes()

    @property
    def in_archives(self) -> bool:
        return self.format.endswith(".ark")

    def read_indexes(self) -> None:
        """Read the indexes of all complete archives."""
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
        """Whether there is a complete archive of this name."""
        return (self.folder / f"{stem}.json").exists() and self._is_whole(self.folder / f"{stem}.ark",
                                                                          read_json(self.folder / f"{stem}.json"))

    def _is_whole(self, archive: Path, index: dict) -> bool:
        return archive.is_file() and archive.stat().st_size == index["bytes"]

    def path(self, name: str) -> str:
        """The entry of an existing recording in wav.scp: its path, or `archive:offset`."""
        return self._entries[name][0] if self.in_archives else str(self.folder / f"{name}.{self.format}")

    def seconds(self, name: str) -> float:
        """The length of a recording; 0 if it is missing or damaged."""
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
    """Write the index of a complete archive.

    entries: {name: [offset in bytes, number of samples]}. damaged: {name: reason} of recordings with damaged sources.
    """
    write_json(archive.with_suffix(".json"), {"bytes": archive.stat().st_size, "entries": entries, "damaged": damaged})


