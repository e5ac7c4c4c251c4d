"""A token archive that is written entry by entry, so that a process that is killed loses no whole entry."""

import os
from pathlib import Path
from types import TracebackType

import kaldiio
import numpy as np

from audiopalm.core.errors import AudioPaLMError
from audiopalm.data.archive import ELEMENT, HEADER, read_at


class GrowingArchive:
    """The entries with the ids `keys`, in this order, in the ark file `path`; a context that closes the file.

    A file that is there already goes on behind its first whole entries with these ids; the rest of it is cut off.
    `len()` is the number of entries that the file holds. Only one process may write the file.
    """

    def __init__(self, path: Path, keys: list[str]):
        self.path, self.keys = path, keys
        self.offsets: list[int] = []  # of the values of each entry, as an scp states them
        self.stream = open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666), "r+b")
        end = 0
        for key in keys:
            name = f"{key} ".encode()
            if os.pread(self.stream.fileno(), len(name), end) != name:
                break
            try:
                tokens = read_at(self.stream.fileno(), end + len(name), str(path))
            except AudioPaLMError:  # the process was killed while it wrote this entry
                break
            self.offsets.append(end + len(name))
            end = self.offsets[-1] + len(HEADER) + 4 + len(tokens) * ELEMENT.itemsize
        self.stream.truncate(end)
        self.stream.seek(end)

    def __len__(self) -> int:
        return len(self.offsets)

    def __enter__(self) -> "GrowingArchive":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.stream.close()

    def append(self, tokens: np.ndarray) -> None:
        """Write the next entry, int32 `[T]`. Raises AudioPaLMError where the disk is full."""
        key = self.keys[len(self)]
        offset = self.stream.tell() + len(f"{key} ".encode())
        try:
            kaldiio.save_ark(self.stream, {key: np.asarray(tokens, dtype=np.int32)})
            self.stream.flush()
        except OSError as error:
            raise AudioPaLMError(f"{self.path} cannot be written: {error.strerror}; make room, then run the same "
                                 "command again, which goes on from here") from None
        self.offsets.append(offset)

    def finish(self, ark: str | Path) -> list[str]:
        """Rename the file, which holds all entries, to `ark`; return `ark:offset` of each entry for an scp."""
        if len(self) != len(self.keys):
            raise ValueError(f"{self.path} holds {len(self)} of {len(self.keys)} entries")
        os.fsync(self.stream.fileno())
        ark = Path(ark).resolve()
        os.replace(self.path, ark)
        return [f"{ark}:{offset}" for offset in self.offsets]
