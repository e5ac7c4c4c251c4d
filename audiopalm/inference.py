"""The whole chain on one recording: speech or text in, text and speech out.

>>> model = AudioPaLM.from_pretrained("egs/mini/exp/pack")
>>> answer = model("x.wav", task="[ASR AST S2ST Spanish English]")
>>> answer.text["asr"], answer.text["ast"], answer.audio
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from audiopalm.acoustic.base import Acoustic
from audiopalm.acoustic.registry import load_acoustic
from audiopalm.codec.base import Codec
from audiopalm.codec.registry import load_codec
from audiopalm.core.arguments import check_seed
from audiopalm.core.errors import AudioPaLMError, nearest
from audiopalm.core.files import require, sha256
from audiopalm.core.manifest import check_manifest
from audiopalm.data.audio import SAMPLE_RATE, check_output, check_samples, read_audio, write_audio
from audiopalm.data.examples import Example
from audiopalm.languages import language_name
from audiopalm.lm.generation.config import DecodingConfig
from audiopalm.lm.generation.grammar import Generated
from audiopalm.lm.generation.rescoring import decode_batch
from audiopalm.lm.model import Decoder
from audiopalm.lm.sequences import SequenceBuilder
from audiopalm.lm.storage import load_model
from audiopalm.lm.trained import TrainedTask, read_trained
from audiopalm.stages.speak_texts import Saying, Speak
from audiopalm.stages.synthesize import check_codec, check_units
from audiopalm.tasks import AUDIO, Task, get_task, parse_tag
from audiopalm.units.registry import UnitTokenizer
from audiopalm.vocabulary.joint import load_vocabulary

LONGEST_SECONDS, LONGEST_TEXT = 60, 5000  # seconds of a recording, characters of a text


@dataclass
class Answer:
    """`text`: {part of the task: words}; `audio`: float32 `[T]` at 16 kHz, or None for a task that does not speak.

    nbest: the texts of the best hypotheses with their log probabilities, that of the answer first.
    """

    text: dict[str, str]
    audio: np.ndarray | None
    truncated: bool
    nbest: list[tuple[dict[str, str], float]] = field(default_factory=list)


class AudioPaLM:
    """Units, language model, acoustic model and codec of one packed folder (stage 14)."""

    def __init__(self, units: UnitTokenizer, lm: Decoder, builder: SequenceBuilder, acoustic: Acoustic, codec: Codec,
                 decoding: DecodingConfig, trained: Iterable[TrainedTask] | None = None):
        self.units, self.lm, self.builder = units, lm, builder
        self.acoustic, self.codec, self.decoding = acoustic, codec, decoding
        self.trained = None if trained is None else frozenset(trained)  # None where nothing says it

    @classmethod
    def from_pretrained(cls, directory: str | Path, decoding: DecodingConfig | None = None,
                        verify: bool = True) -> "AudioPaLM":
        """Load a folder with lm/, vocabulary/, units/, acoustic/ and codec/: exp/pack, or exp/ itself.

        `verify` compares the files with the SHA-256 of audiopalm.json, which only a packed folder has. Raises
        AudioPaLMError for missing and damaged files and for parts that were not made for each other.
        """
        directory = require(Path(directory), "stage 14 (pack)")
        if verify:
            check_manifest(directory)
        vocabulary, tokenizer = load_vocabulary(directory / "vocabulary")
        lm = load_model(directory / "lm", vocabulary, "stage 8 (finetune)")
        units, codec = UnitTokenizer.load(directory / "units"), load_codec(directory / "codec")
        vocabulary.check_units(sha256(directory / "units" / "model.safetensors"), str(directory / "units"))
        acoustic = load_acoustic(directory / "acoustic")
        check_units(acoustic, directory / "units")
        check_codec(acoustic, directory / "codec")
        return cls(units, lm, SequenceBuilder(vocabulary, tokenizer), acoustic, codec, decoding or DecodingConfig(),
                   read_trained(directory / "lm"))

    def __call__(self, source: str | Path | np.ndarray, task: str, prompt: str | Path | np.ndarray | None = None,
                 seed: int = 0) -> Answer:
        """Answer a recording (a path, or samples `[T]` at 16 kHz) or, for MT and TTS, a text.

        task: a tag, for example `[S2ST Spanish English]`. prompt: a recording of the voice to speak in; the source
        speech itself if not given. Raises AudioPaLMError for an unknown task or language, for one that the model was
        not trained on, and for unusable audio.
        """
        row, language, target = parse_tag(str(task))
        check_seed(seed)
        known = self.builder.vocabulary.languages
        for code in (language, target):
            if code is not None and code not in known:
                raise AudioPaLMError(f"this model was not trained on {language_name(code)}; it knows "
                                     f"{', '.join(map(language_name, known))}")
        if self.trained is not None and TrainedTask(row.name, language, target) not in self.trained:
            tags = sorted({get_task(one.task).tag_text(one.source, one.target) for one in self.trained} - {""})
            raise AudioPaLMError(f"this model was not trained on {row.tag_text(language, target)}; "
                                 f"{nearest(row.tag_text(language, target), tags)}")
        speaks = any(output.is_audio for output in row.outputs)
        if row.input == AUDIO:
            samples = check_samples(source) if isinstance(source, np.ndarray) else read_audio(source)
            if len(samples) > LONGEST_SECONDS * SAMPLE_RATE:
                raise AudioPaLMError(f"the recording lasts {len(samples) / SAMPLE_RATE:.0f} s, at most "
                                     f"{LONGEST_SECONDS} s can be answered; cut it")
            value, prompt = self.units.encode([samples])[0], samples if prompt is None else prompt
        else:
            value = check_text(source, task)
        if speaks and prompt is None:
            raise AudioPaLMError(f"{task} needs a recording of the voice to speak in: give a prompt")
        example = Example("input", language, target, {row.input: value})
        hypotheses = self.hypotheses(row, example, seed)
        best, audio = hypotheses[0], None
        if speaks:
            units = best.parts[row.outputs.index(row.spoken)] - self.builder.vocabulary.text_size
            audio = self.speak(units, prompt, seed)
        nbest = [(self._texts(row, one), one.score) for one in hypotheses]
        return Answer(nbest[0][0], audio, best.truncated, nbest)

    def hypotheses(self, task: Task, example: Example, seed: int) -> list[Generated]:
        """The language model's part: the answers to an example, the best first."""
        return decode_batch(self.lm, self.builder, task, [example], self.decoding, seed)

    def _texts(self, task: Task, generated: Generated) -> dict[str, str]:
        """{part: words} of the parts that are text."""
        return {output.part: " ".join(self.builder.tokenizer.decode(list(ids)).split())
                for output, ids in zip(task.outputs, generated.parts, strict=True) if not output.is_audio}

    def speak(self, units: np.ndarray, prompt: str | Path | np.ndarray, seed: int = 0) -> np.ndarray:
        """Units `[T]` in the voice of `prompt` (3 s of it are used) -> samples float32 `[640 * T]`; empty for none."""
        if len(units) == 0:
            return np.zeros(0, dtype=np.float32)
        voice = check_samples(prompt) if isinstance(prompt, np.ndarray) else read_audio(prompt)
        codes = self.acoustic.generate([units], self.units.encode([voice]), self.codec.encode([voice]), seed)
        return self.codec.decode(codes)[0]


def check_text(source: object, task: str) -> str:
    """The text itself; raises AudioPaLMError where it is none, empty or too long."""
    if not isinstance(source, str):
        raise AudioPaLMError(f"{task} needs a text, found {type(source).__name__}")
    if not source.strip():
        raise AudioPaLMError(f"{task} needs a text, found an empty one")
    if len(source) > LONGEST_TEXT:
        raise AudioPaLMError(f"the text has {len(source)} characters, at most {LONGEST_TEXT} can be answered; "
                             "divide it")
    return source


def check_request(source: str, task: str, prompt: str | None, out: str | None, seed: int) -> None:
    """Raise AudioPaLMError for what cannot be answered, read or written, whatever the model is."""
    row, _, _ = parse_tag(task)
    if any(output.is_audio for output in row.outputs):
        if out is None:
            raise AudioPaLMError(f"{task} speaks: say where to write it with --out y.wav")
        check_output(out)
        if prompt is not None:
            read_audio(prompt)
        elif row.input != AUDIO:
            raise AudioPaLMError(f"{task} needs a recording of the voice to speak in: give --prompt")
    check_seed(seed)
    if row.input == AUDIO:
        read_audio(source)
    else:
        check_text(source, task)


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
            audio = model(saying.text, f"[TTS {language_name(saying.language)}]", voice).audio
        except AudioPaLMError as error:
            return str(error)
        if len(audio) == 0:
            return "the model answered with no audio"
        write_audio(saying.path, audio)
        return ""

    return speak
