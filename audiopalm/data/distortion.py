"""Distortions of recordings: gain, speed, noise, babble, reverberation, telephone bands and silence.

All distortions are computed; no recorded noise is needed. A distortion takes samples `[T]`, float32 at 16 kHz, and a
random generator. `distort` combines several at random for training; CONDITIONS are fixed distortions for test sets.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import signal

from audiopalm.core.config import ranged
from audiopalm.data.audio import SAMPLE_RATE

QUIET = 1e-4  # standard deviation of the noise in added pauses: real pauses are not digitally silent
COLOURS = {"white": 0.0, "pink": 0.5, "brown": 1.0}  # {noise: the power of the frequency by which its amplitude falls}
HUMS = (50, 60)  # Hz
PAUSE = (0.2, 0.8)  # seconds between recordings that are joined
MU = 255  # of mu-law, ITU-T G.711: 127 steps on each side of zero

Speaker = Callable[[np.random.Generator], np.ndarray]  # returns another recording, for babble


@dataclass
class DistortionConfig:
    """Distortions in training: the probability of each distortion, and the limits of its strength."""

    share: float = ranged(1.0, low=0, high=1)  # fraction of recordings that are distorted at all
    join: float = ranged(0.15, low=0, high=1)  # another recording is appended after a pause
    speed: float = ranged(0.3, low=0, high=1)
    reverberation: float = ranged(0.3, low=0, high=1)
    noise: float = ranged(0.5, low=0, high=1)
    babble: float = ranged(0.3, low=0, high=1)  # of recordings with noise, the fraction whose noise is babble
    band: float = ranged(0.45, low=0, high=1)
    gain: float = ranged(0.6, low=0, high=1)
    silence: float = ranged(0.25, low=0, high=1)
    least_noise_ratio: float = ranged(0.0)  # dB
    most_noise_ratio: float = ranged(25.0)
    longest_reverberation: float = ranged(0.9, above=0)  # seconds until the reverberation has fallen by 60 dB
    longest_silence: float = ranged(3.0, low=0)  # seconds, before the speech and after it


def distort(samples: np.ndarray, config: DistortionConfig, random: np.random.Generator,
            speaker: Speaker) -> tuple[np.ndarray, np.ndarray]:
    """Random distortions of samples `[T]` -> distorted and clean samples `[S]`, aligned in time.

    Speed and added silence change both; everything else changes the distorted samples only.
    """
    def chance(probability: float) -> bool:
        return random.random() < probability

    clean = change_speed(samples, random.uniform(0.87, 1.15)) if chance(config.speed) else samples
    if chance(config.silence):
        before, after = config.longest_silence * random.random(2) ** 2  # short pauses are more frequent
        clean = add_silence(clean, before, after, random)
    made = clean
    if chance(config.reverberation):
        made = reverberate(made, random.uniform(0.1, config.longest_reverberation), random.uniform(-4.0, 12.0), random)
    if chance(config.noise):
        ratio = random.uniform(config.least_noise_ratio, config.most_noise_ratio)
        noise = babble(len(made), random, speaker) if chance(config.babble) else any_noise(len(made), random)
        made = add_noise(made, noise, ratio)
    if chance(config.band):
        made = any_band(made, random)
    if chance(config.gain):
        made = change_gain(made, random.uniform(-26.0, 12.0))
    return made, clean


def join(recordings: list[np.ndarray], random: np.random.Generator) -> np.ndarray:
    """The recordings one after another, with a pause between them."""
    joined = recordings[0]
    for samples in recordings[1:]:
        joined = np.concatenate([add_silence(joined, 0.0, random.uniform(*PAUSE), random), samples])
    return joined


def change_gain(samples: np.ndarray, decibels: float) -> np.ndarray:
    """Scale by `decibels`; samples beyond full scale are clipped, as by an analogue-to-digital converter."""
    return np.clip(samples * np.float32(10 ** (decibels / 20)), -1.0, 1.0).astype(np.float32)


def change_speed(samples: np.ndarray, factor: float) -> np.ndarray:
    """Faster (`factor` above 1) or slower speech, by resampling, so that the pitch changes too."""
    return signal.resample_poly(samples, 100, round(100 * factor)).astype(np.float32)


def add_silence(samples: np.ndarray, before: float, after: float, random: np.random.Generator) -> np.ndarray:
    """Add `before` and `after` seconds of faint noise around the samples."""
    pads = [random.normal(0.0, QUIET, round(seconds * SAMPLE_RATE)) for seconds in (before, after)]
    return np.concatenate([pads[0], samples, pads[1]]).astype(np.float32)


def reverberate(samples: np.ndarray, seconds: float, direct: float, random: np.random.Generator) -> np.ndarray:
    """The samples in a room whose noise-like response falls by 60 dB in `seconds`.

    `direct` is the level of the direct sound relative to the reverberation, in dB.
    """
    times = np.arange(1, round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    tail = random.normal(size=len(times)) * 10 ** (-3 * times / seconds)
    tail *= 10 ** (-direct / 20) / np.sqrt(np.square(tail).sum())
    response = np.concatenate([[1.0], tail]) / np.sqrt(1 + 10 ** (-direct / 10))
    return signal.fftconvolve(samples, response)[:len(samples)].astype(np.float32)


def add_noise(samples: np.ndarray, noise: np.ndarray, ratio: float) -> np.ndarray:
    """Samples plus noise, both `[T]`; the signal-to-noise ratio over the whole recording is `ratio` dB."""
    power, noise_power = np.square(samples).mean(), np.square(noise).mean()
    scale = np.sqrt(power / max(noise_power, 1e-12) / 10 ** (ratio / 10))
    return (samples + scale * noise).astype(np.float32)


def coloured_noise(length: int, fall: float, random: np.random.Generator) -> np.ndarray:
    """`[length]`: noise whose amplitude falls with the power `fall` of the frequency, 0 for white noise."""
    spectrum = np.fft.rfft(random.normal(size=length))
    frequencies = np.arange(len(spectrum))
    return np.fft.irfft(spectrum / np.maximum(frequencies, length / 800) ** fall, length)  # flat below 20 Hz


def tones(length: int, random: np.random.Generator) -> np.ndarray:
    """`[length]`: chords of decaying harmonic tones, in place of music."""
    times = np.arange(length) / SAMPLE_RATE
    music = np.zeros(length)
    start = 0
    while start < length:
        for _ in range(3):
            pitch = 110 * 2 ** (random.integers(0, 36) / 12)
            decay = np.exp(-(times[start:] - times[start]) * random.uniform(1.0, 6.0))
            music[start:] += decay * sum(np.sin(2 * np.pi * pitch * harmonic * times[start:]) / harmonic
                                         for harmonic in (1, 2, 3))
        start += int(random.uniform(0.2, 0.8) * SAMPLE_RATE)
    return music


def hum(length: int, random: np.random.Generator) -> np.ndarray:
    """`[length]`: mains hum with harmonics, over faint noise."""
    base = random.choice(HUMS)
    times = np.arange(length) / SAMPLE_RATE
    parts = [random.random() * np.sin(2 * np.pi * base * harmonic * times + random.uniform(0, 6.3))
             for harmonic in range(1, 8)]
    return sum(parts) + 0.1 * random.normal(size=length)


def any_noise(length: int, random: np.random.Generator) -> np.ndarray:
    """`[length]`: noise of a random colour, hum or music."""
    kind = random.choice(["white", "pink", "brown", "between", "hum", "music"], p=[0.3, 0.2, 0.15, 0.15, 0.1, 0.1])
    if kind in ("hum", "music"):
        return hum(length, random) if kind == "hum" else tones(length, random)
    return coloured_noise(length, COLOURS.get(kind, random.uniform(0.0, 1.2)), random)


def babble(length: int, random: np.random.Generator, speaker: Speaker) -> np.ndarray:
    """`[length]`: 3 to 6 recordings at once."""
    total = np.zeros(length)
    for _ in range(random.integers(3, 7)):
        voice = speaker(random)
        voice = np.tile(voice, -(-length // len(voice)))
        total += np.roll(voice, random.integers(len(voice)))[:length] * random.uniform(0.5, 1.0)
    return total


def band_pass(samples: np.ndarray, low: float, high: float) -> np.ndarray:
    """Keep the band from `low` to `high` Hz; a `low` of 0 or a `high` of 8000 leaves that side unfiltered."""
    if low > 0:
        samples = signal.sosfilt(signal.butter(4, low, "highpass", fs=SAMPLE_RATE, output="sos"), samples)
    if high < SAMPLE_RATE / 2:
        samples = signal.sosfilt(signal.butter(8, high, "lowpass", fs=SAMPLE_RATE, output="sos"), samples)
    return np.asarray(samples, dtype=np.float32)


def mu_law(samples: np.ndarray) -> np.ndarray:
    """Quantise by 8-bit mu-law and decode again."""
    samples = np.clip(samples, -1.0, 1.0)
    compressed = np.sign(samples) * np.log1p(MU * np.abs(samples)) / np.log1p(MU)
    compressed = np.round((compressed + 1) / 2 * MU) / MU * 2 - 1
    return (np.sign(compressed) * np.expm1(np.abs(compressed) * np.log1p(MU)) / MU).astype(np.float32)


def telephone(samples: np.ndarray, low: float = 300, high: float = 3400) -> np.ndarray:
    """The samples over a telephone line: band from `low` to `high` Hz, sampled at 8 kHz, 8-bit mu-law."""
    narrow = signal.resample_poly(band_pass(samples, low, high), 1, 2)
    return signal.resample_poly(mu_law(narrow), 2, 1)[:len(samples)].astype(np.float32)


def any_band(samples: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A telephone line, or another band, at random."""
    if random.random() < 0.6:
        return telephone(samples, random.uniform(100, 400), random.uniform(2800, 3700))
    return band_pass(samples, random.uniform(20, 300), random.uniform(2500, 7500))


# Conditions of the test sets test_robust_*: (samples, random, speaker) -> samples.
CONDITIONS: dict[str, Callable[[np.ndarray, np.random.Generator, Speaker], np.ndarray]] = {
    "gain": lambda samples, random, speaker: change_gain(samples, -20.0),
    "telephone": lambda samples, random, speaker: telephone(samples),
    "noise10": lambda samples, random, speaker: add_noise(samples, coloured_noise(len(samples), 0.0, random), 10.0),
    "noise0": lambda samples, random, speaker: add_noise(samples, coloured_noise(len(samples), 0.0, random), 0.0),
    "babble10": lambda samples, random, speaker: add_noise(samples, babble(len(samples), random, speaker), 10.0),
    "reverberation": lambda samples, random, speaker: reverberate(samples, 0.5, 3.0, random),
    "silence": lambda samples, random, speaker: add_silence(samples, 3.0, 0.0, random),
    "speed": lambda samples, random, speaker: change_speed(samples, random.choice([0.9, 1.1])),
}
JOINED = "joined"  # the condition that joins two recordings of a speaker, see audiopalm/stages/distort.py
