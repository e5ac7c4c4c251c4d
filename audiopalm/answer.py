"""The model's answers: texts, speech and times, with their output as subtitles (SRT) or JSON."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from audiopalm.core.errors import AudioPaLMError, nearest
from audiopalm.data.audio import SAMPLE_RATE

FADE = 0.005  # seconds at each end of a segment's speech, so that no step in the waveform clicks
LONGEST_PAUSE = 0.5  # seconds between the speech of two segments

NBest = list[tuple[dict[str, str], float]]  # (text, log probability) of each answer, the best first


@dataclass(eq=False)  # arrays have no single truth value
class Segment:
    """The answer to one stretch of the input, from `start` to `end` in seconds; both are 0 for a text.

    text: {part of the task: words}. audio: float32 `[T]` at 16 kHz, or None for a task that does not speak.
    confidence: 0 to 1, or None where none was computed. mean_scores: {part: mean log probability of its tokens}, or
    None if the search does not compute it; it is a feature of the confidence. units: int64 `[T]` of the input, 25 Hz.
    seconds: {step: computing time}; segments that were answered together share it equally.
    """

    start: float
    end: float
    text: dict[str, str]
    audio: np.ndarray | None = None
    confidence: float | None = None
    inside: bool | None = None
    truncated: bool = False
    nbest: NBest = field(default_factory=list)
    mean_scores: dict[str, float] | None = None
    units: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    seconds: dict[str, float] = field(default_factory=dict)
    sampling_rate: int = SAMPLE_RATE


@dataclass(eq=False)
class Answer:
    """The answer to a recording or a text; a recording in which nobody speaks has empty texts and no segments.

    text: {part of the task: words}. audio: float32 `[T]` at `sampling_rate`, or None for a task that does not speak.
    units: int64 `[T]` of the input, at 25 Hz. seconds: {step: computing time}. truncated: whether a part reached its
    maximum length. confidence: 0 to 1, or None where none was computed: that of the least confident segment. inside:
    whether the input is of the kind the model was trained on, or None. segments: those of the input, in order.
    nbest: (text, log probability), the best first.
    """

    text: dict[str, str]
    audio: np.ndarray | None
    units: np.ndarray
    seconds: dict[str, float]
    truncated: bool
    segments: list[Segment]
    nbest: NBest
    confidence: float | None = None
    inside: bool | None = None
    sampling_rate: int = SAMPLE_RATE

    def to_srt(self, part: str | None = None) -> str:
        """Subtitles: the texts of one part with the times of the input; by default the last part that is text.

        Segments without words have none. Raises AudioPaLMError for an unknown part, for an answer without texts, and
        for the answer to a text, which has no times.
        """
        if not self.text:
            raise AudioPaLMError("the answer has no text to write subtitles of; ask for a task with ASR or AST too")
        part = list(self.text)[-1] if part is None else part
        if part not in self.text:
            raise AudioPaLMError(f"the answer has no part {part!r}; {nearest(part, self.text)}")
        if any(segment.end == 0 for segment in self.segments):
            raise AudioPaLMError("the answer to a text has no times, so there are no subtitles of it")
        spoken = [segment for segment in self.segments if segment.text[part]]
        entries = [f"{number}\n{_clock(segment.start)} --> {_clock(segment.end)}\n{segment.text[part]}\n"
                   for number, segment in enumerate(spoken, start=1)]
        return "\n".join(entries)

    def to_json(self) -> str:
        """All fields except the samples, as one JSON object."""
        segments = [{"start": round(segment.start, 3), "end": round(segment.end, 3), "text": segment.text,
                     "confidence": segment.confidence, "inside": segment.inside, "truncated": segment.truncated}
                    for segment in self.segments]
        return json.dumps({
            "text": self.text, "confidence": self.confidence, "inside": self.inside, "truncated": self.truncated,
            "audio_seconds": None if self.audio is None else round(len(self.audio) / self.sampling_rate, 3),
            "sampling_rate": self.sampling_rate, "segments": segments,
            "nbest": [{"text": text, "score": score} for text, score in self.nbest], "units": self.units.tolist(),
            "seconds": {step: round(value, 4) for step, value in self.seconds.items()},
        }, ensure_ascii=False)


def join(segments: list[Segment], parts: Iterable[str], speaks: bool, most: int) -> Answer:
    """Join the answers to the segments of an input.

    parts: the text parts of the task. speaks: whether the task has speech. most: the maximum length of nbest.
    """
    seconds: dict[str, float] = {}
    for segment in segments:
        for step, value in segment.seconds.items():
            seconds[step] = seconds.get(step, 0.0) + value
    confidences = [segment.confidence for segment in segments if segment.confidence is not None]
    inside = [segment.inside for segment in segments if segment.inside is not None]
    return Answer(
        text={part: " ".join(filter(None, (segment.text[part] for segment in segments))) for part in parts},
        audio=join_audio(segments) if speaks else None,
        units=np.concatenate([np.zeros(0, dtype=np.int64), *(segment.units for segment in segments)]),
        seconds=seconds, truncated=any(segment.truncated for segment in segments), segments=segments,
        nbest=join_nbest([segment.nbest for segment in segments], most),
        confidence=min(confidences) if segments and len(confidences) == len(segments) else None,
        inside=all(inside) if segments and len(inside) == len(segments) else None)


def join_audio(segments: list[Segment]) -> np.ndarray:
    """The speech of segments, float32 `[T]` at 16 kHz, with the pauses of the input, each at most half a second."""
    pieces = [np.zeros(0, dtype=np.float32)]
    for number, segment in enumerate(segments):
        if number:
            pause = min(max(segment.start - segments[number - 1].end, 0.0), LONGEST_PAUSE)
            pieces.append(np.zeros(round(pause * SAMPLE_RATE), dtype=np.float32))
        if segment.audio is not None:
            pieces.append(segment.audio)
    return np.concatenate(pieces)


def faded(samples: np.ndarray) -> np.ndarray:
    """Samples `[T]` float32 at 16 kHz with a linear fade at each end."""
    length = min(round(FADE * SAMPLE_RATE), len(samples) // 2)
    ramp = np.linspace(0.0, 1.0, length, endpoint=False, dtype=np.float32)
    samples = samples.copy()
    samples[:length] *= ramp
    samples[len(samples) - length:] *= ramp[::-1]
    return samples


def join_nbest(lists: list[NBest], most: int) -> NBest:
    """At most `most` combinations of the answers to several segments.

    The first combines the best answers of all segments; the others are sorted by the sum of their scores.
    """
    joined: NBest = []
    for number, answers in enumerate(lists):
        if number == 0:
            joined = answers[:most]
            continue
        best, *others = [({part: f"{left[part]} {right[part]}".strip() for part in left}, score + more)
                         for left, score in joined for right, more in answers]
        joined = [best, *sorted(others, key=lambda scored: -scored[1])][:most]
    return joined


def _clock(seconds: float) -> str:
    """The time stamp of SRT, for example `00:01:02,500`."""
    milliseconds = round(seconds * 1000)
    whole, rest = divmod(milliseconds, 1000)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02},{rest:03}"
