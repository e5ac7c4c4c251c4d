"""Examples: the fields of each utterance (texts and units) from a data directory and its token archives."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import read_object
from audiopalm.data.archive import TokenArchive
from audiopalm.data.datadir import languages_of, read_table
from audiopalm.languages import in_order

DATA_STAGE = "stages 1 and 2 (data, audio)"
UNITS_META = {"units_rate": int, "units_size": int, "units_sha256": str}  # required in meta.json of stage 5


@dataclass(frozen=True)
class Example:
    """One utterance in one language pair.

    fields: {name of audiopalm/tasks.py: value}; texts are str, audio fields are units, int32 `[T]`.
    """

    utterance: str
    source: str
    target: str | None
    fields: dict[str, str | np.ndarray]


class ExampleSet:
    """All utterances of a data directory.

    tokens: its folder of stage 5, or None for text-only training. text_dir: a data directory of parallel texts without
    audio (egs/joint), whose utterances are added. distorted: (data directory, tokens) of distorted copies, whose
    utterances are added too; their own speech is heard and never spoken. The attribute `languages` lists the codes of
    all sources and targets.

    Raises AudioPaLMError for missing files, for tokens of different units, and for an id that two directories have.
    """

    def __init__(self, data_dir: str | Path, tokens: str | Path | None = None, text_dir: str | Path | None = None,
                 distorted: Sequence[tuple[str | Path, str | Path]] = ()):
        self.data_dir, self.tokens, self.text_dir, self.distorted = Path(data_dir), tokens, text_dir, distorted
        self.text, self.language, self.speaker = {}, {}, {}
        self.translations: dict[str, dict[str, str]] = {}
        self.units: dict[str, int] | TokenArchive = {}
        self.target_units: dict[str, TokenArchive] = {}
        self.meta: dict = {}
        self._add_texts(self.data_dir, DATA_STAGE)
        if tokens is not None:
            self._add_tokens(Path(tokens))
        undistorted = set(self.text)
        for directory, folder in distorted:
            self._add_texts(Path(directory), DATA_STAGE)
            self._add_tokens(Path(folder))
        self._unspeakable = self.text.keys() - undistorted
        if text_dir is not None:
            self._add_texts(Path(text_dir), "audiopalm.bin.prepare_texts")
        self.languages = in_order({*self.language.values(), *self.translations, *self.target_units})
        self._of_language = {code: [] for code in self.languages}
        for utterance in sorted(self.language):
            self._of_language[self.language[utterance]].append(utterance)
        if not self.text:
            raise AudioPaLMError(f"{self.data_dir}/text is empty")

    def _add_texts(self, directory: Path, made_by: str) -> None:
        for table, name in ((self.text, "text"), (self.language, "utt2lang"), (self.speaker, "utt2spk")):
            found = read_table(directory / name, made_by)
            if common := table.keys() & found.keys():
                raise AudioPaLMError(f"{directory / name} has the id {min(common)!r}, which another data directory has "
                                     "too")
            table.update(found)
        for code in languages_of(directory, "text"):
            self.translations.setdefault(code, {}).update(read_table(directory / f"text.{code}"))

    def _add_tokens(self, folder: Path) -> None:
        meta = read_object(folder / "meta.json", "stage 5 (tokenize)", UNITS_META)
        if self.meta and meta["units_sha256"] != self.meta["units_sha256"]:
            raise AudioPaLMError(f"{folder} holds units of {meta['units_sha256']}, {self.tokens} those of "
                                 f"{self.meta['units_sha256']}; tokenize one of them again (stage 5)")
        self.meta = self.meta or meta
        units = TokenArchive(folder / "units.scp", size=meta["units_size"])
        # units.en.scp holds the spoken translation into English
        target_units = {path.name.split(".")[1]: TokenArchive(path, size=meta["units_size"])
                        for path in sorted(folder.glob("units.*.scp"))}
        if not self.units:
            self.units = units
        else:
            self.units.add(units)
        for code, archive in target_units.items():
            if code in self.target_units:
                self.target_units[code].add(archive)
            else:
                self.target_units[code] = archive

    def utterances(self, fields: set[str], source: str, target: str | None, spoken: bool = False) -> list[str]:
        """Sorted ids of the utterances in `source` that have all `fields` (names of audiopalm/tasks.py).

        spoken: their own speech is an output, so that distorted speech is left out.
        """
        tables = {"transcript": self.text, "audio": self.units,
                  "translation": self.translations.get(target, {}) if target else {},
                  "translated_audio": self.target_units.get(target, {}) if target else {}}
        return [utterance for utterance in self._of_language.get(source, [])
                if all(utterance in tables[field] for field in fields)
                and not (spoken and utterance in self._unspeakable)]

    def example(self, utterance: str, fields: set[str], target: str | None) -> Example:
        """One utterance with the given fields; no other field is read."""
        values: dict[str, str | np.ndarray] = {}
        for field in fields:
            if field == "transcript":
                values[field] = self.text[utterance]
            elif field == "audio":
                values[field] = self.units[utterance]
            elif field == "translation":
                values[field] = self.translations[target][utterance]
            elif field == "translated_audio":
                values[field] = self.target_units[target][utterance]
        return Example(utterance, self.language[utterance], target, values)


def read_set(data_dir: str | Path, tokens: str | Path) -> ExampleSet:
    """The utterances of a set with their tokens of stage 5; one with neither tokens nor wav.scp has texts alone.
    """
    spoken = Path(tokens).exists() or (Path(data_dir) / "wav.scp").exists()
    return ExampleSet(data_dir, tokens if spoken else None)
