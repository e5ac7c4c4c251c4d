"""CoVoST 2 (Wang et al., arXiv 2007.10310): translations of Common Voice 4, 21 languages into English and English
into 15.

A table `covost_v2.<source>_<target>.tsv` has `path translation split`; sentence and speaker come from Common Voice.
Train is `train` and `train_covost`; dev and test are Common Voice's. Texts are kept as published: the same rows as
the official script gives, but for backslashes, which that one eats.
"""

import logging
from dataclasses import dataclass, field
from pathlib import Path

from audiopalm.corpora.archives import unpack
from audiopalm.corpora.common_voice import Clip, find_language, read_clips
from audiopalm.corpora.data_set import DataSet, Utterance, write_sets
from audiopalm.corpora.tables import Account, read_rows
from audiopalm.errors import AudioPaLMError, nearest

INTO_ENGLISH = ("fr", "de", "es", "ca", "it", "ru", "zh-CN", "pt", "fa", "et", "mn", "nl", "tr", "ar", "sv-SE", "lv",
                "sl", "ta", "ja", "id", "cy")
FROM_ENGLISH = ("de", "tr", "fa", "sv-SE", "mn", "zh-CN", "cy", "ca", "sl", "et", "id", "ar", "ta", "lv", "ja")
SETS = {"train": "train", "train_covost": "train", "dev": "dev", "test": "test"}
PUBLISHED = {  # rows of train, dev and test (facebook/covost2 on the Hugging Face hub)
    "fr": (207374, 14760, 14760), "de": (127834, 13511, 13511), "es": (79015, 13221, 13221),
    "ca": (95854, 12730, 12730), "it": (31698, 8940, 8951), "ru": (12112, 6110, 6300), "zh-CN": (7085, 4843, 4898),
    "pt": (9158, 3318, 4023), "fa": (53949, 3445, 3445), "et": (1782, 1576, 1571), "mn": (2067, 1761, 1759),
    "nl": (7108, 1699, 1699), "tr": (3966, 1624, 1629), "ar": (2283, 1758, 1695), "sv-SE": (2160, 1349, 1595),
    "lv": (2337, 1125, 1629), "sl": (1843, 509, 360), "ta": (1358, 384, 786), "ja": (1119, 635, 684),
    "id": (1243, 792, 844), "cy": (1241, 690, 690), "en": (289430, 15531, 15531),
}


@dataclass
class Row:
    """One clip with its set and its translations {language: text}."""

    set: str
    translations: dict[str, str] = field(default_factory=dict)
    empty: list[str] = field(default_factory=list)  # languages whose translation has no text


def short_code(language: str) -> str:
    """`zh-CN` -> `zh`: the code used in our data directories."""
    return language.partition("-")[0]


def prepare(downloads: str | Path, output: str | Path, languages: list[str], unpacked: str | Path,
            max_drop: float = 0.05) -> dict:
    """Write <output>/{train,dev,test} for the source `languages` (Common Voice's codes) and return the report.

    `unpacked` is a folder for the contents of archives. Raises AudioPaLMError when a language is unknown or missing, or
    when more than `max_drop` of the rows of a set are dropped.
    """
    known = (*INTO_ENGLISH, "en")
    for language in languages:
        if language not in known:
            raise AudioPaLMError(f"CoVoST 2 has no source language {language!r}; {nearest(language, known)}")
    sets = {name: DataSet() for name in ("train", "dev", "test")}
    for language in languages or INTO_ENGLISH:
        _read_language(Path(downloads), language, Path(unpacked), sets)
    return write_sets(Path(output), sets, max_drop)


def _read_language(downloads: Path, language: str, unpacked: Path, sets: dict[str, DataSet]) -> None:
    accounts = {name: data.account for name, data in sets.items()}
    rows: dict[str, Row] = {}
    for target in FROM_ENGLISH if language == "en" else ("en",):
        table = _find_table(downloads, f"covost_v2.{language}_{target}.tsv", unpacked)
        if table is not None:
            _read_table(table, short_code(target), rows, accounts)
    if not rows:
        raise AudioPaLMError(f"CoVoST 2, {language!r}: no table covost_v2.{language}_*.tsv (or .tsv.tar.gz) with a row "
                             f"in {downloads}; the recipe's README.md says how to obtain it")
    folder = find_language(downloads, language, unpacked)
    clips = read_clips(folder, language, rows, accounts["train"])
    kept = dict.fromkeys(sets, 0)
    for name, row in rows.items():
        reason = _why_not(clips.get(name), row)
        sets[row.set].account.rows += 1
        if reason:
            sets[row.set].account.drop(name, reason)
            continue
        clip = clips[name]
        kept[row.set] += 1
        sets[row.set].account.lacking.update(f"translation into {code}" for code in row.empty)
        sets[row.set].utterances.append(Utterance(
            id=f"{clip.speaker}-{name.removesuffix('.mp3')}", speaker=clip.speaker, language=short_code(language),
            audio=clip.path, text=clip.sentence, translations=row.translations))
    expected = dict(zip(sets, PUBLISHED[language], strict=True))
    counted = {name: sum(row.set == name for row in rows.values()) for name in sets}
    if counted != expected:
        logging.warning("CoVoST 2, %s: %s rows of train, dev, test; published are %s", language,
                        ", ".join(map(str, counted.values())), ", ".join(map(str, expected.values())))
    logging.info("%s: kept %s", language,
                 ", ".join(f"{count} of {counted[name]} {name}" for name, count in kept.items()))


def _find_table(downloads: Path, name: str, unpacked: Path) -> Path | None:
    for place in (downloads / name, downloads / "covost2" / name):
        if place.is_file():
            return place
    for archive in (downloads / f"{name}.tar.gz", downloads / "covost2" / f"{name}.tar.gz"):
        if archive.is_file():
            found = unpack(archive, unpacked / "covost2") / name
            if found.is_file():
                return found
            raise AudioPaLMError(f"{archive} holds no {name}; fetch it again")
    return None


def _read_table(table: Path, target: str, rows: dict[str, Row], accounts: dict[str, Account]) -> None:
    """Add the translations of one table to `rows`; the first of equal paths counts."""
    for path, translation, split in read_rows(table, ["path", "translation", "split"], accounts["train"]):
        if split not in SETS:
            accounts["train"].rows += 1
            accounts["train"].drop(path, f"unknown split {split!r}")
            continue
        row = rows.setdefault(path, Row(SETS[split]))
        if target in row.translations or target in row.empty:
            accounts[row.set].rows += 1
            accounts[row.set].drop(path, "path appears twice")
        elif translation.strip():
            row.translations[target] = translation
        else:
            row.empty.append(target)


def _why_not(clip: Clip | None, row: Row) -> str | None:
    """The reason to drop a row, or None."""
    if clip is None:
        return "not in validated.tsv"
    if not clip.sentence.strip():
        return "empty sentence"
    if not row.translations:
        return "empty translation"
    if not clip.path.is_file():
        return "clip missing"
    if clip.path.stat().st_size == 0:
        return "clip of zero bytes"
    return None
