"""The outputs of stages 10 and 11 for one set: finished decode folders, with their hypotheses, references and audio."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import read_json, require, sha256
from audiopalm.data.columns import TableFile
from audiopalm.data.datadir import read_table
from audiopalm.languages import language_name
from audiopalm.scoring.results import ResultRow, select
from audiopalm.stages.decode_record import (
    DECODE,
    SYNTHESIZE,
    check_decodes,
    check_spoken,
    check_spoken_alike,
    decode_fingerprint,
)
from audiopalm.tasks import TASKS, Output, Task

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

    def language(self, output: Output) -> str:
        """The language code of a part."""
        return output.language(self.source, self.target)

    def check_language(self) -> None:
        """Raise AudioPaLMError for an unknown language."""
        for code in (self.source, self.target):
            if code:
                language_name(code)

    def hypotheses(self, output: Output) -> TableFile:
        """{utterance: text} of a text part, {utterance: audio path} of the audio part.

        Raises AudioPaLMError if the table is missing or incomplete, if it and another part have different utterances,
        or if the speech was made from earlier units.
        """
        path = self.folder / ("wav.scp" if output.is_audio else output.part)
        if output.is_audio:
            check_spoken(self.folder)
        table = TableFile(path, SYNTHESIZE if output.is_audio else DECODE)
        if len(table) != self.meta["count"]:
            raise AudioPaLMError(f"{path} has {len(table)} utterances, meta.json says {self.meta['count']}; "
                                 f"run {SYNTHESIZE if output.is_audio else DECODE} again")
        others = [self.folder / part.part for part in self.task.outputs if not part.is_audio and part is not output]
        for other in others:  # the parts of a combined answer have the same utterances
            if odd := table.other_ids(TableFile(other, DECODE, table.columns.ids)):
                raise AudioPaLMError(f"{path} and {other} have different utterances, e.g. {odd[0]!r}; run {DECODE} "
                                     "again")
        return table


class TestSet:
    """A set: its decodes, and the tables of its data directory, which are read when they are needed.

    Raises AudioPaLMError if there are no decodes, or if they are not those that stage 10 recorded last.
    """

    __test__ = False  # not a pytest class

    def __init__(self, decode_dir: str | Path, data_dir: str | Path, name: str) -> None:
        self.name, self.decode_dir, self.data_dir = name, Path(decode_dir) / name, Path(data_dir) / name
        self._tables: dict[str, TableFile] = {}
        self.decodes = []
        for meta in sorted(self.decode_dir.glob("*/meta.json")):
            values = read_json(meta)
            if values["task"] in TASKS:
                self.decodes.append(Decode(meta.parent, values))
        if not self.decodes:
            raise AudioPaLMError(f"{self.decode_dir} holds no finished decode; run {DECODE} first")
        check_decodes(self.decode_dir, {decode.folder.name: decode.meta for decode in self.decodes})

    def check_scores(self, rows: Iterable[ResultRow]) -> None:
        """Raise AudioPaLMError if a row of this set scores another decode than the present one."""
        present = {(decode.task.name, decode.source, decode.target): decode for decode in self.decodes}
        for row in select(rows, set=self.name, decode=lambda fingerprint: fingerprint is not None):
            decode = present.get((row.task, row.source or "", row.target))
            if decode is None or row.decode != decode_fingerprint(decode.folder):
                folder = decode.folder if decode else f"the {row.task} of {row.languages} in {self.decode_dir}"
                raise AudioPaLMError(f"the scores are not of {folder}, which was made, spoken or removed since; run "
                                     f"{SCORE} again")

    def table(self, name: str) -> TableFile:
        """A table of the data directory, for example `text.en`. Raises AudioPaLMError if it is missing."""
        if name not in self._tables:
            known = next(iter(self._tables.values())).columns.ids if self._tables else None
            self._tables[name] = TableFile(self.data_dir / name, "stage 2 (audio)", known)
        return self._tables[name]

    def references(self, decode: Decode, output: Output, utterances: Iterable[str]) -> dict[str, str]:
        """{utterance: reference text of the part}.

        Raises AudioPaLMError if an utterance has no reference, or is not in the language of the decode.
        """
        decode.check_language()
        table = self.table(f"text.{decode.target}" if output.is_translated else "text")
        languages = self.table("utt2lang")
        if strange := [name for name in utterances if languages.get(name, decode.source) != decode.source]:
            raise AudioPaLMError(f"{decode.folder} is of {decode.source!r}, but {strange[0]!r} is "
                                 f"{languages[strange[0]]!r} in {self.data_dir}/utt2lang; run {DECODE} again")
        references = {name: table.get(name, "") for name in utterances}
        if missing := [name for name, words in references.items() if not words]:
            raise AudioPaLMError(f"{self.data_dir} has no reference for {missing[0]!r}, which {decode.folder} decoded; "
                                 f"run {DECODE} again")
        return references

    def true_audio(self, decode: Decode, output: Output) -> Mapping[str, str]:
        """{utterance: path of the true recording of an audio part}; empty if the set has no such recordings."""
        name = f"wav.scp.{decode.target}" if output.is_translated else "wav.scp"
        return self.table(name) if (self.data_dir / name).exists() else {}

    def true_tokens(self, decode: Decode, output: Output) -> dict[str, str]:
        """{utterance: path of speech made from true units}; empty if stage 11 was not asked for it.

        Raises AudioPaLMError if it was made by other models or settings than the speech of the decode.
        """
        folder = self.decode_dir / f"true_tokens_{decode.language(output)}"
        if not (folder / "wav.scp").exists():
            return {}
        check_spoken_alike(folder, decode.folder)
        return read_table(folder / "wav.scp")

    def other_prompt(self, decode: Decode) -> dict[str, str]:
        """{utterance: path of the same units in another speaker's voice}; empty if stage 11 was not asked for it.

        Raises AudioPaLMError if the decode was spoken again after it.
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
    """Names of the sets that have decodes, sorted. Raises AudioPaLMError if there are none."""
    names = sorted({path.parent.parent.name for path in Path(require(decode_dir, DECODE)).glob("*/*/meta.json")})
    if not names:
        raise AudioPaLMError(f"{decode_dir} holds no finished decode; run {DECODE} first")
    return names
