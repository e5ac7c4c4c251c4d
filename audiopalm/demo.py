"""The web page of `audiopalm demo`: speech or text in, texts and speech out. It needs no files from the network."""

import os

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

import atexit  # noqa: E402
import shutil  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from functools import cached_property  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import gradio  # noqa: E402
import numpy as np  # noqa: E402
import soundfile  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from scipy.signal import stft  # noqa: E402

from audiopalm.answer import Answer  # noqa: E402
from audiopalm.core.errors import AudioPaLMError  # noqa: E402
from audiopalm.data.audio import SAMPLE_RATE, read_audio  # noqa: E402
from audiopalm.inference import AudioPaLM  # noqa: E402
from audiopalm.languages import LANGUAGES, language_name  # noqa: E402
from audiopalm.tasks import AUDIO, TASKS, Task  # noqa: E402

LONGEST = 60  # seconds of a recording on the page; the command line takes any length
LONGEST_TEXT = 500  # characters
WAITING = 20  # requests in the queue
TEXTS = 2  # parts of an answer that are text, at most
CORPUS = Path(__file__).resolve().parents[1] / "egs" / "mini" / "corpus"
EXAMPLES = (("allison-es", "es"), ("june-fr", "fr"), ("carlo-it", "it"), ("ivr-ru", "ru"), ("allison-en", "en"))
WORDS = {"asr": "text", "ast": "translation", "mt": "translation", "s2st": "spoken translation", "tts": "speech"}
CSS = ".gradio-container {max-width: 1100px !important; margin: auto} footer {display: none !important}"


class Menus:
    """The tasks and languages that a model was trained on."""

    def __init__(self, model: AudioPaLM):
        trained = model.facts.trained
        cells = [(row.name, source, target) for row in TASKS.values() for source in LANGUAGES
                 for target in (LANGUAGES if row.translates else [None])] if trained is None else [
                     (row.task, row.source, row.target) for row in trained]
        self.cells = {cell for cell in cells if TASKS[cell[0]].tag}

    @cached_property
    def tasks(self) -> list[tuple[str, str]]:
        """(label, name) of each task: tasks with speech as input first, then by decreasing number of parts."""
        rows = [row for row in TASKS.values() if any(cell[0] == row.name for cell in self.cells)]
        rows.sort(key=lambda row: (row.input != AUDIO, -len(row.outputs)))
        return [(task_label(row), row.name) for row in rows]

    def sources(self, task: str) -> list[tuple[str, str]]:
        """(name, code) of the source languages of a task."""
        return named({source for name, source, _ in self.cells if name == task})

    def targets(self, task: str, source: str) -> list[tuple[str, str]]:
        """(name, code) of the target languages of a task with this source language; empty without translation."""
        return named({target for name, code, target in self.cells if (name, code) == (task, source) and target})


def named(codes: set[str]) -> list[tuple[str, str]]:
    """(name, code) of languages, in the order of the language table."""
    return [(name, code) for code, name in LANGUAGES.items() if code in codes]


def task_label(row: Task) -> str:
    """The label of a task in the menu, for example `Speech to text, translation`."""
    what = ", ".join(WORDS.get(output.part, output.part) for output in row.outputs)
    return f"{'Speech' if row.input == AUDIO else 'Text'} to {what}"


def spectrogram(samples: np.ndarray, title: str) -> Figure:
    """A spectrogram in dB of samples `[T]` at 16 kHz. It avoids pyplot, whose global state is not thread-safe."""
    _, times, values = stft(samples, SAMPLE_RATE, nperseg=400, noverlap=240)
    level = 20 * np.log10(np.abs(values) + 1e-5)
    figure = Figure(figsize=(6, 2.6), layout="constrained")
    axes = figure.subplots()
    axes.imshow(level, origin="lower", aspect="auto", cmap="magma", vmin=level.max() - 70,
                extent=(0, len(samples) / SAMPLE_RATE, 0, SAMPLE_RATE / 2000))
    axes.set(xlabel="seconds", ylabel="kHz", title=title)
    return figure


def make_examples(folder: Path) -> list[tuple[Path, str]]:
    """Write cuts of the embedded corpus to wav files in `folder`: (file, language) each. Empty without the corpus."""
    if not (CORPUS / "recordings" / "segments").is_file():
        return []
    lines = [line.split() for line in (CORPUS / "recordings" / "segments").read_text(encoding="utf-8").splitlines()]
    made = []
    for recording, code in EXAMPLES:
        cut = next((line for line in lines if line[1] == recording and 1.5 < float(line[3]) - float(line[2]) < 3), None)
        if cut is not None:
            start, end = (round(float(value) * SAMPLE_RATE) for value in cut[2:])
            samples, rate = soundfile.read(CORPUS / "recordings" / f"{recording}.ogg", start=start, stop=end)
            made.append((folder / f"{language_name(code)}.wav", code))
            soundfile.write(made[-1][0], samples, rate)
    return made


class Answering:
    """The function behind the button: answers the inputs of the page."""

    def __init__(self, model: AudioPaLM) -> None:
        self.model = model

    def __call__(self, task: str, source: str, target: str | None, speech: str | None, text: str,
                 voice: str | None) -> list[Any]:
        """The values of the texts, the player, both spectrograms and the notes. Raises gradio.Error with a message."""
        row = TASKS[task]
        if row.input == AUDIO:
            voice = None  # the page hides the voice of another task, and does not forget it
        began = time.monotonic()
        try:
            samples = self._check(row, speech, text, voice)
            tag = row.tag_text(source, target if row.translates else None)
            answer = (self.model(speech, tag, voice=voice) if row.input == AUDIO
                      else self.model(text=text, task=tag, voice=voice))
            if not answer.segments:
                raise AudioPaLMError("nobody speaks in the recording")
        except AudioPaLMError as error:
            raise gradio.Error(str(error), duration=None, print_exception=False) from None
        return self._values(row, source, target, answer, samples, time.monotonic() - began)

    def _check(self, row: Task, speech: str | None, text: str, voice: str | None) -> np.ndarray | None:
        """The samples `[T]` of the speech, None for a text; raises AudioPaLMError for missing and too long inputs."""
        if row.spoken and row.input != AUDIO and voice is None:
            raise AudioPaLMError("give a recording of the voice to speak in")
        if row.input != AUDIO and len(text or "") > LONGEST_TEXT:
            raise AudioPaLMError(f"the text has {len(text)} characters, the page takes {LONGEST_TEXT}")
        if row.input == AUDIO and speech is None:
            raise AudioPaLMError("give a recording: upload one or use the microphone")
        given = speech if row.input == AUDIO else voice
        if given is not None and (seconds := soundfile_seconds(given)) > LONGEST:
            raise AudioPaLMError(f"the recording lasts {seconds:.0f} s, the page takes {LONGEST} s; the command "
                                 "`audiopalm` takes any length")
        return read_audio(speech) if row.input == AUDIO and speech is not None else None

    def _values(self, row: Task, source: str, target: str | None, answer: Answer, samples: np.ndarray | None,
                seconds: float) -> list[Any]:
        """The values of the page after an answer; `samples` are those of the input, or None for a text."""
        spoken_in = {part: row.output(part).language(source, target) for part in answer.text}
        texts = [gradio.update(value=words, visible=True, label=language_name(spoken_in[part]))
                 for part, words in answer.text.items()]
        texts += [gradio.update(value="", visible=False)] * (TEXTS - len(texts))
        speech = answer.audio if answer.audio is not None and len(answer.audio) > 0 else None
        notes = [f"{seconds:.1f} s of computing"]
        if answer.confidence is not None:
            notes.insert(0, f"confidence {answer.confidence:.0%}")
        if answer.inside is False:
            notes.insert(0, "**This is not what the model was trained on: do not trust the answer.**")
        if answer.truncated:
            notes.append("cut at its length limit")
        return [*texts,
                gradio.update(value=None if speech is None else (answer.sampling_rate, to_int16(speech)),
                              visible=speech is not None),
                gradio.update(value=None if samples is None else spectrogram(samples, "The recording"),
                              visible=samples is not None),
                gradio.update(value=None if speech is None else spectrogram(speech, "The answer"),
                              visible=speech is not None),
                " · ".join(notes)]


def soundfile_seconds(path: str) -> float:
    """The length in seconds that the header states; 0 for an unreadable file, which the model refuses with a reason."""
    try:
        return soundfile.info(path).duration
    except (soundfile.LibsndfileError, RuntimeError):
        return 0.0


def to_int16(samples: np.ndarray) -> np.ndarray:
    """Samples `[T]` in [-1, 1] as int16."""
    return (np.clip(samples, -1, 1) * 32767).astype(np.int16)


def make_page(model: AudioPaLM) -> gradio.Blocks:  # longer than 60 lines: the layout, in the order of the page
    """The page for a model."""
    menus, answering = Menus(model), Answering(model)
    task = menus.tasks[0][1]
    sources = menus.sources(task)
    source = next((code for _, code in sources if code == "es"), sources[0][1])
    targets = menus.targets(task, source)
    hears, speaks = TASKS[task].input == AUDIO, TASKS[task].spoken is not None
    # Gradio removes recordings of visitors after an hour, and all of them when the page ends.
    with gradio.Blocks(title="AudioPaLM", analytics_enabled=False, delete_cache=(600, 3600)) as page:
        gradio.Markdown("# AudioPaLM\nOne language model that recognises, translates and speaks. Recordings stay on "
                        f"this machine. At most {LONGEST} s of speech, {LONGEST_TEXT} characters of text.")
        if model.facts.domain is not None:
            with gradio.Accordion("What can be said", open=False):
                gradio.Markdown(model.facts.domain.markdown())
        with gradio.Row():
            with gradio.Column():
                task_menu = gradio.Dropdown(menus.tasks, value=task, label="Task", filterable=False)
                with gradio.Row():
                    source_menu = gradio.Dropdown(sources, value=source, label="From", min_width=120, filterable=False)
                    target_menu = gradio.Dropdown(targets, value=targets[0][1] if targets else None, label="To",
                                                  min_width=120, filterable=False, visible=bool(targets))
                speech = gradio.Audio(label="Recording", sources=["upload", "microphone"], type="filepath",
                                      buttons=[], visible=hears)
                text = gradio.Textbox(label="Text", lines=2, max_length=LONGEST_TEXT, visible=not hears)
                voice = gradio.Audio(label="Voice to speak in", type="filepath", sources=["upload", "microphone"],
                                     buttons=[], visible=speaks and not hears)
                button = gradio.Button("Answer", variant="primary")
                folder = tempfile.mkdtemp(prefix="audiopalm_demo_")
                atexit.register(shutil.rmtree, folder, ignore_errors=True)
                examples = make_examples(Path(folder))
                known = {code for _, code in sources}
                rows = [[str(file), code] for file, code in examples if code in known]
                if rows:
                    gradio.Examples(rows, [speech, source_menu], label="Recordings of the embedded corpus",
                                    example_labels=[language_name(code) for _, code in rows])
            with gradio.Column():
                texts = [gradio.Textbox(label="Answer", lines=2, interactive=False, visible=number == 0)
                         for number in range(TEXTS)]
                notes = gradio.Markdown()  # beside the texts: a warning below the players would be off the screen
                player = gradio.Audio(label="Spoken answer", interactive=False, visible=False, buttons=["download"])
                pictures = [gradio.Plot(show_label=False, visible=False) for _ in range(2)]

        def choose_task(name: str, code: str) -> list[Any]:
            row, choices = TASKS[name], menus.sources(name)
            code = code if code in [known for _, known in choices] else choices[0][1]
            hears = row.input == AUDIO
            return [gradio.update(choices=choices, value=code), choose_source(name, code, None),
                    gradio.update(visible=hears), gradio.update(visible=not hears),
                    gradio.update(visible=row.spoken is not None and not hears)]

        def choose_source(name: str, code: str, chosen: str | None) -> Any:
            """An update without a list, because it is the only output: Gradio would use the list as the value."""
            choices = menus.targets(name, code)
            value = chosen if chosen in [known for _, known in choices] else choices[0][1] if choices else None
            return gradio.update(choices=choices, value=value, visible=bool(choices))

        task_menu.change(choose_task, [task_menu, source_menu], [source_menu, target_menu, speech, text, voice],
                         queue=False, show_progress="hidden", api_visibility="private")
        source_menu.change(choose_source, [task_menu, source_menu, target_menu], [target_menu], queue=False,
                           show_progress="hidden", api_visibility="private")
        button.click(answering, [task_menu, source_menu, target_menu, speech, text, voice],
                     [*texts, player, *pictures, notes], api_name="answer")
    return page.queue(max_size=WAITING, default_concurrency_limit=2)


def serve(page: gradio.Blocks, host: str, port: int) -> str:
    """Serve the page from threads of this process; prints and returns its address.

    Raises AudioPaLMError if the address cannot be served on.
    """
    theme = gradio.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])  # no web fonts
    try:
        _, address, _ = page.launch(server_name=host, server_port=port, prevent_thread_lock=True, quiet=True,
                                    show_error=True, share=False, ssr_mode=False, theme=theme, css=CSS,
                                    max_file_size="50mb", footer_links=[])
    except (OSError, OverflowError) as error:  # the second one for a port above 65535
        raise AudioPaLMError(f"{host}:{port} cannot be served on ({error}); choose another --port") from None
    print(f"open {address} in a browser; Ctrl-C ends it", flush=True)
    return address
