"""Examples: what a data directory and its token archives say about each utterance, per language pair."""

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
    """(audio, transcript, translated audio, translated transcript) of one utterance; audio as units int32 `[T]`."""

    utterance: str
    source: str
    target: str | None
    fields: dict[str, str | np.ndarray]


class ExampleSet:
    """All utterances of a data directory; `tokens` is its folder of stage 5, or None for text-only training.

    `text_dir` is a data directory without audio, of parallel texts (egs/joint), whose utterances are added.

    `languages` are the codes that occur in it, as source or as target.
    """

    def __init__(self, data_dir: str | Path, tokens: str | Path | None = None, text_dir: str | Path | None = None):
        self.data_dir = Path(data_dir)
        self.text = read_table(self.data_dir / "text", DATA_STAGE)
        self.language = read_table(self.data_dir / "utt2lang", DATA_STAGE)
        self.speaker = read_table(self.data_dir / "utt2spk", DATA_STAGE)
        self.translations = {code: read_table(self.data_dir / f"text.{code}")
                             for code in languages_of(self.data_dir, "text")}
        self.units: dict[str, int] | TokenArchive = {}
        self.target_units: dict[str, TokenArchive] = {}
        self.meta: dict = {}
        if tokens is not None:
            self.meta = read_object(Path(tokens) / "meta.json", "stage 5 (tokenize)", UNITS_META)
            size = self.meta["units_size"]
            self.units = TokenArchive(Path(tokens) / "units.scp", size=size)
            # units.en.scp holds the spoken translation into English
            self.target_units = {path.name.split(".")[1]: TokenArchive(path, size=size)
                                 for path in sorted(Path(tokens).glob("units.*.scp"))}
        if text_dir is not None:
            self._add_texts(Path(text_dir))
        self.languages = in_order({*self.language.values(), *self.translations, *self.target_units})
        self._of_language = {code: [] for code in self.languages}
        for utterance in sorted(self.language):
            self._of_language[self.language[utterance]].append(utterance)
        if not self.text:
            raise AudioPaLMError(f"{self.data_dir}/text is empty")

    def _add_texts(self, directory: Path) -> None:
        for table, name in ((self.text, "text"), (self.language, "utt2lang"), (self.speaker, "utt2spk")):
            table.update(read_table(directory / name, "audiopalm.bin.prepare_texts"))
        for code in languages_of(directory, "text"):
            self.translations.setdefault(code, {}).update(read_table(directory / f"text.{code}"))

    def utterances(self, fields: set[str], source: str, target: str | None) -> list[str]:
        """Ids spoken in `source` for which all `fields` (names of audiopalm/tasks.py) exist, sorted."""
        holders = {"transcript": self.text, "audio": self.units,
                   "translation": self.translations.get(target, {}) if target else {},
                   "translated_audio": self.target_units.get(target, {}) if target else {}}
        return [utterance for utterance in self._of_language.get(source, [])
                if all(utterance in holders[field] for field in fields)]

    def example(self, utterance: str, fields: set[str], target: str | None) -> Example:
        """Read only what `fields` names."""
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
