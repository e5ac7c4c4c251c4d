"""Recordings in the encodings of the corpora, whole and damaged."""

import functools
import io

import numpy as np
import soundfile

HTML = b"<!DOCTYPE html>\n<html><body>403 Forbidden</body></html>\n"


@functools.cache
def mp3(seconds: float = 1.0, seed: int = 0) -> bytes:
    """Noise in the format of Common Voice: mp3, mono, 48 kHz, variable bit rate, with the Xing tag of its length."""
    buffer = io.BytesIO()
    noise = np.random.default_rng(seed).normal(0, 0.1, round(seconds * 48000))
    noise[:6000] *= 1e-4  # quiet: small frames at the beginning
    with soundfile.SoundFile(buffer, "w", 48000, 1, format="MP3", subtype="MPEG_LAYER_III", bitrate_mode="VARIABLE",
                             compression_level=0.6) as file:
        file.write(noise)
    return buffer.getvalue()


def without_length(clip: bytes) -> bytes:
    """The mp3 without its first frame, which holds the Xing tag. Its estimated length is too long."""
    second = clip.index(clip[:2], clip.index(b"Xing"))
    return clip[second:]


def rotten(clip: bytes) -> bytes:
    """The mp3 with random bytes in its middle."""
    rot = np.random.default_rng(3).integers(0, 256, len(clip) // 3, dtype=np.uint8).tobytes()
    return clip[:1500] + rot + clip[1500 + len(rot):]


def wav(rate: int, subtype: str, seconds: float = 1.0, kind: str = "WAV") -> bytes:
    """Noise; the kind `WAVEX` is the extensible format."""
    buffer = io.BytesIO()
    soundfile.write(buffer, np.random.default_rng(0).normal(0, 0.1, round(seconds * rate)), rate, format=kind,
                    subtype=subtype)
    return buffer.getvalue()


def ogg(samples: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, 16000, format="OGG", subtype="VORBIS")
    return buffer.getvalue()


def broken_wavs(rate: int) -> dict[str, bytes]:
    """{reason that the readers of wav files give: damaged file}"""
    whole = wav(rate, "PCM_16")
    return {"of zero bytes": b"", "cannot be decoded": HTML, "without samples": wav(rate, "PCM_16", 0.0),
            "cut off": whole[:len(whole) // 2]}
