"""Inference with all models of a pack: speech or text in, text and speech out.

    model = AudioPaLM.from_pretrained("egs/mini/exp/pack")
    answer = model("x.wav", task="[ASR AST S2ST Spanish English]")
    answer.text["asr"], answer.text["ast"], answer.audio, answer.sampling_rate
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from threading import RLock
from typing import Any, overload

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
BATCH = 32  # segments in a batch
STREAM_BATCH = 8  # maximum batch size of a stream, which starts with one segment
Settings = DecodingConfig | dict[str, Any] | None
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class PackFacts:
    """What a pack states about its models, apart from the weights. Each fact may be absent.

    trained: the tasks and languages that the language model was trained on; None where they are unknown.
    hashes: {component: SHA-256 of its weights}.
    confidence: the calibration of confidences; without it answers have none.
    domain: the sentences that the model understands.
    """

    trained: frozenset[TrainedTask] | None = None
    hashes: Mapping[str, str] = field(default_factory=dict)
    confidence: Confidence | None = None
    domain: Domain | None = None


class AudioPaLM:
    """The models of one pack: audio tokenizer, language model, acoustic model and codec.

    Calls from several threads are safe: one batch is computed at a time.
    """

    def __init__(self, units: UnitTokenizer, lm: Decoder, builder: SequenceBuilder, acoustic: Acoustic, codec: Codec,
                 facts: PackFacts | None = None, decoding: DecodingConfig | None = None) -> None:
        self.units, self.lm, self.builder, self.acoustic, self.codec = units, lm, builder, acoustic, codec
        self.facts = facts or PackFacts()
        self.decoding = decoding or DecodingConfig()  # the default of calls
        self._lock = RLock()

    def __getstate__(self) -> dict[str, Any]:
        """For pickle and copy: a lock can be neither sent to another process nor copied."""
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=RLock())

    @classmethod
    def from_pretrained(cls, source: str | Path | None = None, device: str | torch.device = "cpu",
                        dtype: str = "float32", verify: bool = True) -> "AudioPaLM":
        """Load a pack: its folder, its zip, a hub id, or the model that comes with the repository (None).

        device: `cpu`, `cuda`, `cuda:1` or `auto`. dtype: of the language model's weights, `float32`, `bfloat16` or
        `float16`; the other parts stay in float32. `verify` compares the files with the SHA-256 of audiopalm.json.

        Raises AudioPaLMError for missing and damaged files, for parts that were not made for each other, and for a
        device or dtype that torch does not have.
        """
        device, weights = usable_device(device), _dtype(dtype)
        directory = _shipped() if source is None else fetch_pack(source)
        verified = check_manifest(directory) if verify else {}
        vocabulary, tokenizer = load_vocabulary(directory / "vocabulary")
        lm = load_model(directory / "lm", vocabulary, "stage 8 (finetune)").to(device, weights)
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
        facts = PackFacts(frozenset(read_trained(directory / "lm")), hashes, confidence,
                          Domain.of_pack(said) if said.exists() else None)
        return cls(units, lm, SequenceBuilder(vocabulary, tokenizer), acoustic, codec, facts)

    # A call and `stream` take eight arguments, five of them by name only: most calls give two or three of them, and a
    # dataclass of options would have to be imported and built in every call.
    @overload
    def __call__(self, speech: Speech | None = None, task: str = "", sampling_rate: int | None = None, *,
                 text: str | None = None, voice: Speech | None = None, decoding: Settings = None, seed: int = 0,
                 nbest: int = 1) -> Answer: ...

    @overload
    def __call__(self, speech: list[Speech], task: str = "", sampling_rate: int | None = None, *, text: None = None,
                 voice: Speech | list[Speech] | None = None, decoding: Settings = None, seed: int = 0,
                 nbest: int = 1) -> list[Answer]: ...

    @overload
    def __call__(self, speech: None = None, task: str = "", sampling_rate: int | None = None, *, text: list[str],
                 voice: Speech | list[Speech] | None = None, decoding: Settings = None, seed: int = 0,
                 nbest: int = 1) -> list[Answer]: ...

    def __call__(self, speech: Speech | list[Speech] | None = None, task: str = "", sampling_rate: int | None = None,
                 *, text: str | list[str] | None = None, voice: Speech | list[Speech] | None = None,
                 decoding: Settings = None, seed: int = 0, nbest: int = 1) -> Answer | list[Answer]:
        """Answer speech or, for MT and TTS, `text`; a list of either gives a list of answers, computed in batches.

        speech: a path, the bytes of a file, an array or a tensor with `sampling_rate` in Hz, or a pair (array, rate).
        A recording of any length is cut into segments at pauses. task: a tag, for example `[S2ST Spanish English]`.
        voice: a recording of the voice to speak in; by default the source speech itself. decoding: settings of
        DecodingConfig. nbest: the number of hypotheses in `Answer.nbest`; the beam is at least as wide.

        An answer does not depend on the other inputs of a list. Raises AudioPaLMError for an unknown task or language,
        for a task that the model was not trained on, and for unusable inputs.
        """
        request = self._request(task, decoding, seed, nbest)
        values, voices, is_list = input_list(request, speech, text, voice)
        check_rate(sampling_rate, [*(values if request.task.input == AUDIO else ()), *voices])
        voices = self._voices(request, voices, sampling_rate)
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
        answers = [join(of_input, request.text_parts, request.speaks, request.nbest) for of_input in segments]
        for answer, reading in zip(answers, seconds, strict=True):
            answer.seconds = {"input": reading, **answer.seconds}
            if self.facts.confidence is not None and not answer.segments:  # nobody speaks in the recording
                answer.confidence, answer.inside = 0.0, False
        return answers if is_list else answers[0]

    def stream(self, speech: Speech | None = None, task: str = "", sampling_rate: int | None = None, *,
               text: str | None = None, voice: Speech | None = None, decoding: Settings = None, seed: int = 0,
               nbest: int = 1) -> Iterator[Segment]:
        """The segments of the answer to one input, each as soon as it is ready. Arguments and errors: see `__call__`.

        The first segment is answered alone, later segments in growing batches. The segments equal those of a call.
        """
        request = self._request(task, decoding, seed, nbest)
        values, voices, is_list = input_list(request, speech, text, voice)
        if is_list:
            raise AudioPaLMError("stream answers one input, found a list; call the model for a list")
        check_rate(sampling_rate, [*(values if request.task.input == AUDIO else ()), *voices])
        (own_voice,) = self._voices(request, voices, sampling_rate)
        return self._stream(request, pieces(request, values[0], sampling_rate, own_voice, "speech"))

    def _stream(self, request: Request, waiting: Iterator[Piece]) -> Iterator[Segment]:
        size = 1
        while batch := list(islice(waiting, size)):
            yield from self._answer(request, batch)
            size = min(2 * size, STREAM_BATCH)

    def info(self) -> dict[str, Any]:
        """The model's tasks (tags, or None if unknown), languages (codes), hashes and numbers of parameters."""
        tasks = None if self.facts.trained is None else sorted(
            tag for row in self.facts.trained if (tag := get_task(row.task).tag_text(row.source, row.target)))
        codes = self.builder.vocabulary.languages if self.facts.trained is None else in_order(
            {code for row in self.facts.trained if row.task != "lm" for code in (row.source, row.target) if code})
        modules = {"lm": self.lm, "units": self.units.model, "acoustic": self.acoustic.model}
        return {"tasks": tasks, "languages": list(codes), "sampling_rate": SAMPLE_RATE,
                "vocabulary_hash": self.builder.vocabulary.layout_hash, "sha256": dict(self.facts.hashes),
                "parameters": {name: sum(parameter.numel() for parameter in module.parameters())
                               for name, module in modules.items()}}

    def generate(self, task: Task, examples: list[Example], decoding: DecodingConfig,
                 seed: int) -> list[list[Generated]]:
        """The hypotheses of the language model for each example, the best first."""
        # A builder caches the texts of a training. A new builder for each batch does not store the texts of users.
        builder = SequenceBuilder(self.builder.vocabulary, self.builder.tokenizer)
        return decode_n_best(self.lm, builder, task, examples, decoding, seed)

    def assess(self, task: Task, examples: list[Example], n_best: list[list[Generated]],
               ) -> list[tuple[float | None, bool | None]]:
        """The confidence in each answer, 0 to 1, and whether its input is of the kind that the model was trained on.

        Both are None if the pack has no confidence.json, or if that does not cover the task.
        """
        if self.facts.confidence is None or self.facts.trained is None:
            return [(None, None)] * len(examples)
        builder = SequenceBuilder(self.builder.vocabulary, self.builder.tokenizer)
        best = [answers[0] for answers in n_best]
        judgements = self.facts.confidence.judge(self.lm, builder, self.facts.trained, task, examples, best)
        return [(None, None) if judgement is None else (judgement.confidence, judgement.inside)
                for judgement in judgements]

    def _request(self, tag: str, decoding: Settings, seed: int, nbest: int) -> Request:
        """The request. Raises AudioPaLMError if the model was not trained on its task and languages."""
        request = make_request(tag, self.decoding if decoding is None else decoding, seed, nbest)
        known = self.builder.vocabulary.languages
        for code in (request.source, request.target):
            if code is not None and code not in known:
                raise AudioPaLMError(f"this model was not trained on {language_name(code)}; it knows "
                                     f"{', '.join(map(language_name, known))}")
        trained = self.facts.trained
        if trained is not None and TrainedTask(request.task.name, request.source, request.target) not in trained:
            tags = sorted({get_task(row.task).tag_text(row.source, row.target) for row in trained} - {""})
            tag = request.task.tag_text(request.source, request.target)
            raise AudioPaLMError(f"this model was not trained on {tag}; {nearest(tag, tags)}")
        return request

    def _voices(self, request: Request, voices: list[Speech | None],
                sampling_rate: int | None) -> list[np.ndarray | None]:
        """The samples of each voice, `[T]` float32 at 16 kHz; a voice that is given several times is read once."""
        if not request.speaks:
            return [None] * len(voices)
        if request.task.input != AUDIO and any(voice is None for voice in voices):
            raise AudioPaLMError(f"{request.tag} needs a recording of the voice to speak in: give voice=")
        read = {id(voice): voice_samples(voice, sampling_rate) for voice in voices if voice is not None}
        return [None if voice is None else read[id(voice)] for voice in voices]

    def _answer(self, request: Request, batch: list[Piece]) -> list[Segment]:
        """The answers to a batch. Each step computes every piece independently of the others."""
        with self._lock:
            clock = _Clock()
            row = request.task
            units = self.units.encode([piece.samples for piece in batch]) if row.input == AUDIO else []  # [] for texts
            clock.ends("units")
            examples = [Example(piece.name, request.source, request.target,
                                {row.input: units[number] if units else piece.value})
                        for number, piece in enumerate(batch)]
            n_best = self.generate(row, examples, request.decoding, request.seed)
            assessed = self.assess(row, examples, n_best)
            clock.ends("lm")
            audio: list[np.ndarray | None] = [None] * len(batch)
            if row.spoken is not None:
                prompts = self._prompts(batch, units)
                spoken = row.outputs.index(row.spoken)
                first = self.builder.vocabulary.text_size
                codes = self.acoustic.generate([best.parts[spoken] - first for best, *_ in n_best], *prompts,
                                               request.seed)
                clock.ends("acoustic")
                audio = [faded(self.codec.decode([tokens])[0]) if len(tokens) else np.zeros(0, dtype=np.float32)
                         for tokens in codes]
                clock.ends("codec")
        seconds = {step: value / len(batch) for step, value in clock.seconds.items()}
        return [self._segment(request, piece, answers[:request.nbest], audio[number], assessed[number],
                              units[number] if units else np.zeros(0, dtype=np.int64), dict(seconds))
                for number, (piece, answers) in enumerate(zip(batch, n_best, strict=True))]

    def _prompts(self, batch: list[Piece], units: list[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Units and codec tokens of the voice of each piece; a voice that several pieces share is encoded once."""
        prompts: list[tuple[np.ndarray, np.ndarray]] = []
        for number, piece in enumerate(batch):
            same = next((earlier for earlier in range(number) if batch[earlier].voice is piece.voice), None)
            if piece.voice is None:
                prompts.append((units[number][:PROMPT_UNITS], self.codec.encode([piece.samples[:VOICE_SAMPLES]])[0]))
            elif same is not None:
                prompts.append(prompts[same])
            else:
                prompts.append((self.units.encode([piece.voice])[0], self.codec.encode([piece.voice])[0]))
        return [prompt_units for prompt_units, _ in prompts], [codes for _, codes in prompts]

    def _segment(self, request: Request, piece: Piece, answers: list[Generated], audio: np.ndarray | None,
                 assessed: tuple[float | None, bool | None], units: np.ndarray, seconds: dict[str, float]) -> Segment:
        """The segment of a piece, from its hypotheses (the best first) and its speech."""
        best, means = answers[0], answers[0].mean_scores()
        outputs = request.task.outputs
        return Segment(
            piece.start, piece.end, self._text(request, best), audio, *assessed, truncated=best.truncated,
            nbest=[(self._text(request, answer), answer.score) for answer in answers],
            mean_scores=None if means is None else {output.part: mean
                                                    for output, mean in zip(outputs, means, strict=True)},
            units=units, seconds=seconds)

    def _text(self, request: Request, answer: Generated) -> dict[str, str]:
        """{part: words} of the parts that are text."""
        return {output.part: " ".join(self.builder.tokenizer.decode(list(ids)).split())
                for output, ids in zip(request.task.outputs, answer.parts, strict=True) if not output.is_audio}


class _Clock:
    """The computing time of each step, in seconds."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._began = time.perf_counter()

    def ends(self, step: str) -> None:
        """Record the time since the last step as that of `step`."""
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
    """Print the texts of an answer and write its speech to the file `out`.

    Raises AudioPaLMError for speech without samples, and if there is speech and no `out`.
    """
    for part, text in answer.text.items():
        print(f"{part}: {text}")
    if answer.truncated:
        print("warning: the answer was cut at its length limit")
    if answer.audio is not None:
        if out is None:
            raise AudioPaLMError("the answer is spoken: say where to write it with --out y.wav")
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
        if audio is None or len(audio) == 0:
            return "the model answered with no audio"
        write_audio(saying.path, audio)
        return ""

    return speak
