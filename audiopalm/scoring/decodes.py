"""What stages 10 and 11 left for one set: finished decode folders, their hypotheses, references and audio."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import read_json, require, sha256
from audiopalm.data.datadir import read_table
from audiopalm.languages import language_name
from audiopalm.tasks import TASKS, Output, Task

DECODE, SYNTHESIZE = "stage 10 (decode)", "stage 11 (synthesize)"
SCORE = "stage 12 (score)"


@dataclass(frozen=True)
class Decode:
    """One folder exp/decode/<set>/<name>; `meta` is its meta.json."""

    folder: Path
    meta: dict[str, Any]

    @property
    def task(self) -> Task:
        return TASKS[self.meta["task"]]

    @property
    def source(self) -> str:
        return self.meta["source"]

    @property
    def target(self) -> str | None:
        return self.meta["target"]

    def spoken_language(self) -> str:
        """The language of the audio part."""
        return self.target or self.source

    def language(self, output: Output) -> str:
        """The language of a part."""
        return self.source if output.part in ("asr", "tts") else self.target

    def hypotheses(self, output: Output) -> dict[str, str]:
        """{utterance: text} of a text part, {utterance: audio path} of the audio part."""
        path = self.folder / ("wav.scp" if output.is_audio else output.part)
        table = read_table(path, SYNTHESIZE if output.is_audio else DECODE)
        if len(table) != self.meta["count"]:
            raise AudioPaLMError(f"{path} has {len(table)} utterances, meta.json says {self.meta['count']}; "
                                 f"run {SYNTHESIZE if output.is_audio else DECODE} again")
        others = [self.folder / part.part for part in self.task.outputs if not part.is_audio and part is not output]
        for other in others:  # the parts of a combined answer have the same utterances
            if odd := sorted(read_table(other, DECODE).keys() ^ table.keys()):
                raise AudioPaLMError(f"{path} and {other} have different utterances, e.g. {odd[0]!r}; run {DECODE} "
                                     "again")
        return table


class TestSet:
    """A set: its decodes, and lazily the tables of its data directory."""

    __test__ = False  # not a pytest class

    def __init__(self, decode_dir: str | Path, data_dir: str | Path, name: str):
        self.name, self.decode_dir, self.data_dir = name, Path(decode_dir) / name, Path(data_dir) / name
        self._tables: dict[str, dict[str, str]] = {}
        self.decodes = []
        for meta in sorted(self.decode_dir.glob("*/meta.json")):
            values = read_json(meta)
            if values["task"] in TASKS:
                self.decodes.append(Decode(meta.parent, values))
        if not self.decodes:
            raise AudioPaLMError(f"{self.decode_dir} holds no finished decode; run {DECODE} first")

    def table(self, name: str) -> dict[str, str]:
        """A table of the data directory, for example `text.en`."""
        if name not in self._tables:
            self._tables[name] = read_table(self.data_dir / name, "stage 2 (audio)")
        return self._tables[name]

    def references(self, decode: Decode, output: Output, utterances: Iterable[str]) -> dict[str, str]:
        """{utterance: words that the part should have}.

        Raises AudioPaLMError when an utterance has no words there, or is not in the language of the decode.
        """
        for code in (decode.source, decode.target):
            if code:
                language_name(code)
        table = self.table("text" if output.part in ("asr", "tts") else f"text.{decode.target}")
        languages = self.table("utt2lang")
        if strange := [name for name in utterances if languages.get(name, decode.source) != decode.source]:
            raise AudioPaLMError(f"{decode.folder} is of {decode.source!r}, but {strange[0]!r} is "
                                 f"{languages[strange[0]]!r} in {self.data_dir}/utt2lang; run {DECODE} again")
        found = {name: table.get(name, "") for name in utterances}
        if missing := [name for name, words in found.items() if not words]:
            raise AudioPaLMError(f"{self.data_dir} has no reference for {missing[0]!r}, which {decode.folder} decoded; "
                                 f"run {DECODE} again")
        return found

    def true_audio(self, decode: Decode) -> dict[str, str]:
        """{utterance: recording} of what the audio part should say; only where the recording exists."""
        name = f"wav.scp.{decode.target}" if decode.task.translates else "wav.scp"
        return self.table(name) if (self.data_dir / name).exists() else {}

    def true_tokens(self, language: str) -> dict[str, str]:
        """{utterance: speech made from true units}; empty where stage 11 was not asked for it."""
        path = self.decode_dir / f"true_tokens_{language}" / "wav.scp"
        return read_table(path) if path.exists() else {}

    def other_prompt(self, decode: Decode) -> dict[str, str]:
        """{utterance: the same units in another speaker's voice}; empty where stage 11 was not asked for it.

        Raises AudioPaLMError where the decode was spoken anew since.
        """
        folder = self.decode_dir / f"other_prompt_{decode.folder.name}"
        if not (folder / "wav.scp").exists():
            return {}
        spoken = sha256(require(decode.folder / "synthesis.json", SYNTHESIZE))
        if read_json(folder / "meta.json", SYNTHESIZE)["beside_sha256"] != spoken:
            raise AudioPaLMError(f"{decode.folder} was spoken anew after {folder}; run {SYNTHESIZE} with "
                                 "--other_prompts again, or remove the latter")
        return read_table(folder / "wav.scp")


def sets_of(decode_dir: str | Path) -> list[str]:
    """Names of the sets that have decodes."""
    found = sorted({path.parent.parent.name for path in Path(require(decode_dir, DECODE)).glob("*/*/meta.json")})
    if not found:
        raise AudioPaLMError(f"{decode_dir} holds no finished decode; run {DECODE} first")
    return found
