"""Synthetic speech: both sides of parallel texts, spoken by a TTS command or by a packed model of audiopalm.

Reads INPUT/{train,dev} of prepare_texts; writes OUTPUT/{train,dev} with wav.scp, wav.scp.<language> and the texts, and
OUTPUT/wav. A file is named by a hash of its text, its language and its speaker. Equal texts are therefore spoken once,
and a rerun speaks only the missing files.
"""

import hashlib
import logging
import shlex
import signal
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import soundfile

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import atomic_path, write_text
from audiopalm.core.lock import locked
from audiopalm.core.processes import end_with_parent
from audiopalm.core.progress import progress
from audiopalm.data.datadir import invert, languages_of, read_table, write_table

KINDS = ("train", "dev")
GROUP = 1000  # texts that are queued at a time; millions would fill the memory
MADE_BY = "audiopalm.bin.prepare_texts"


@dataclass(frozen=True)
class Saying:
    """A text, its language, and the file that its speech is written to."""

    text: str
    language: str
    path: Path


Speak = Callable[[Saying], str]  # writes the file; returns the reason of a failure, or an empty string


def speak_texts(source: Path, output: Path, name: str, make_speak: Callable[[], Speak], jobs: int,
                max_drop: float) -> None:
    """Speak both sides of the parallel texts of `source` into `output`.

    name: identifies the speaker in the names of files. make_speak: returns the function that speaks a text; it is
    called only if a file is missing. Raises AudioPaLMError if more than `max_drop` (0 to 1) of the texts stay unspoken,
    and if another process writes `output`.
    """
    tables = {kind: sayings_of(source / kind, output / "wav", name) for kind in KINDS}
    texts = {saying.path: saying for sides in tables.values() for table in sides.values() for saying in table.values()}
    with locked(output, "speak_texts"):
        missing = [saying for path, saying in texts.items() if not path.is_file()]
        logging.info("%d texts, %d of them not spoken yet", len(texts), len(missing))
        failed = speak_all(missing, make_speak(), jobs) if missing else {}
        write_text(output / "unspoken.tsv",
                   "".join(f"{path}\t{texts[path].language}\t{reason}\n" for path, reason in failed.items()))
        if len(failed) > max_drop * len(texts):
            path, reason = next(iter(failed.items()))
            raise AudioPaLMError(f"{len(failed)} of {len(texts)} texts could not be spoken, more than --max_drop "
                                 f"{max_drop:g}; {texts[path].text[:60]!r} in {texts[path].language}: {reason}")
        for kind, sides in tables.items():
            write_set(source / kind, output / kind, sides)


def sayings_of(directory: Path, folder: Path, speaker: str) -> dict[str, dict[str, Saying]]:
    """{"": the source texts, ".<language>": the translations}, each {utterance: Saying}; files are below `folder`."""
    source = read_table(directory / "utt2lang", MADE_BY)

    def saying(text: str, language: str) -> Saying:
        name = hashlib.sha256(f"{speaker}\n{language}\n{text}".encode()).hexdigest()[:20]
        return Saying(text, language, folder / name[:2] / f"{name}.wav")

    sides = {"": {key: saying(text, source[key]) for key, text in read_table(directory / "text").items()}}
    for code in languages_of(directory, "text"):
        sides[f".{code}"] = {key: saying(text, code) for key, text in read_table(directory / f"text.{code}").items()}
    return sides


def by_command(template: str) -> Speak:
    """A function that speaks by a command with the fields {text}, {lang} and {out}.

    Each word of the template is one argument, regardless of the contents of the text; no shell reads it.
    """
    words = shlex.split(template)

    def speak(saying: Saying) -> str:
        try:
            with atomic_path(saying.path) as partial:
                fields = {"{text}": saying.text, "{lang}": saying.language, "{out}": str(partial)}
                command = [_filled(word, fields) for word in words]
                result = subprocess.run(command, stdin=subprocess.DEVNULL, text=True, capture_output=True,
                                        preexec_fn=lambda: end_with_parent(signal.SIGKILL))
                lines = result.stderr.strip().splitlines()
                if result.returncode:
                    raise AudioPaLMError(f"exit code {result.returncode}, {lines[-1] if lines else 'no message'}")
                if soundfile.info(str(partial)).frames == 0:
                    raise AudioPaLMError("a recording without samples")
        except (AudioPaLMError, OSError, soundfile.LibsndfileError) as error:
            return f"{words[0]}: {error}"
        return ""

    return speak


def _filled(word: str, fields: dict[str, str]) -> str:
    """`word` with its fields replaced in one pass, so that a text may contain `{out}`."""
    first = min((field for field in fields if field in word), key=word.index, default=None)
    if first is None:
        return word
    before, _, after = word.partition(first)
    return before + fields[first] + _filled(after, fields)


def speak_all(todo: list[Saying], speak: Speak, jobs: int) -> dict[Path, str]:
    """Speak all texts with `jobs` threads; return {file: reason} of the failures."""
    failed = {}
    pool = ThreadPoolExecutor(jobs)
    try:
        groups = (todo[start:start + GROUP] for start in range(0, len(todo), GROUP))
        results = (pair for group in groups for pair in zip(group, pool.map(speak, group), strict=True))
        for saying, reason in progress(results, len(todo), "speaking"):
            if reason:
                failed[saying.path] = " ".join(reason.split())
    finally:
        pool.shutdown(cancel_futures=True)
    return failed


def write_set(source: Path, target: Path, sides: dict[str, dict[str, Saying]]) -> None:
    """Write the tables of the utterances whose source text was spoken, with those of their translations."""
    spoken = {suffix: {key: str(saying.path.resolve()) for key, saying in table.items() if saying.path.is_file()}
              for suffix, table in sides.items()}
    utterances = spoken[""].keys()
    for suffix, table in spoken.items():
        write_table(target / f"wav.scp{suffix}", {key: path for key, path in table.items() if key in utterances})
    for name in ("utt2lang", "utt2spk", *(f"text{suffix}" for suffix in sides)):
        table = read_table(source / name)
        write_table(target / name, {key: value for key, value in table.items() if key in utterances})
    write_table(target / "spk2utt", invert(read_table(target / "utt2spk")))
    logging.info("wrote %s: %d utterances of %d", target, len(utterances), len(sides[""]))
