"""Conventional codecs as baselines for learned ones: Opus by libsndfile, and Codec 2 if it is installed."""

import io

import numpy as np
import soundfile

from audiopalm.core.errors import AudioPaLMError
from audiopalm.data.audio import SAMPLE_RATE, resample

# bit/s of libsndfile's Opus at compression level 1, and the difference to compression level 0
OPUS_LOWEST, OPUS_RANGE = 6000, 250000
CODEC2_RATE = 8000  # Hz


def opus(samples: np.ndarray, bitrate: int) -> tuple[np.ndarray, int]:
    """The recording after Opus with a variable bit rate of about `bitrate` bit/s, and the bits of its packets.

    samples and result: float32 `[T]` at 16 kHz. The bits of the Ogg container are not counted. Raises AudioPaLMError
    below 6000 and above 256000 bit/s.
    """
    if not OPUS_LOWEST <= bitrate <= OPUS_LOWEST + OPUS_RANGE:
        raise AudioPaLMError(f"Opus supports {OPUS_LOWEST} to {OPUS_LOWEST + OPUS_RANGE} bit/s here, not {bitrate}; "
                             "give another bit rate")
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
    """The recording after Codec 2 at 8 kHz, and its bits. `bitrate` is a mode of Codec 2, 3200 to 700 bit/s.

    samples and result: float32 `[T]` at 16 kHz. Raises AudioPaLMError if the package pycodec2 is not installed.
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
