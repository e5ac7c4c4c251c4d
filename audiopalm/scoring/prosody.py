"""How much of the prosody of a recording an output keeps, by plain signal measures: no model is involved.

For a set of utterances, each figure is the Pearson correlation over utterances, or within them, of output and source:

- `rate_likeness`: over utterances, of the logarithms of the speech rates. The rate is the number of peaks of the
  loudness of 40 ms frames, a stand-in for syllables (de Jong and Wempe 2009, without their voicing test), per second of
  speech without pauses.
- `pause_likeness`: over utterances, of the shares of pauses. A pause is a stretch of at least 0.2 s, 25 dB below the
  loudest frame.
- `pitch_likeness`: the mean over utterances, of the contours of pitch: log F0 of voiced frames
  (`audiopalm/data/pitch.py`), both stretched to 50 points. Languages have contours of their own, so the true
  translation is the ceiling.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from audiopalm.data.audio import SAMPLE_RATE, read_audio
from audiopalm.data.pitch import measure_pitch
from audiopalm.scoring.metrics import BOOTSTRAP_SEED, RESAMPLES, Score

SIGNATURE = "plain signal measures, pitch by librosa, Pearson"
HOP, WINDOW = 160, 640  # samples; 10 ms and 40 ms
QUIET = 25.0  # dB below the loudest frame
PAUSE_FRAMES = 20
PEAK = 2.0  # dB that a peak of the loudness rises above the valleys beside it
PITCH_HOP = 640  # samples between two values of the pitch: 40 ms; with 20 ms it takes twice as long
POINTS = 50
FEWEST = 3  # utterances, or voiced frames of an utterance, that a correlation needs


@dataclass(frozen=True)
class Prosody:
    """rate: peaks a second of speech. pauses: the share of pauses, 0 to 1. contour: log F0, `[POINTS]`, or None for
    speech with hardly any voiced frame."""

    rate: float
    pauses: float
    contour: np.ndarray | None


def prosody(samples: np.ndarray) -> Prosody | None:
    """The measures of a recording, float32 `[T]` at 16 kHz; None for silence and for less than 0.1 s."""
    if len(samples) < 10 * HOP or not samples.any():
        return None
    count = max((len(samples) - WINDOW) // HOP + 1, 1)
    padded = np.pad(samples.astype(np.float64), (0, max(WINDOW + (count - 1) * HOP - len(samples), 0)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP][:count]
    loudness = 10 * np.log10((frames ** 2).mean(axis=1) + 1e-10)
    speech = loudness > loudness.max() - QUIET
    paused = np.zeros(count, dtype=bool)
    for first, last in _stretches(~speech):
        if last - first >= PAUSE_FRAMES:
            paused[first:last] = True
    seconds = max((~paused).sum() * HOP / SAMPLE_RATE, HOP / SAMPLE_RATE)
    return Prosody(_peaks(np.where(speech, loudness, loudness.max() - QUIET)) / seconds, float(paused.mean()),
                   _contour(samples))


def _stretches(mask: np.ndarray) -> list[tuple[int, int]]:
    """(first, last + 1) of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _peaks(loudness: np.ndarray) -> int:
    """The number of peaks that rise at least PEAK dB above the lowest frame since the peak before."""
    smooth = np.convolve(np.pad(loudness, 2, mode="edge"), np.ones(5) / 5, mode="valid")
    count, low, high, rising = 0, smooth[0], smooth[0], True
    for value in smooth[1:]:
        if rising:
            high = max(high, value)
            if high - low >= PEAK and high - value >= PEAK:
                count, low, rising = count + 1, value, False
            elif value < low:
                low = high = value
        else:
            low = min(low, value)
            if value - low >= PEAK:
                high, rising = value, True
    return count + int(rising and high - low >= PEAK)


def _contour(samples: np.ndarray) -> np.ndarray | None:
    """Log F0 of the voiced frames of a recording, stretched to `[POINTS]`; None for fewer than FEWEST."""
    pitch = measure_pitch(samples[None], PITCH_HOP)[0]
    pitch = np.log(pitch[pitch > 0])
    if len(pitch) < FEWEST:
        return None
    return np.interp(np.linspace(0, 1, POINTS), np.linspace(0, 1, len(pitch)), pitch)


class Prosodies:
    """The prosody of recordings by path; each is read once."""

    def __init__(self) -> None:
        self.known: dict[str, Prosody | None] = {}

    def of(self, files: Mapping[str, str]) -> dict[str, Prosody]:
        """{utterance: its prosody}; silent recordings are left out."""
        for file in files.values():
            if file not in self.known:
                self.known[file] = prosody(read_audio(file))
        return {name: found for name, file in files.items() if (found := self.known[file]) is not None}


def likeness(made: Mapping[str, Prosody], source: Mapping[str, Prosody]) -> dict[str, Score]:
    """{metric: its value with an interval over utterances}; metrics with fewer than three utterances are missing."""
    names = sorted(made.keys() & source.keys(), key=str.encode)
    pairs = {"rate_likeness": [(np.log(made[name].rate + 0.5), np.log(source[name].rate + 0.5)) for name in names],
             "pause_likeness": [(made[name].pauses, source[name].pauses) for name in names]}
    scores = {metric: _score(values, _correlation) for metric, values in pairs.items() if len(values) >= FEWEST}
    contours = [(first, second) for name in names
                if (first := made[name].contour) is not None and (second := source[name].contour) is not None]
    if len(contours) >= FEWEST:
        each = [(float(_correlation(np.stack(pair, axis=1))), 0.0) for pair in contours]
        scores["pitch_likeness"] = _score(each, lambda values: values[:, 0].mean())
    return scores


def _correlation(pairs: np.ndarray) -> float:
    """Pearson's correlation of the columns of `[N, 2]`; 0 where a column is constant."""
    first, second = (pairs - pairs.mean(axis=0)).T
    scale = float(np.sqrt((first ** 2).sum() * (second ** 2).sum()))
    return float((first * second).sum()) / scale if scale > 1e-12 else 0.0


def _score(pairs: Sequence[tuple[float, float]], measure: Callable[[np.ndarray], float]) -> Score:
    values, random = np.array(pairs, dtype=np.float64), np.random.default_rng(BOOTSTRAP_SEED)
    draws = [measure(values[random.integers(len(values), size=len(values))]) for _ in range(RESAMPLES)]
    low, high = np.percentile(draws, [2.5, 97.5])
    return Score(float(measure(values)), float(low), float(high), len(values), SIGNATURE)
