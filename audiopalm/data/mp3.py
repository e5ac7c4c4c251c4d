"""How long an mp3 file is: what its tag says, and what to do with files that have none.

An mp3 file has no header of its own. Encoders may put a frame without sound in front, whose tag `Xing` or `Info` has
the number of frames. Without one, decoders guess the length from the first frames and libsndfile stops there: a file of
variable bit rate that begins loud would lose its end.
"""

import struct
from typing import BinaryIO

RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}  # Hz, of MPEG 1, 2 and 2.5
MPEG1 = 3
SMALLEST_FRAME = 24  # bytes
DELAY = 529  # samples of a decoder's filters, which libsndfile cuts off where there is a tag


def states_its_length(stream: BinaryIO) -> bool:
    """Whether a file has a Xing or Info tag; without one, the length that a decoder tells is a guess."""
    stream.seek(0)
    stream.seek(_after_id3(stream.read(10)))
    start = stream.read(400)
    return b"Xing" in start or b"Info" in start


def _after_id3(start: bytes) -> int:
    """Bytes that a title, name, picture ... in front of the sound take."""
    if len(start) < 10 or start[:3] != b"ID3":
        return 0
    return 10 + sum(byte << 7 * place for place, byte in enumerate(reversed(start[6:10])))


def with_length(content: bytes) -> tuple[bytes, int]:
    """The content of an mp3 without a tag, with one in front that states more frames than it can hold.

    A decoder then goes on to the end. The second value is how many samples are to be left out at the start: a silent
    frame, but for the delay that the tag costs. Content without any frame of MPEG layer 3 is returned as it is.
    """
    place = content.find(b"\xff", _after_id3(content[:10]))
    while 0 <= place <= len(content) - 4:
        second, third, fourth = content[place + 1:place + 4]
        version, layer, rate = second >> 3 & 3, second >> 1 & 3, third >> 2 & 3
        if second >> 5 == 7 and layer == 1 and version in RATES and rate < 3 and third >> 4 not in (0, 15):
            tag = b"Xing" + struct.pack(">II", 1, len(content) // SMALLEST_FRAME)
            front = [_silent_frame(version, rate, second, fourth, holds) for holds in (tag, b"")]
            return b"".join(front) + content[place:], (1152 if version == MPEG1 else 576) - DELAY
        place = content.find(b"\xff", place + 1)
    return content, 0


def _silent_frame(version: int, rate: int, second: int, fourth: int, holds: bytes) -> bytes:
    """A frame without sound of the ninth bit rate (128 or 80 kbit/s): room for a tag behind the side information."""
    slots = 144 * 128000 if version == MPEG1 else 72 * 80000
    mono = fourth >> 6 == 3
    side = (17 if mono else 32) if version == MPEG1 else (9 if mono else 17)
    header = bytes([0xff, second | 1, 9 << 4 | rate << 2, fourth])  # without check sum and padding
    return (header + bytes(side) + holds).ljust(slots // RATES[version][rate], b"\0")
