"""Conventional codecs as baselines for learned ones: Opus by libsndfile, and Codec 2 if it is installed."""

import io

import numpy as np
import soundfile

from audiopalm.core.errors import AudioPaLMError
from audiopalm.data.audio import SAMPLE_RATE, resample

OPUS_LOWEST, OPUS_RANGE = 6000, 250000  # bit/s of libsndfile's Opus: at compression level 1, and what level 0 adds
CODEC2_RATE = 8000  # Hz


def opus(samples: np.ndarray, bitrate: int) -> tuple[np.ndarray, int]:
    """`[T]` float32 at 16 kHz through Opus at about `bitrate` bit/s, variable -> the same shape, bits of its packets.

    Bits of the Ogg container are not counted. Raises AudioPaLMError below 6000 and above 256000 bit/s.
    """
    if not OPUS_LOWEST <= bitrate <= OPUS_LOWEST + OPUS_RANGE:
        raise AudioPaLMError(f"Opus is asked for {OPUS_LOWEST} to {OPUS_LOWEST + OPUS_RANGE} bit/s here, not {bitrate}")
    file = io.BytesIO()
    soundfile.write(file, samples, SAMPLE_RATE, format="OGG", subtype="OPUS",
                    compression_level=1 - (bitrate - OPUS_LOWEST) / OPUS_RANGE)
    file.seek(0)
    made, _ = soundfile.read(file, dtype="float32")
    return made, 8 * sum(ogg_payloads(file.getvalue())[2:])  # the first two pages are headers


def ogg_payloads(content: bytes) -> list[int]:
    """The number of payload bytes in each page of an Ogg file (RFC 3533, section 6)."""
    sizes, offset = [], 0
    while offset < len(content):
        segments = content[offset + 26]
        sizes.append(sum(content[offset + 27:offset + 27 + segments]))
        offset += 27 + segments + sizes[-1]
    return sizes


def codec2(samples: np.ndarray, bitrate: int) -> tuple[np.ndarray, int]:
    """`[T]` float32 at 16 kHz through Codec 2 at 8 kHz, modes 3200 to 700 bit/s -> the same shape, bits.

    Raises AudioPaLMError if the package pycodec2 is not installed.
    """
    try:
        from pycodec2 import Codec2
    except ImportError:
        raise AudioPaLMError("Codec 2 needs the package pycodec2 (pip install pycodec2)") from None
    coder = Codec2(bitrate)
    size = coder.samples_per_frame()
    low = resample(samples, SAMPLE_RATE, CODEC2_RATE)
    frames = np.pad((np.clip(low, -1, 1) * 32767).astype(np.int16), (0, -len(low) % size)).reshape(-1, size)
    made = np.concatenate([coder.decode(coder.encode(frame)) for frame in frames]).astype(np.float32) / 32768
    return resample(made, CODEC2_RATE, SAMPLE_RATE)[:len(samples)], len(frames) * coder.bits_per_frame()
