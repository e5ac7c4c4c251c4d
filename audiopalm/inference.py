"""The whole chain: speech or text in, text and speech out.

>>> model = AudioPaLM.from_pretrained("egs/mini/exp/pack")
>>> answer = model("x.wav", task="[ASR AST S2ST Spanish English]")
>>> answer.text["asr"], answer.text["ast"], answer.audio, answer.sampling_rate
"""

import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np
import torch

from audiopalm.acoustic.base import PROMPT_UNITS, Acoustic
from audiopalm.acoustic.registry import load_acoustic
from audiopalm.answer import Answer, Segment, faded, join
from audiopalm.codec.base import Codec
from audiopalm.codec.registry import load_codec
from audiopalm.core.device import usable_device
from audiopalm.core.errors import AudioPaLMError, nearest
from audiopalm.core.files import sha256
from audiopalm.core.hub import fetch_pack
from audiopalm.core.manifest import check_manifest
from audiopalm.data.audio import SAMPLE_RATE, write_audio
from audiopalm.data.domain import FILE as DOMAIN
from audiopalm.data.domain import Domain
from audiopalm.data.examples import Example
from audiopalm.data.speech_input import Speech
from audiopalm.languages import in_order, language_name
from audiopalm.lm.generation.confidence import FILE as CONFIDENCE
from audiopalm.lm.generation.confidence import Confidence
from audiopalm.lm.generation.config import DecodingConfig
from audiopalm.lm.generation.grammar import Generated
from audiopalm.lm.generation.rescoring import decode_n_best
from audiopalm.lm.model import Decoder
from audiopalm.lm.sequences import SequenceBuilder
from audiopalm.lm.storage import load_model
from audiopalm.lm.trained import TrainedTask, read_trained
from audiopalm.request import (
    VOICE_SAMPLES,
    Piece,
    Request,
    check_rate,
    input_list,
    make_request,
    pieces,
    voice_samples,
)
from audiopalm.stages.speak_texts import Saying, Speak
from audiopalm.stages.synthesize import check_codec, check_units
from audiopalm.tasks import AUDIO, Task, get_task
from audiopalm.units.registry import UnitTokenizer
from audiopalm.vocabulary.joint import load_vocabulary

SHIPPED = Path(__file__).resolve().parents[1] / "egs" / "mini" / "pretrained" / "pack"
BATCH = 32  # segments that are answered together
STREAM_BATCH = 8  # the same in a stream, once it is under way
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class AudioPaLM:
    """Units, language model, acoustic model and codec of one pack.

    Calls from several threads are safe: one batch is computed at a time.
    """

    def __init__(self, units: UnitTokenizer, lm: Decoder, builder: SequenceBuilder, acoustic: Acoustic, codec: Codec,
                 decoding: DecodingConfig | None = None, trained: Iterable[TrainedTask] | None = None,
                 hashes: dict[str, str] | None = None, confidence: Confidence | None = None,
                 domain: Domain | None = None):
        self.units, self.lm, self.builder, self.acoustic, self.codec = units, lm, builder, acoustic, codec
        self.decoding = decoding or DecodingConfig()  # of calls that say nothing else
        self.trained = None if trained is None else frozenset(trained)  # None where nothing says it
        self.hashes = hashes or {}
        self.confidence = confidence  # None: answers have no confidence
        self.domain = domain  # None where nothing says what can be said
        self._lock = RLock()

    @classmethod
    def from_pretrained(cls, source: str | Path | None = None, device: str | torch.device = "cpu",
                        dtype: str = "float32", verify: bool = True) -> "AudioPaLM":
        """Load a pack: its folder, its zip, a hub id, or the model that comes with the repository (None).

        device: `cpu`, `cuda`, `cuda:1` or `auto`. dtype: of the language model's weights, `float32`, `bfloat16` or
        `float16`; the other parts stay in float32. `verify` compares the files with the SHA-256 of audiopalm.json.

        Raises AudioPaLMError for missing and damaged files, for parts that were not made for each other, and for a
        device or dtype that torch does not have.
        """
        device, dtype = usable_device(device), _dtype(dtype)
        directory = _shipped() if source is None else fetch_pack(source)
        verified = check_manifest(directory) if verify else {}
        vocabulary, tokenizer = load_vocabulary(directory / "vocabulary")
        lm = load_model(directory / "lm", vocabulary, "stage 8 (finetune)").to(device, dtype)
        units, codec = UnitTokenizer.load(directory / "units", device), load_codec(directory / "codec", device)
        hashes = {name: verified.get(f"{name}/model.safetensors") or sha256(path)
                  for name in ("lm", "units", "acoustic", "codec")
                  if (path := directory / name / "model.safetensors").exists()}
        vocabulary.check_units(hashes["units"], str(directory / "units"))
        acoustic = load_acoustic(directory / "acoustic", device)
        check_units(acoustic, directory / "units")
        check_codec(acoustic, directory / "codec")
        calibrated = directory / CONFIDENCE
        confidence = Confidence.load(calibrated, hashes["lm"]) if calibrated.exists() else None
        said = directory / DOMAIN
        return cls(units, lm, SequenceBuilder(vocabulary, tokenizer), acoustic, codec,
                   trained=read_trained(directory / "lm"), hashes=hashes, confidence=confidence,
                   domain=Domain.of_pack(said) if said.exists() else None)

    def __call__(self, speech: Speech | list[Speech] | None = None, task: str = "", sampling_rate: int | None = None,
                 text: str | list[str] | None = None, voice: Speech | list[Speech] | None = None,
                 decoding: DecodingConfig | dict[str, Any] | None = None, seed: int = 0,
                 nbest: int = 1) -> Answer | list[Answer]:
        """Answer speech or, for MT and TTS, `text`; a list of either gives a list of answers, computed as a batch.

        speech: a path, the bytes of a file, an array or a tensor with `sampling_rate` in Hz, or a pair (array, rate).
        A recording of any length is cut where nobody speaks. task: a tag, for example `[S2ST Spanish English]`.
        voice: a recording of the voice to speak in; the source speech itself if not given. decoding: settings of
        DecodingConfig; `nbest` widens its beam if need be.

        An answer does not depend on the others of a list. Raises AudioPaLMError for an unknown task or language, for
        one that the model was not trained on, and for unusable inputs.
        """
        request = self._request(task, decoding, seed, nbest)
        values, voices, is_list = input_list(request, speech, text, voice)
        if request.task.input == AUDIO:
            check_rate(sampling_rate, values)
        voices = self._voices(request, voices)
        waiting: list[tuple[int, Piece]] = []
        seconds = []
        for number, (value, own_voice) in enumerate(zip(values, voices, strict=True)):
            began = time.perf_counter()
            what = f"speech {number + 1} of {len(values)}" if is_list else "speech"
            waiting += [(number, piece) for piece in pieces(request, value, sampling_rate, own_voice, what)]
            seconds.append(time.perf_counter() - began)
        segments: list[list[Segment]] = [[] for _ in values]
        for first in range(0, len(waiting), BATCH):
            batch = waiting[first:first + BATCH]
            answered = self._answer(request, [piece for _, piece in batch])
            for (number, _), segment in zip(batch, answered, strict=True):
                segments[number].append(segment)
        answers = [join(one, request.text_parts, request.speaks, request.nbest) for one in segments]
        for answer, reading in zip(answers, seconds, strict=True):
            answer.seconds = {"input": reading, **answer.seconds}
            if self.confidence is not None and not answer.segments:  # nobody speaks in the recording
                answer.confidence, answer.inside = 0.0, False
        return answers if is_list else answers[0]

    def stream(self, speech: Speech | None = None, task: str = "", sampling_rate: int | None = None,
               text: str | None = None, voice: Speech | None = None,
               decoding: DecodingConfig | dict[str, Any] | None = None, seed: int = 0,
               nbest: int = 1) -> Iterator[Segment]:
        """The segments of the answer to one input, each as soon as it is ready; the arguments are those of a call.

        The first segment is answered alone, later ones in growing batches. The segments are those of a call.
        """
        request = self._request(task, decoding, seed, nbest)
        values, voices, is_list = input_list(request, speech, text, voice)
        if is_list:
            raise AudioPaLMError("stream answers one input, found a list; call the model for a list")
        if request.task.input == AUDIO:
            check_rate(sampling_rate, values)
        (own_voice,) = self._voices(request, voices)
        return self._stream(request, pieces(request, values[0], sampling_rate, own_voice, "speech"))

    def _stream(self, request: Request, waiting: Iterator[Piece]) -> Iterator[Segment]:
        size = 1
        while batch := list(islice(waiting, size)):
            yield from self._answer(request, batch)
            size = min(2 * size, STREAM_BATCH)

    def info(self) -> dict[str, Any]:
        """The tags of the tasks it was trained on, its languages (codes), and the SHA-256 and size of its parts."""
        tasks = None if self.trained is None else sorted(
            tag for one in self.trained if (tag := get_task(one.task).tag_text(one.source, one.target)))
        codes = self.builder.vocabulary.languages if self.trained is None else in_order(
            {code for one in self.trained if one.task != "lm" for code in (one.source, one.target) if code})
        modules = {"lm": self.lm, "units": self.units.model, "acoustic": self.acoustic.model}
        return {"tasks": tasks, "languages": list(codes), "sampling_rate": SAMPLE_RATE,
                "vocabulary_hash": self.builder.vocabulary.layout_hash, "sha256": dict(self.hashes),
                "parameters": {name: sum(one.numel() for one in module.parameters())
                               for name, module in modules.items()}}

    def generate(self, task: Task, examples: list[Example], decoding: DecodingConfig,
                 seed: int) -> list[list[Generated]]:
        """The language model's part: the answers to each example, the best first."""
        # Texts of users are not kept, as those of a training are.
        builder = SequenceBuilder(self.builder.vocabulary, self.builder.tokenizer)
        return decode_n_best(self.lm, builder, task, examples, decoding, seed)

    def assess(self, task: Task, examples: list[Example], n_best: list[list[Generated]],
               ) -> list[tuple[float | None, bool | None]]:
        """The confidence in each answer, 0 to 1, and whether its input is of the kind that the model was trained on.

        None: not known, for the pack has no confidence.json or it says nothing about the task.
        """
        if self.confidence is None or self.trained is None:
            return [(None, None)] * len(examples)
        builder = SequenceBuilder(self.builder.vocabulary, self.builder.tokenizer)
        # One by one, so that a confidence does not depend on the others of a batch.
        found = [self.confidence.judge(self.lm, builder, self.trained, task, [example], answers[:1])[0]
                 for example, answers in zip(examples, n_best, strict=True)]
        return [(None, None) if one is None else (one.confidence, one.inside) for one in found]

    def _request(self, tag: str, decoding: DecodingConfig | dict[str, Any] | None, seed: int, nbest: int) -> Request:
        """The request, if the model was trained on its task and languages."""
        request = make_request(tag, self.decoding if decoding is None else decoding, seed, nbest)
        known = self.builder.vocabulary.languages
        for code in (request.source, request.target):
            if code is not None and code not in known:
                raise AudioPaLMError(f"this model was not trained on {language_name(code)}; it knows "
                                     f"{', '.join(map(language_name, known))}")
        if self.trained is not None and TrainedTask(request.task.name, request.source,
                                                    request.target) not in self.trained:
            tags = sorted({get_task(one.task).tag_text(one.source, one.target) for one in self.trained} - {""})
            tag = request.task.tag_text(request.source, request.target)
            raise AudioPaLMError(f"this model was not trained on {tag}; {nearest(tag, tags)}")
        return request

    def _voices(self, request: Request, voices: list[Speech | None]) -> list[np.ndarray | None]:
        """Samples of each voice; a voice that is given several times is read once."""
        if not request.speaks:
            return [None] * len(voices)
        if request.task.input != AUDIO and any(voice is None for voice in voices):
            raise AudioPaLMError(f"{request.tag} needs a recording of the voice to speak in: give voice=")
        read = {id(voice): voice_samples(voice) for voice in voices if voice is not None}
        return [None if voice is None else read[id(voice)] for voice in voices]

    def _answer(self, request: Request, batch: list[Piece]) -> list[Segment]:
        """The answers to a batch. Every step computes each piece independently of the others."""
        with self._lock:
            clock = _Clock()
            row, hears = request.task, request.task.input == AUDIO
            units = self.units.encode([piece.value for piece in batch]) if hears else None
            clock.ends("units")
            examples = [Example(piece.name, request.source, request.target,
                                {row.input: units[number] if hears else piece.value})
                        for number, piece in enumerate(batch)]
            n_best = self.generate(row, examples, request.decoding, request.seed)
            assessed = self.assess(row, examples, n_best)
            clock.ends("lm")
            audio: list[np.ndarray | None] = [None] * len(batch)
            if request.speaks:
                prompts = self._prompts(batch, units)
                spoken = row.outputs.index(row.spoken)
                first = self.builder.vocabulary.text_size
                codes = self.acoustic.generate([best.parts[spoken] - first for best, *_ in n_best], *prompts,
                                               request.seed)
                clock.ends("acoustic")
                audio = [faded(self.codec.decode([one])[0]) if len(one) else np.zeros(0, dtype=np.float32)
                         for one in codes]
                clock.ends("codec")
        seconds = {step: value / len(batch) for step, value in clock.seconds.items()}
        return [self._segment(request, piece, answers[:request.nbest], audio[number], assessed[number],
                              units[number] if hears else None, dict(seconds))
                for number, (piece, answers) in enumerate(zip(batch, n_best, strict=True))]

    def _prompts(self, batch: list[Piece], units: list[np.ndarray] | None) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Units and codec tokens of the voice of each piece; those of a voice that several pieces have are made once.
        """
        made: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        for number, piece in enumerate(batch):
            voice = piece.value[:VOICE_SAMPLES] if piece.voice is None else piece.voice
            if piece.voice is None:
                made[number] = units[number][:PROMPT_UNITS], self.codec.encode([voice])[0]
            elif (same := next((key for key in made if batch[key].voice is voice), None)) is not None:
                made[number] = made[same]
            else:
                made[number] = self.units.encode([voice])[0], self.codec.encode([voice])[0]
        return [made[number][0] for number in range(len(batch))], [made[number][1] for number in range(len(batch))]

    def _segment(self, request: Request, piece: Piece, answers: list[Generated], audio: np.ndarray | None,
                 assessed: tuple[float | None, bool | None], units: np.ndarray | None,
                 seconds: dict[str, float]) -> Segment:
        best, means = answers[0], answers[0].mean_scores()
        outputs = request.task.outputs
        return Segment(
            piece.start, piece.end, self._text(request, best), audio, *assessed, truncated=best.truncated,
            nbest=[(self._text(request, answer), answer.score) for answer in answers],
            mean_scores=None if means is None else {output.part: mean
                                                    for output, mean in zip(outputs, means, strict=True)},
            units=np.zeros(0, dtype=np.int64) if units is None else units, seconds=seconds)

    def _text(self, request: Request, answer: Generated) -> dict[str, str]:
        """{part: words} of the parts that are text."""
        return {output.part: " ".join(self.builder.tokenizer.decode(list(ids)).split())
                for output, ids in zip(request.task.outputs, answer.parts, strict=True) if not output.is_audio}


class _Clock:
    """Computing time of each step."""

    def __init__(self):
        self.seconds: dict[str, float] = {}
        self._began = time.perf_counter()

    def ends(self, step: str) -> None:
        now = time.perf_counter()
        self.seconds[step], self._began = now - self._began, now


def _shipped() -> Path:
    if not SHIPPED.is_dir():
        raise AudioPaLMError(f"no model is named and {SHIPPED}, the one that comes with the repository, is not there; "
                             "name a pack (its folder, its zip or a hub id), or clone the repository whole")
    return SHIPPED


def _dtype(name: str) -> torch.dtype:
    if name not in DTYPES:
        raise AudioPaLMError(f"unknown dtype {name!r}; {nearest(str(name), DTYPES)}")
    return DTYPES[name]


def write_answer(answer: Answer, out: str | None) -> None:
    """Print the texts of an answer and write its speech to `out`; raises AudioPaLMError for speech without samples."""
    for part, text in answer.text.items():
        print(f"{part}: {text}")
    if answer.truncated:
        print("warning: the answer was cut at its length limit")
    if answer.audio is not None:
        if len(answer.audio) == 0:
            raise AudioPaLMError("the model answered with no audio at all; nothing was written")
        write_audio(out, answer.audio)
        print(f"{out}: {len(answer.audio) / SAMPLE_RATE:.2f} s")


def spoken_by_model(directory: str, voice: str) -> Speak:
    """Text to speech by a packed model in the voice of the recording `voice`, for `speak_texts`."""
    model = AudioPaLM.from_pretrained(directory)

    def speak(saying: Saying) -> str:
        try:
            audio = model(text=saying.text, task=f"[TTS {language_name(saying.language)}]", voice=voice).audio
        except AudioPaLMError as error:
            return str(error)
        if len(audio) == 0:
            return "the model answered with no audio"
        write_audio(saying.path, audio)
        return ""

    return speak
