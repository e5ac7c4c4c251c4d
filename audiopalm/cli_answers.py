"""The commands `audiopalm translate`, `transcribe` and `speak`: they read inputs, print answers and write speech.

Large packages are imported only when they are needed, so that --help is fast.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audiopalm.core.errors import AudioPaLMError
from audiopalm.languages import language_name
from audiopalm.tasks import AUDIO, TASKS, TRANSCRIPT, TRANSLATION, Task, writing_task

if TYPE_CHECKING:
    from audiopalm.answer import Answer, Segment
    from audiopalm.inference import AudioPaLM

AUDIO_FILES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au")  # read from a folder
BATCH = 32  # inputs in a batch
STDIN = "-"


def translate(options: Any) -> int:
    """Translate speech or texts; returns the exit code. Raises AudioPaLMError for options that exclude each other."""
    if options.text:
        if options.out or options.srt:
            raise AudioPaLMError("-o and --srt belong to speech; a translated text is printed")
        return answer_all(options, read_texts(options.inputs), [writing_task(TRANSCRIPT, TRANSLATION)], options.to)
    rows = [row for row in TASKS.values() if row.input == AUDIO and row.translates
            and (row.spoken is not None) == (options.out is not None)
            and (options.out is not None or any(not output.is_audio for output in row.outputs))]
    # Tasks with the most parts come first: an answer is better if the model writes it before it speaks it.
    return answer_all(options, find_recordings(options.inputs), sorted(rows, key=lambda row: -len(row.outputs)),
                      options.to)


def transcribe(options: Any) -> int:
    """Transcribe recordings; returns the exit code."""
    options.out = options.voice = None
    return answer_all(options, find_recordings(options.inputs), [writing_task(AUDIO, TRANSCRIPT)], None)


def speak(options: Any) -> int:
    """Speak texts; returns the exit code."""
    rows = [row for row in TASKS.values() if row.input == TRANSCRIPT and row.spoken and not row.translates]
    options.srt = False
    return answer_all(options, read_texts(options.inputs), rows, None)


def find_recordings(inputs: list[str]) -> dict[str, str | bytes]:
    """{name: path, or the bytes of standard input}.

    Raises AudioPaLMError for a path that does not exist and for a folder without recordings.
    """
    recordings: dict[str, str | bytes] = {}
    for name in inputs:
        path = Path(name)
        if name == STDIN:
            recordings["stdin"] = sys.stdin.buffer.read()
        elif path.is_dir():
            files = sorted(file for file in path.iterdir() if file.suffix.lower() in AUDIO_FILES)
            if not files:
                raise AudioPaLMError(f"the folder {name!r} holds no recordings ({', '.join(AUDIO_FILES)})")
            recordings |= {str(file): str(file) for file in files}
        elif not path.is_file():
            raise AudioPaLMError(f"{name!r} does not exist or is no file or folder")
        else:
            recordings[name] = name
    return recordings


def read_texts(inputs: list[str]) -> dict[str, str]:
    """{number: text}; the numbers `0001`, `0002`, ... are the names of the texts."""
    texts = [sys.stdin.read() if text == STDIN else text for text in inputs]
    return {f"{number:04d}": text for number, text in enumerate(texts, start=1)}


def output_files(options: Any, names: list[str], read: list[str]) -> dict[str, Path]:
    """{name of an input: file for its speech}; empty without -o.

    read: paths of the recordings that the command reads. Raises AudioPaLMError for unwritable files, and for an output
    that is one of `read`.
    """
    if options.out is None:
        return {}
    from audiopalm.data.audio import FORMATS, check_output

    out = Path(options.out)
    if len(names) == 1 and out.suffix and not out.is_dir():
        return {names[0]: check_output(out, read)}
    if out.is_file() or (out.suffix in FORMATS and not out.is_dir()):
        raise AudioPaLMError(f"-o {out} is one file for {len(names)} inputs; name a folder")
    files: dict[str, Path] = {}
    for name in names:
        file = out / f"{Path(name).stem}.wav"
        if file in files.values():
            raise AudioPaLMError(f"two of the inputs would be written to {file}; rename one")
        files[name] = file
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AudioPaLMError(f"the folder {out} cannot be made: {error.strerror}") from None
    for file in files.values():
        check_output(file, read)
    return files


def answer_all(options: Any, inputs: dict[str, Any], rows: list[Task], target: str | None) -> int:
    """Answer each input, print the texts and write the speech. Returns the exit code: 2 if an input has no answer.

    rows: possible tasks, the preferred one first. target: the code of the target language, or None. Raises
    AudioPaLMError for options that exclude each other and for files that cannot be read or written.
    """
    if options.json and options.srt:
        raise AudioPaLMError("--json and --srt exclude each other")
    if options.srt and len(inputs) > 1:
        raise AudioPaLMError("--srt takes one input; several are written with --json")
    if options.voice is not None and not Path(options.voice).is_file():
        raise AudioPaLMError(f"voice {options.voice!r} does not exist or is not a file")
    read = [value for value in inputs.values() if isinstance(value, str)] if rows[0].input == AUDIO else []
    files = output_files(options, list(inputs), read if options.voice is None else [*read, options.voice])
    model = load_model(options)
    failed = 0
    names = list(inputs)
    for first in range(0, len(names), BATCH):
        group = {name: inputs[name] for name in names[first:first + BATCH]}
        with working(f"{first + 1} to {first + len(group)} of {len(names)}" if len(names) > 1 else ""):
            failed += Answers(options, model, rows, target, files, len(names) > 1).answer(group)
    if failed and len(names) > 1:
        print(f"audiopalm: {failed} of {len(names)} inputs could not be answered", file=sys.stderr)
    return 2 if failed else 0


def load_model(options: Any) -> "AudioPaLM":
    """The model that the options name. `options.decoding` becomes a DecodingConfig, if the command has it."""
    with working("loading the model"):
        from audiopalm.core.config import load_config
        from audiopalm.inference import AudioPaLM
        from audiopalm.lm.generation.config import DecodingConfig

        if getattr(options, "decoding", None):
            options.decoding = load_config(DecodingConfig, overrides=options.decoding)
        model = AudioPaLM.from_pretrained(options.model, options.device)
    return model


@contextmanager
def working(what: str) -> Iterator[None]:
    """Show `what` on a terminal while the block runs; nothing elsewhere."""
    shown = bool(what) and sys.stderr.isatty()
    if shown:
        print(f"{what} ...", end="", flush=True, file=sys.stderr)
    try:
        yield
    finally:
        if shown:
            print(f"\r{' ' * (len(what) + 4)}\r", end="", flush=True, file=sys.stderr)


class Answers:
    """Answers inputs with a model, prints the answers and writes their speech.

    rows: possible tasks, the preferred one first. files: {name of an input: file for its speech}. named: whether
    printed answers begin with the name of their input.
    """

    def __init__(self, options: Any, model: "AudioPaLM", rows: list[Task], target: str | None,
                 files: dict[str, Path], named: bool) -> None:
        self.options, self.model, self.rows, self.target = options, model, rows, target
        self.files, self.named = files, named

    def answer(self, group: dict[str, Any]) -> int:
        """Answer a group of inputs as one batch; returns the number of failures."""
        tag, failed = self.tag(), 0
        answers = self.together(tag, group)
        for name, value in group.items():
            try:
                if name in answers:
                    self.finish(name, tag, answers[name])
                else:
                    self.finish(name, tag, self.alone(name, tag, value), shown=not self.named)
            except AudioPaLMError as error:
                failed += self.fail(name, error)
        return failed

    def together(self, tag: str, group: dict[str, Any]) -> "dict[str, Answer]":
        """{name: answer} of several inputs as one batch; empty if one of them is refused, or for a single input.

        Each of them is then answered alone, which names the refused one.
        """
        if len(group) == 1:
            return {}
        try:
            answers: list[Answer] = self.model(task=tag, **self.arguments(list(group.values())))
        except AudioPaLMError:
            return {}
        return dict(zip(group, answers, strict=True))

    def tag(self) -> str:
        """The tag of the first task that the model was trained on in these languages. All inputs have the same tag."""
        from audiopalm.lm.trained import TrainedTask

        def possible(row: Task, code: str) -> bool:
            trained = self.model.facts.trained
            return trained is None or TrainedTask(row.name, code, self.target) in trained

        source = self.options.source
        row = next((row for row in self.rows if possible(row, source)), self.rows[0])
        return row.tag_text(source, self.target)

    def arguments(self, value: Any) -> dict[str, Any]:
        """The arguments of a call of the model, except the task, for one input or a list of inputs."""
        name = "speech" if self.rows[0].input == AUDIO else "text"
        return {name: value, "voice": self.options.voice, "decoding": self.options.decoding or None,
                "seed": self.options.seed}

    def alone(self, name: str, tag: str, value: Any) -> "Answer":
        """The answer to one input. The texts of each segment are printed as soon as it is ready."""
        from audiopalm.answer import join
        from audiopalm.request import make_request

        request = make_request(tag, self.model.decoding, self.options.seed, 1)
        segments: list[Segment] = []
        for segment in self.model.stream(task=tag, **self.arguments(value)):
            segments.append(segment)
            if not (self.named or self.options.json or self.options.srt):
                self.show(tag, segment.text)
        return join(segments, request.text_parts, request.speaks, 1)

    def show(self, tag: str, text: dict[str, str], name: str = "") -> None:
        """Print texts: with their languages if the task translates, and with the input's name if it is given."""
        from audiopalm.tasks import parse_tag

        row, source, target = parse_tag(tag)
        for part, words in text.items():
            label = f"{language_name(row.output(part).language(source, target))}: " if row.translates else ""
            print(f"{name and name + ': '}{label}{words}", flush=True)

    def finish(self, name: str, tag: str, answer: "Answer", shown: bool = False) -> None:
        """Write the speech and print the answer; its texts are already printed if `shown`.

        Raises AudioPaLMError if nobody speaks in the recording, and if the answer has no speech.
        """
        from audiopalm.data.audio import write_audio

        if not answer.segments:
            raise AudioPaLMError("nobody speaks in the recording")
        if answer.audio is not None and len(answer.audio) == 0:
            raise AudioPaLMError("the model answered with no speech; nothing was written")
        if answer.audio is not None:
            write_audio(self.files[name], answer.audio, answer.sampling_rate)
        if self.options.json:
            file = self.files.get(name)
            print(json.dumps({"input": name, "task": tag, "out": None if file is None else str(file),
                              **json.loads(answer.to_json())}, ensure_ascii=False), flush=True)
            return
        if self.options.srt:
            print(answer.to_srt(), end="")
        elif not shown:
            self.show(tag, answer.text, name if self.named else "")
        if answer.audio is not None:
            print(f"{self.files[name]}: {len(answer.audio) / answer.sampling_rate:.2f} s", flush=True)
        self.comment(name, answer)

    def comment(self, name: str, answer: "Answer") -> None:
        """Print confidence and warnings to standard error; standard output has only answers."""
        if answer.confidence is not None:
            print(f"{name + ': ' if self.named else ''}confidence {answer.confidence:.2f}", file=sys.stderr)
        if answer.truncated:
            print(f"audiopalm: warning: {name}: the answer was cut at its length limit", file=sys.stderr)
        if answer.inside is False:
            print(f"audiopalm: warning: {name}: this is not what the model was trained on; do not trust the answer",
                  file=sys.stderr)

    def fail(self, name: str, error: AudioPaLMError) -> int:
        """Print the error of an input; returns 1, the number of failures."""
        message = " ".join(str(error).split())
        print(f"audiopalm: error: {message if name in message else f'{name}: {message}'}", file=sys.stderr)
        return 1
