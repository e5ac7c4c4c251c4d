"""The length of an mp3 file: the length that its tag states, and a remedy for files without a tag.

An mp3 file has no header. Encoders may put a silent frame first, whose tag `Xing` or `Info` states the number of
frames. Without a tag, decoders guess the length from the first frames, and libsndfile stops at that length: a file of
variable bit rate that begins loud would lose its end.
"""

import struct
from typing import BinaryIO

RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}  # Hz, of MPEG 1, 2 and 2.5
MPEG1 = 3
SMALLEST_FRAME = 24  # bytes
DELAY = 529  # samples of the decoder's delay, which libsndfile removes from a file with a tag


def states_its_length(stream: BinaryIO) -> bool:
    """Whether a file has a Xing or Info tag. Without a tag, the length that a decoder states is a guess."""
    stream.seek(0)
    stream.seek(_after_id3(stream.read(10)))
    start = stream.read(400)
    return b"Xing" in start or b"Info" in start


def _after_id3(start: bytes) -> int:
    """The size in bytes of the ID3 metadata (title, artist, picture ...) before the audio."""
    if len(start) < 10 or start[:3] != b"ID3":
        return 0
    return 10 + sum(byte << 7 * place for place, byte in enumerate(reversed(start[6:10])))


def with_length(content: bytes) -> tuple[bytes, int]:
    """Put a tag before the content of an mp3 that states more frames than the content can hold.

    A decoder then continues to the end. The second value is the number of samples to remove at the start: the silent
    frame, less the delay that libsndfile removes itself. Content without a frame of MPEG layer 3 is returned unchanged.
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
    """A silent frame of the ninth bit rate (128 or 80 kbit/s), which has space for a tag after the side information."""
    slots = 144 * 128000 if version == MPEG1 else 72 * 80000
    mono = fourth >> 6 == 3
    side = (17 if mono else 32) if version == MPEG1 else (9 if mono else 17)
    header = bytes([0xff, second | 1, 9 << 4 | rate << 2, fourth])  # without checksum and padding
    return (header + bytes(side) + holds).ljust(slots // RATES[version][rate], b"\0")
