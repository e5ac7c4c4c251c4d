"""CoVoST 2 (Wang et al., arXiv 2007.10310): translations of Common Voice 4, 21 languages into English and English
into 15.

A table `covost_v2.<source>_<target>.tsv` has `path translation split`; sentence and speaker come from Common Voice.
Train is `train` and `train_covost`; dev and test are Common Voice's. Texts are kept as published: the same rows as
the official script gives, but for backslashes, which that one eats.
"""

import logging
from pathlib import Path
from typing import NamedTuple

from audiopalm.corpora.archives import unpack
from audiopalm.corpora.common_voice import clip_path, find_language, read_clips, why_not
from audiopalm.corpora.data_set import DataSet, Utterance, compare, write_sets
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

# Hours of source speech in train, dev and test, as remembered from the paper of CVSS. They are known after stage 2.
HOURS = {
    "fr": (264.3, 21.7, 23.3), "de": (184.3, 20.7, 21.5), "ca": (135.6, 19.0, 20.2), "es": (113.1, 21.8, 22.7),
    "fa": (49.2, 4.6, 5.0), "it": (44.2, 14.3, 15.4), "ru": (18.2, 9.9, 10.6), "zh-CN": (10.4, 7.9, 8.2),
    "pt": (10.3, 4.4, 5.3), "nl": (7.3, 1.7, 1.8), "tr": (4.1, 1.8, 2.0),
}


class Row(NamedTuple):  # there are a million of them
    """One clip with its set and its translations (language, text), some of them without text."""

    set: str
    translations: tuple[tuple[str, str], ...]


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
        translations = {code: text for code, text in row.translations if text}
        clip, audio = clips.get(name), clip_path(folder, name)
        reason = why_not(clip, audio) or (None if translations else "empty translation")
        sets[row.set].account.rows += 1
        if reason:
            sets[row.set].account.drop(name, reason)
            continue
        kept[row.set] += 1
        for code, text in row.translations:
            if not text:
                sets[row.set].account.lack(name, f"translation into {code}")
        sets[row.set].utterances.append(Utterance(
            id=f"{clip.speaker}-{name.removesuffix('.mp3')}", speaker=clip.speaker, language=short_code(language),
            audio=audio, text=clip.sentence, translations=translations))
    counted = {name: sum(row.set == name for row in rows.values()) for name in sets}
    compare(f"CoVoST 2, {language}", "rows of train, dev, test", list(counted.values()), PUBLISHED[language])
    add_published_hours(sets, language)
    logging.info("%s: kept %s", language,
                 ", ".join(f"{count} of {counted[name]} {name}" for name, count in kept.items()))


def add_published_hours(sets: dict[str, DataSet], language: str) -> None:
    """Put the hours of source speech into the reports, to be compared with those that stage 2 finds."""
    for data, figure in zip(sets.values(), HOURS.get(language, ()), strict=False):
        data.published_hours[short_code(language)] = figure


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
        text = "" if translation.isspace() else translation
        row = rows.get(path)
        if row is None:
            rows[path] = Row(SETS[split], ((target, text),))
        elif any(code == target for code, _ in row.translations):
            accounts[row.set].rows += 1
            accounts[row.set].drop(path, "path appears twice")
        else:
            rows[path] = Row(row.set, (*row.translations, (target, text)))
