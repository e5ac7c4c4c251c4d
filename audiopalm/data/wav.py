"""How much of a WAV file is there: decoders read a cut-off one without a word."""

import os
import struct
from typing import BinaryIO

UNKNOWN_SIZES = 0x7FFF0000  # chunk sizes from here on are placeholders of programs that write into a pipe


def missing_bytes(stream: BinaryIO) -> int:
    """Bytes that the `data` chunk of a RIFF WAVE file states and the file does not have; 0 for other files.

    A size of 0 or of almost 2 GiB and more is what a program states that wrote into a pipe and did not know the length.
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
