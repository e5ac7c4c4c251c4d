"""Cleaning of callers' speech: the offset and the silence around speech are removed, and the level is set.

A recording of any length becomes segments of speech: it is cut where nobody speaks, and each segment is scaled to the
level of the recordings that the models were trained on.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from audiopalm.data.audio import SAMPLE_RATE
from audiopalm.data.voice_activity import FRAME, FRAMES_PER_SECOND, speech_probabilities

LEVEL = 10 ** (-23 / 20)  # root mean square of active speech in the embedded corpus; full scale is 1
LEVEL_FRAME = 320  # samples, 20 ms: the frames whose root mean square decides whether they are active
ACTIVE = 0.05  # frames above this fraction of the loudest frame are active
# A bang is louder than speech and short: the loudest level is at most OUTLIER times that which is exceeded for 0.2 s.
OUTLIER, BANG_FRAMES = 6.0, 10
SILENT = 1e-6  # a recording whose loudest frame is below this is digital silence

SPEECH = 0.4  # speech begins at a frame with at least this probability of speech
STILL_SPEECH = 0.25  # and ends at a frame below this probability
MIN_SPEECH = 0.1  # seconds; shorter sounds are clicks
PAUSE = 0.7  # seconds without speech that separate two sentences
MARGIN = 0.25  # seconds kept before and after speech
MAX_SEGMENT = 12.0  # seconds of a segment, about as long as the longest sentence
SMOOTHED = 8  # frames, a quarter of a second


@dataclass(frozen=True)
class SpeechSegment:
    """Speech at `LEVEL`: samples `[T]` float32 at 16 kHz, and their start in the recording, in seconds."""

    samples: np.ndarray
    start: float

    @property
    def end(self) -> float:
        return self.start + len(self.samples) / SAMPLE_RATE


def speech_segments(samples: np.ndarray) -> Iterator[SpeechSegment]:
    """The segments of speech in a recording `[T]` float32 at 16 kHz, each as soon as its end is known."""
    samples = samples - np.float32(samples.mean(dtype=np.float64))
    loudest = _loudest(_frame_levels(samples))
    if loudest < SILENT:
        return
    # The detector gets the recording at a common level, too. Each segment is then scaled on its own.
    for first, last in speech_spans(np.clip(samples * np.float32(LEVEL / loudest), -1, 1), len(samples)):
        segment = samples[first:last]
        yield SpeechSegment(at_level(segment), first / SAMPLE_RATE)


def at_level(samples: np.ndarray) -> np.ndarray:
    """Samples `[T]` without offset, scaled so that their active frames have the root mean square `LEVEL`."""
    samples = samples - np.float32(samples.mean(dtype=np.float64))
    levels = _frame_levels(samples)
    loudest = _loudest(levels)
    active = np.minimum(levels[levels > ACTIVE * loudest], loudest)
    if len(active) == 0:
        return samples
    return (samples * (LEVEL / np.sqrt(np.mean(active ** 2)))).astype(np.float32)


def _loudest(levels: np.ndarray) -> float:
    """The level of the loudest frame, or a lower one if this frame is part of a bang."""
    ordered = np.sort(levels)[::-1]
    return float(min(ordered[0], OUTLIER * ordered[min(BANG_FRAMES, len(ordered) // 4)]))


def _frame_levels(samples: np.ndarray) -> np.ndarray:
    """The root mean square of each 20 ms of samples `[T]`, float64 `[frames]`; fewer samples are one frame."""
    size = min(LEVEL_FRAME, len(samples))
    whole = samples[:len(samples) // size * size].reshape(-1, size)
    return np.sqrt(np.einsum("ij,ij->i", whole, whole, dtype=np.float64) / size)


def speech_spans(samples: np.ndarray, length: int) -> Iterator[tuple[int, int]]:
    """First and last sample (exclusive) of each segment of speech, with margins that do not overlap."""
    margin, waiting = round(MARGIN * SAMPLE_RATE), None
    for first, last in cut_long(_sentences(samples)):
        start = max(first - margin, 0)
        if waiting is not None:  # two margins share a short pause
            half = min(margin, (first - waiting[1]) // 2)
            yield waiting[0], waiting[1] + half
            start = first - half
        waiting = start, last
    if waiting is not None:
        yield waiting[0], min(waiting[1] + margin, length)


def cut_long(sentences: Iterator[tuple[int, np.ndarray]]) -> Iterator[tuple[int, int]]:
    """Sample spans of at most `MAX_SEGMENT` from sentences (first frame, probabilities `[frames]`).

    A longer sentence is cut in the second half of the allowed length, where the probability of speech is lowest.
    """
    most = int((MAX_SEGMENT - 2 * MARGIN) * FRAMES_PER_SECOND)
    for first, probabilities in sentences:
        while len(probabilities) > most:
            # The mean over a quarter of a second finds pauses between words, not single consonants. At the ends it is
            # the mean of the frames that exist.
            window = probabilities[:most + SMOOTHED // 2]
            smooth = np.convolve(window, np.ones(SMOOTHED), mode="same")
            smooth /= np.convolve(np.ones_like(window), np.ones(SMOOTHED), mode="same")
            cut = most // 2 + int(np.argmin(smooth[most // 2:most]))
            yield first * FRAME, (first + cut) * FRAME
            first, probabilities = first + cut, probabilities[cut:]
        yield first * FRAME, (first + len(probabilities)) * FRAME


def _sentences(samples: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """(first frame, probabilities of its frames) of speech between pauses of at least `PAUSE` seconds."""
    pause, shortest = PAUSE * FRAMES_PER_SECOND, MIN_SPEECH * FRAMES_PER_SECOND
    start: int | None = None
    end, spoken, speaking, seen = 0, 0, False, 0
    in_sentence: list[float] = []
    for block in speech_probabilities(samples):
        for frame, probability in enumerate(block.tolist(), start=seen):
            speaking = probability >= (STILL_SPEECH if speaking else SPEECH)
            if speaking:
                if start is None:
                    start, spoken, in_sentence = frame, 0, []
                end, spoken = frame + 1, spoken + 1
            if start is not None:
                in_sentence.append(probability)
                if frame + 1 - end >= pause:
                    if spoken >= shortest:
                        yield start, np.array(in_sentence[:end - start])
                    start = None
        seen += len(block)
    if start is not None and spoken >= shortest:
        yield start, np.array(in_sentence[:end - start])
