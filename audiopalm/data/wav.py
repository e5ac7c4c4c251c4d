"""Detection of cut-off WAV files, which decoders read without an error."""

import os
import struct
from typing import BinaryIO

UNKNOWN_SIZES = 0x7FFF0000  # larger chunk sizes are placeholders of programs that wrote into a pipe


def missing_bytes(stream: BinaryIO) -> int:
    """The number of bytes that the `data` chunk of a RIFF WAVE file states and the file lacks; 0 for other files.

    A program that writes into a pipe does not know the length, and states a size of 0, or of almost 2 GiB or more.
    """
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    riff, _, wave = struct.unpack("<4sI4s", stream.read(12).ljust(12, b"\0"))
    if (riff, wave) != (b"RIFF", b"WAVE"):
        return 0
    while len(header := stream.read(8)) == 8:
        name, length = struct.unpack("<4sI", header)
        if name == b"data":
            return max(0, length - (size - stream.tell())) if length < UNKNOWN_SIZES else 0
        stream.seek(length + length % 2, os.SEEK_CUR)
    return 0
