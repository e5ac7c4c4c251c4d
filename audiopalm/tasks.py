"""The task table: a task is one row that states its tag, its input, its outputs and the metrics of each output.

A tag is plain text before the input (paper 3.4), tokenised by the ordinary text tokenizer: `[ASR Spanish]`,
`[S2ST Spanish English]`, `[ASR AST S2ST Spanish English]`. The paper does not publish how the parts of a combined
output are separated, or how the model switches to audio. Here **the tag with the input and every part of the answer
except the last end with a newline, and the last part ends with <eos>**. Every text LM has a newline token, so no new
symbols are needed. The switch to audio needs no marker, because the row of the table states the type of each part.

An example, `asr+ast+s2st` from Spanish to English: the sequence of a test sentence of egs/mini, by the shipped model.
Text ids are 0 to 999, the unit `u` is the id `1000 + u`. Only outputs have loss. docs/index.md has all 102 ids.

    input   [ASR AST S2ST Spanish English]   263 265 290 266 265 260 311 275 267 260 285 281 264
    input   recording, 42 units              1057 1502 1010 1010 1145 1319 1503 1104 1104 1259 ...
    input   newline                          3
    output  seis dólares, newline            305 554 335 3
    output  six dollars, newline             268 399 261 3
    output  spoken translation, 37 units     1440 1502 1010 1145 1045 1019 1503 1088 1488 1449 ...
    output  end                              2

A new task is one more row. Everything else follows from the fields of the row: the language and the reference of a
part, its voice prompt, and whether its voice is scored. A new type of *part* needs an `Output`, too.
"""

import re
from dataclasses import dataclass

from audiopalm.core.errors import AudioPaLMError, nearest
from audiopalm.languages import LANGUAGES, language_name

# Fields of an example (paper 3.4: any of them may be missing).
AUDIO, TRANSCRIPT = "audio", "transcript"
TRANSLATED_AUDIO, TRANSLATION = "translated_audio", "translation"
AUDIO_FIELDS = (AUDIO, TRANSLATED_AUDIO)
TRANSLATED_FIELDS = (TRANSLATION, TRANSLATED_AUDIO)


@dataclass(frozen=True)
class Output:
    """One part of the answer. part: its elementary task. field: the field of an example that is its reference in
    training. metrics: the metrics that score it.
    """

    part: str
    field: str
    metrics: tuple[str, ...]

    @property
    def is_audio(self) -> bool:
        return self.field in AUDIO_FIELDS

    @property
    def is_translated(self) -> bool:
        """Whether the part is in the target language."""
        return self.field in TRANSLATED_FIELDS

    def language(self, source: str, target: str | None) -> str:
        """The language of the part in a task from `source` to `target`. AudioPaLMError for a missing target."""
        if not self.is_translated:
            return source
        if target is None:
            raise AudioPaLMError(f"the part {self.part!r} is a translation: give a target language")
        return target

    @property
    def text_field(self) -> str:
        """The field that holds the words of the part, as text or as audio: the reference for its scores."""
        return TRANSLATION if self.is_translated else TRANSCRIPT

    @property
    def keeps_source_voice(self) -> bool:
        """Whether the source recording is the voice prompt, so that the output should have its speaker's voice.

        A part with the words of the source recording gets another recording of the same speaker as its prompt, because
        the source recording contains the answer.
        """
        return self.is_audio and self.is_translated


@dataclass(frozen=True)
class Task:
    """A row of the table.

    tag: the words in brackets before the languages. input: a field of an example. translates: whether the tag has a
    target language. At most one of the outputs is audio.
    """

    name: str
    tag: str
    input: str
    outputs: tuple[Output, ...]
    translates: bool

    def tag_text(self, source: str, target: str | None) -> str:
        """`[AST Spanish English]` for source `es` and target `en`; empty for the plain text LM.

        Raises AudioPaLMError for an unknown language, and for a missing target of a task that translates.
        """
        if not self.tag:
            return ""
        return f"[{' '.join([self.tag, *map(language_name, self.languages(source, target))])}]"

    def languages(self, source: str, target: str | None) -> list[str]:
        """The languages in the tag. Raises AudioPaLMError for a missing target of a task that translates."""
        if not self.translates:
            return [source]
        if target is None:
            raise AudioPaLMError(f"the task {self.name!r} translates: give a target language")
        return [source, target]

    def fields(self) -> set[str]:
        """The fields that an example must have for training."""
        return {field for field in (self.input, *(output.field for output in self.outputs)) if field}

    def scored_fields(self) -> set[str]:
        """The fields that an example must have to be decoded and scored: the input and the reference of every part."""
        return {self.input, *(output.text_field for output in self.outputs)}

    @property
    def spoken(self) -> Output | None:
        """The output that is audio; None for a task with text outputs only."""
        return next((output for output in self.outputs if output.is_audio), None)

    @property
    def hears_or_speaks(self) -> bool:
        """Whether the input or an output is audio."""
        return bool(self.fields() & set(AUDIO_FIELDS))

    def output(self, part: str) -> Output:
        """The output named `part`; raises AudioPaLMError for a part that the task does not have."""
        for output in self.outputs:
            if output.part == part:
                return output
        raise AudioPaLMError(f"task {self.name!r} has no part {part!r}; "
                             f"{nearest(part, [output.part for output in self.outputs])}")


_ASR = Output("asr", TRANSCRIPT, ("wer", "cer"))
_AST = Output("ast", TRANSLATION, ("bleu", "chrf"))
_MT = Output("mt", TRANSLATION, ("bleu", "chrf"))
_S2ST = Output("s2st", TRANSLATED_AUDIO, ("asr_bleu", "asr_wer"))
_TTS = Output("tts", AUDIO, ("asr_wer",))
_LM = Output("lm", TRANSCRIPT, ())

TASKS = {
    task.name: task
    for task in (
        #    name             tag              input       outputs               translates
        Task("lm",            "",              "",         (_LM,),               False),
        Task("asr",           "ASR",           AUDIO,      (_ASR,),              False),
        Task("ast",           "AST",           AUDIO,      (_AST,),              True),
        Task("s2st",          "S2ST",          AUDIO,      (_S2ST,),             True),
        Task("tts",           "TTS",           TRANSCRIPT, (_TTS,),              False),
        Task("mt",            "MT",            TRANSCRIPT, (_MT,),               True),
        Task("asr+ast",       "ASR AST",       AUDIO,      (_ASR, _AST),         True),
        Task("ast+s2st",      "AST S2ST",      AUDIO,      (_AST, _S2ST),        True),
        Task("asr+ast+s2st",  "ASR AST S2ST",  AUDIO,      (_ASR, _AST, _S2ST),  True),
    )
}


def get_task(name: str) -> Task:
    """The task of this name; raises AudioPaLMError for an unknown name."""
    if name not in TASKS:
        raise AudioPaLMError(f"unknown task {name!r}; {nearest(name, TASKS)}")
    return TASKS[name]


def writing_task(input_field: str, text_field: str) -> Task:
    """The task from `input_field` to `text_field` alone: ASR, AST or MT. Raises AudioPaLMError where there is none."""
    for task in TASKS.values():
        if task.input == input_field and [output.field for output in task.outputs] == [text_field]:
            return task
    raise AudioPaLMError(f"no task of the table answers {input_field} with {text_field} alone")


def parse_tag(tag: str) -> tuple[Task, str, str | None]:
    """`[S2ST Spanish English]` -> (the task, `es`, `en`); the brackets may be left out.

    Raises AudioPaLMError for an unknown task or language, with the known ones, and for a wrong number of languages.
    """
    words = re.sub(r"[\[\]]", " ", tag).split()
    codes = {name: code for code, name in LANGUAGES.items()}
    known_tags = {task.tag: task for task in TASKS.values() if task.tag}
    split = next((i for i, word in enumerate(words) if not word.isupper()), len(words))
    name, languages = " ".join(words[:split]), words[split:]
    if name not in known_tags:
        raise AudioPaLMError(f"unknown task {name!r} in {tag!r}; {nearest(name, known_tags)}")
    for language in languages:
        if language not in codes:
            raise AudioPaLMError(f"unknown language {language!r} in {tag!r}; {nearest(language, codes)}")
    task = known_tags[name]
    expected = 2 if task.translates else 1
    if len(languages) != expected:
        raise AudioPaLMError(f"{tag!r} names {len(languages)} languages, [{name} ...] takes {expected}")
    return task, codes[languages[0]], codes[languages[1]] if task.translates else None


def decode_name(task: Task, source: str, target: str | None) -> str:
    """The name of the folder of a decode: `s2st_es_en`, `asr_fr`. AudioPaLMError for a missing target language."""
    return "_".join([task.name, *task.languages(source, target)])
