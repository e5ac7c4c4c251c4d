"""Token archives: Kaldi ark/scp of int32 vectors, written in shards with a completion marker.

kaldiio writes int32 only as 1-D vectors, so codec tokens `[T, Q]` are flattened row by row;
`meta.json` beside the scp states how many levels a frame has.

Archives are read here and not by kaldiio, which runs an scp value that ends in `|` as a shell command and unpickles an
archive that begins with `PKL`.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import kaldiio
import numpy as np

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import atomic_path
from audiopalm.core.partials import partial_path
from audiopalm.data.datadir import read_table

# An entry is HEADER, the count as int32, then ELEMENT for each value; \4 is the width of an int32 in bytes.
HEADER = b"\0B\4"
ELEMENT = np.dtype([("width", "u1"), ("value", "<i4")])


def write_ark(ark: str | Path, tokens: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Write {id: int32 [T]} into one ark file, whole or not at all; return {id: `ark:offset`} for an scp."""
    ark = Path(ark).resolve()
    partial_scp = partial_path(f"{ark}.scp")
    try:
        with atomic_path(ark) as partial:
            kaldiio.save_ark(str(partial), {key: np.asarray(value, dtype=np.int32) for key, value in tokens.items()},
                             scp=str(partial_scp))
            return {key: value.replace(str(partial), str(ark)) for key, value in read_table(partial_scp).items()}
    finally:
        partial_scp.unlink(missing_ok=True)


def read_vector(entry: str) -> np.ndarray:
    """The vector, int32 `[T]`, that an scp value `path:offset` names. Raises AudioPaLMError for any other value, and
    where the archive is missing or damaged."""
    path, _, offset = entry.rpartition(":")
    if not path or not (offset.isascii() and offset.isdigit()) or len(offset) > 18:
        raise AudioPaLMError(f"token archive entry {entry!r} is not `path:offset`; commands, pipes and ranges are not "
                             "read")
    if not Path(path).is_file():
        raise AudioPaLMError(f"token archive {path} does not exist or is not a file")
    try:
        with open(path, "rb") as stream:
            return read_at(stream.fileno(), int(offset), entry)
    except OSError as error:
        raise AudioPaLMError(f"token archive {path} cannot be read: {error.strerror}") from None


def read_at(descriptor: int, offset: int, entry: str, expected: int = 0) -> np.ndarray:
    """The vector, int32 `[T]`, at `offset` of an open archive; `entry` names it in errors.

    A vector of `expected` values is read at once; one of another length takes a second read. Raises AudioPaLMError for
    a damaged archive.
    """
    head = len(HEADER) + 4
    content = os.pread(descriptor, head + expected * ELEMENT.itemsize, offset)
    if content[:len(HEADER)] != HEADER or len(content) < head:
        raise AudioPaLMError(f"token archive {entry} has no int32 vector at this offset; run the stage that wrote it "
                             "again")
    count = int.from_bytes(content[len(HEADER):head], "little", signed=True)
    if count != expected:
        left = os.fstat(descriptor).st_size - offset - head
        if not 0 <= count * ELEMENT.itemsize <= left:
            raise AudioPaLMError(f"token archive {entry} states {count} values, {left // ELEMENT.itemsize} follow: it "
                                 "is damaged or cut off; run the stage that wrote it again")
        content = os.pread(descriptor, head + count * ELEMENT.itemsize, offset)
    elements = np.frombuffer(content, dtype=ELEMENT, count=(len(content) - head) // ELEMENT.itemsize, offset=head)
    if len(elements) != count or (elements["width"] != 4).any():
        raise AudioPaLMError(f"token archive {entry} is damaged; run the stage that wrote it again")
    return elements["value"].astype(np.int32)


def check_range(tokens: np.ndarray, size: int | None, where: str) -> None:
    """Raise AudioPaLMError for a token outside 0 to `size` - 1; without a size, for a negative token."""
    if len(tokens) and (tokens.min() < 0 or (size is not None and tokens.max() >= size)):
        wrong = tokens.min() if tokens.min() < 0 else tokens.max()
        most = "" if size is None else f", the largest is {size - 1}"
        raise AudioPaLMError(f"{where} holds the token {wrong}, which does not exist{most}")


class TokenArchive(Mapping):
    """{id: int32 tokens} of an scp, each read when it is asked for; `[T]`, or `[T, levels]` when levels > 1.

    Tokens must be 0 to `size` - 1; without a size, 0 or more. Reading raises AudioPaLMError for other tokens, and for a
    missing or damaged archive.
    """

    def __init__(self, scp: str | Path, levels: int = 1, made_by: str = "stage 5 (tokenize)", size: int | None = None):
        self.path, self.levels, self.size = Path(scp), levels, size
        self.table = read_table(scp, made_by)

    def __getitem__(self, key: str) -> np.ndarray:
        if key not in self.table:
            raise AudioPaLMError(f"{self.path} has no tokens for {key!r}")
        try:
            tokens = read_vector(self.table[key])
        except AudioPaLMError as error:
            raise AudioPaLMError(f"{self.path}: {key}: {error}") from None
        if len(tokens) % self.levels:
            raise AudioPaLMError(f"{self.path}: {key} has {len(tokens)} tokens, which is no multiple of its "
                                 f"{self.levels} levels")
        check_range(tokens, self.size, f"{self.path}: {key}")
        return tokens.reshape(-1, self.levels) if self.levels > 1 else tokens

    def __contains__(self, key: object) -> bool:
        return key in self.table  # without reading the tokens

    def __iter__(self) -> Iterator[str]:
        return iter(self.table)

    def __len__(self) -> int:
        return len(self.table)
