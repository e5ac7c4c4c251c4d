"""Detection of cut-off WAV, AIFF and AU files, which decoders read without an error."""

import io
import os
import struct
from typing import BinaryIO

UNKNOWN_SIZES = 0x7FFF0000  # larger sizes are placeholders of programs that wrote into a pipe
# {(identifier, type): byte order of sizes, name of the chunk with the samples}
CONTAINERS = {(b"RIFF", b"WAVE"): ("<", b"data"),
              (b"FORM", b"AIFF"): (">", b"SSND"), (b"FORM", b"AIFC"): (">", b"SSND")}


def missing_bytes(stream: BinaryIO) -> int:
    """The number of bytes of samples that a WAV, AIFF or AU file states and lacks; 0 for other files.

    A program that writes into a pipe does not know the length, and states a size of 0, or of almost 2 GiB or more.
    """
    stated, present = _samples(stream)
    return max(0, stated - present) if stated < UNKNOWN_SIZES else 0


def with_size(stream: BinaryIO) -> BinaryIO | None:
    """A copy of a WAV file that states 0 bytes of samples and has some, with their number; None for other files.

    A program in a pipe has written such a file, and decoders find no samples in it. An empty recording may be followed
    by another chunk, which is not taken for samples.
    """
    stated, present = _samples(stream)
    begin = stream.tell()
    name, length = struct.unpack("<4sI", stream.read(8).ljust(8, b"\0"))
    is_chunk = name.strip().isalnum() and length + 8 <= present
    stream.seek(0)
    if stated or not present or is_chunk or stream.read(4) != b"RIFF":
        return None
    stream.seek(0)
    content = bytearray(stream.read())
    content[begin - 4:begin] = struct.pack("<I", present)
    return io.BytesIO(content)


def _samples(stream: BinaryIO) -> tuple[int, int]:
    """The bytes of samples that the header states, and those from there to the end of the file; (0, 0) for other
    files. The stream is then at the first sample."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    first, _, kind = struct.unpack("<4sI4s", stream.read(12).ljust(12, b"\0"))
    if first == b".snd":  # AU: offset and number of the bytes of samples, in big-endian order
        stream.seek(4)
        offset, stated = struct.unpack(">II", stream.read(8).ljust(8, b"\0"))
        stream.seek(offset)
        return stated, max(0, size - offset)
    if (first, kind) not in CONTAINERS:
        return 0, 0
    order, wanted = CONTAINERS[first, kind]
    while len(header := stream.read(8)) == 8:
        name, stated = struct.unpack(f"{order}4sI", header)
        if name == wanted:
            return stated, max(0, size - stream.tell())
        stream.seek(stated + stated % 2, os.SEEK_CUR)
    return 0, 0
