"""The task table: a task is one row that says its tag, its input, its outputs and how each output is scored.

A tag is plain text in front of the input (paper 3.4), tokenised by the ordinary text tokenizer: `[ASR Spanish]`,
`[S2ST Spanish English]`, `[ASR AST S2ST Spanish English]`. The paper does not publish what separates the parts of a
combined output, nor how the model switches to audio. Ours: **every part but the last ends with a newline, the last
ends with <eos>**, and so does the input end with a newline. A newline is a token that every text LM already has, so no
new symbols are needed; the switch to audio needs no marker because the row of the table says what comes next.

A worked example, `asr+ast+s2st` from Spanish to English (text ids below 500, audio ids from 500):

    text     [ASR AST S2ST Spanish English] <audio ...> \\n tengo dos \\n i have two \\n <audio ...> <eos>
    ids       7 8 9 10 11                    512 640 533  4  81 92     4  60 61 92    4  700 701      2
    outputs   0 0 0 0  0                     0   0   0    0  1  1      1  1  1  1     1  1   1        1

Adding a task is adding a row. Everything else follows from the fields of the row: the language and the reference of a
part, the voice prompt it is spoken with, whether its voice is scored. A new *part* (what is read or written) is one
`Output` as well.
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
    """One part of the answer: the elementary task it belongs to, the field it must equal, the metrics that score it."""

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
        """The language of the part in a task from `source` to `target`."""
        return target if self.is_translated else source

    @property
    def text_field(self) -> str:
        """The field that holds the words of the part, also where the part is audio: its reference."""
        return TRANSLATION if self.is_translated else TRANSCRIPT

    @property
    def keeps_source_voice(self) -> bool:
        """Whether the source recording is the voice prompt, so that its speaker should be heard in the output.

        A part that says what the source recording says is prompted with another recording of the same speaker: the
        source recording would give the answer away.
        """
        return self.is_audio and self.is_translated


@dataclass(frozen=True)
class Task:
    """`tag` is the words in brackets before the languages; `translates` says whether a target language follows.

    At most one of the outputs is audio.
    """

    name: str
    tag: str
    input: str
    outputs: tuple[Output, ...]
    translates: bool

    def tag_text(self, source: str, target: str | None) -> str:
        """`[AST Spanish English]` for source `es` and target `en`; empty for the plain text LM."""
        if not self.tag:
            return ""
        languages = [source, target] if self.translates else [source]
        return f"[{' '.join([self.tag, *(language_name(code) for code in languages)])}]"

    def fields(self) -> set[str]:
        """What an example of the task must have for training."""
        return {field for field in (self.input, *(output.field for output in self.outputs)) if field}

    def scored_fields(self) -> set[str]:
        """What an example must have to be decoded and scored: the input, and the reference of every part."""
        return {self.input, *(output.text_field for output in self.outputs)}

    @property
    def spoken(self) -> Output | None:
        """The output that is audio; None for a task that only writes."""
        return next((output for output in self.outputs if output.is_audio), None)

    @property
    def hears_or_speaks(self) -> bool:
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
    if name not in TASKS:
        raise AudioPaLMError(f"unknown task {name!r}; {nearest(name, TASKS)}")
    return TASKS[name]


def writing_task(input_field: str, text_field: str) -> Task:
    """The task that answers `input_field` with `text_field` alone: ASR, AST or MT. Raises AudioPaLMError for none."""
    for task in TASKS.values():
        if task.input == input_field and [output.field for output in task.outputs] == [text_field]:
            return task
    raise AudioPaLMError(f"no task of the table answers {input_field} with {text_field} alone")


def parse_tag(tag: str) -> tuple[Task, str, str | None]:
    """`[S2ST Spanish English]` -> (the task, `es`, `en`); the brackets may be left out.

    Raises AudioPaLMError that lists the known tasks or languages.
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
    """The folder of a decode: `s2st_es_en`, `asr_fr`."""
    return "_".join([task.name, source, *([target] if task.translates else [])])
