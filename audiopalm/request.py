"""Requests to the model: a task, inputs, a voice and settings, checked before anything is computed."""

import os
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any

import numpy as np

from audiopalm.acoustic.base import PROMPT_UNITS
from audiopalm.core.arguments import check_seed
from audiopalm.core.config import from_dict
from audiopalm.core.errors import AudioPaLMError, shown
from audiopalm.data.audio import check_output
from audiopalm.data.cleaning import speech_segments
from audiopalm.data.speech_input import Speech, is_array, to_samples
from audiopalm.lm.generation.config import DecodingConfig
from audiopalm.tasks import AUDIO, Task, parse_tag
from audiopalm.units.encoder import HOP

LONGEST_TEXT = 5000  # characters
LONGEST_TAG = 200  # characters
MAX_NBEST = 64
VOICE_SAMPLES = PROMPT_UNITS * HOP  # 3 s


@dataclass(frozen=True)
class Request:
    """A task from `source` to `target` (language codes; target may be None), and the settings of its decoding."""

    tag: str
    task: Task
    source: str
    target: str | None
    decoding: DecodingConfig
    seed: int
    nbest: int

    @property
    def speaks(self) -> bool:
        """Whether the answer has speech."""
        return self.task.spoken is not None

    @property
    def text_parts(self) -> list[str]:
        """The names of the parts that are text."""
        return [output.part for output in self.task.outputs if not output.is_audio]


@dataclass(frozen=True)
class Piece:
    """One unit of work: a segment of speech, samples `[T]` float32 at 16 kHz, or a text. `name` seeds its sampling.

    start, end: seconds in the recording. voice: samples `[T]` of the voice to speak in; None for that of the segment.
    """

    name: str
    value: np.ndarray | str
    start: float
    end: float
    voice: np.ndarray | None

    @property
    def samples(self) -> np.ndarray:
        """The samples of a segment of speech; raises TypeError for a text."""
        if isinstance(self.value, str):
            raise TypeError("a text has no samples")
        return self.value


def make_request(task: str, decoding: DecodingConfig | dict[str, Any], seed: int, nbest: int) -> Request:
    """The request for a tag such as `[S2ST Spanish English]`; its beam is at least `nbest` wide.

    Raises AudioPaLMError for an unknown task or language and for settings out of range.
    """
    if not isinstance(task, str) or len(task) > LONGEST_TAG:
        raise AudioPaLMError(f"task must be a tag such as '[S2ST Spanish English]', found {shown(task)}")
    row, source, target = parse_tag(task)
    check_seed(seed)
    if not isinstance(nbest, Integral) or isinstance(nbest, bool) or not 1 <= nbest <= MAX_NBEST:
        raise AudioPaLMError(f"nbest must be 1 to {MAX_NBEST}, found {nbest!r}")
    seed, nbest = int(seed), int(nbest)  # from numpy's
    if not isinstance(decoding, DecodingConfig):
        decoding = from_dict(DecodingConfig, decoding, "decoding")
    if nbest > decoding.beam:
        decoding = replace(decoding, beam=nbest)
    return Request(task, row, source, target, decoding, seed, nbest)


def input_list(request: Request, speech: Any, text: Any, voice: Any) -> tuple[list[Any], list[Any], bool]:
    """Inputs and voices as lists of one length, and whether the caller gave a list.

    Raises AudioPaLMError for the wrong kind of input, and if the numbers of inputs and voices differ.
    """
    if request.task.input == AUDIO:
        given, other, wanted, unwanted = speech, text, "speech", "text="
    else:
        given, other, wanted, unwanted = text, speech, "a text as text=", "speech"
    if other is not None:
        raise AudioPaLMError(f"{request.tag} answers {wanted}, found {unwanted}")
    if given is None:
        raise AudioPaLMError(f"{request.tag} needs {wanted}, found nothing")
    is_list = isinstance(given, list)
    values = given if is_list else [given]
    voices = voice if isinstance(voice, list) else [voice] * len(values)
    if len(voices) != len(values):
        raise AudioPaLMError(f"{len(voices)} voices are given for {len(values)} inputs; give one, or one for each")
    return values, voices, is_list


def pieces(request: Request, value: Any, sampling_rate: int | None, voice: np.ndarray | None, what: str,
           ) -> Iterator[Piece]:
    """Yield the segments of a recording, each as soon as its end is found, or the text as the only piece.

    what: the name of the input in errors. Raises AudioPaLMError for an unusable recording or text.
    """
    if request.task.input != AUDIO:
        yield Piece("input", check_text(value, request.tag), 0.0, 0.0, voice)
        return
    for number, segment in enumerate(speech_segments(to_samples(value, sampling_rate, what))):
        # The first segment has the name, and therefore the random samples, of a recording with one segment.
        yield Piece(f"input-{number}" if number else "input", segment.samples, segment.start, segment.end, voice)


def check_rate(sampling_rate: int | None, recordings: list[Any]) -> None:
    """Raise AudioPaLMError for a rate without an array: a file states its own rate, so the given one has no effect."""
    if any(isinstance(value, Real) for value in recordings):
        raise AudioPaLMError("speech is a list of numbers; give its samples as one array: numpy.array(samples)")
    if sampling_rate is not None and not any(is_array(value) for value in recordings):
        raise AudioPaLMError("sampling_rate belongs to an array or a tensor; a file states its own")


def voice_samples(voice: Speech, sampling_rate: int | None = None, what: str = "voice") -> np.ndarray:
    """The first 3 s of speech in a recording of a voice, `[T]` float32 at 16 kHz.

    sampling_rate: in Hz, for a voice that is an array.
    Raises AudioPaLMError if nobody speaks in the recording.
    """
    segments: list[np.ndarray] = []
    for segment in speech_segments(to_samples(voice, sampling_rate, what)):
        segments.append(segment.samples)
        if sum(map(len, segments)) >= VOICE_SAMPLES:
            break
    if not segments:
        raise AudioPaLMError(f"nobody speaks in the recording of the {what}; give 3 s of clear speech")
    return np.concatenate(segments)[:VOICE_SAMPLES]


def check_text(text: object, tag: str) -> str:
    """The text with composed accents, as in the training texts, and single spaces between its words.

    A newline would end the input in the token sequence. Raises AudioPaLMError if it is not a string, is empty, or is
    too long.
    """
    if not isinstance(text, str):
        raise AudioPaLMError(f"{tag} needs a text, found {type(text).__name__}")
    if not text.strip():
        raise AudioPaLMError(f"{tag} needs a text, found an empty one")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise AudioPaLMError("the text has half a character (a lone surrogate); decode it as UTF-8")
    if len(text) > LONGEST_TEXT:
        raise AudioPaLMError(f"the text has {len(text)} characters, at most {LONGEST_TEXT} can be answered; divide it")
    return " ".join(unicodedata.normalize("NFC", text).split())


def check_files(source: str, task: str, voice: str | None, out: str | None, seed: int) -> None:
    """Check the arguments of a command before a model is loaded.

    Raises AudioPaLMError for an unknown task, for missing files, for an output that cannot be written or is an input,
    and for a task that speaks without `out` or a voice.
    """
    request = make_request(task, DecodingConfig(), seed, 1)
    if request.speaks:
        if out is None:
            raise AudioPaLMError(f"{task} speaks: say where to write it with --out y.wav")
        read = [source] if request.task.input == AUDIO else []
        check_output(out, read if voice is None else [*read, voice])
        if voice is None and request.task.input != AUDIO:
            raise AudioPaLMError(f"{task} needs a recording of the voice to speak in: give --voice")
    for path in (source if request.task.input == AUDIO else None, voice):
        if path is not None and not os.path.isfile(path):
            raise AudioPaLMError(f"audio {path!r} does not exist or is not a file")
    if request.task.input != AUDIO:
        check_text(source, task)
