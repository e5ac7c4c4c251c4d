"""CVSS (Jia et al., arXiv 2201.03713): CoVoST 2's translations into English, spoken; C in one voice, T in the source's.

An archive per language holds `{train,dev,test}.tsv` (no header: name of the Common Voice clip, normalised English) and
`{train,dev,test}/<clip>.mp3.wav`, 24 kHz. The source speech and its text are Common Voice 4's.
"""

import logging
import re
from pathlib import Path

from audiopalm.corpora.archives import unpack
from audiopalm.corpora.common_voice import find_language, read_clips
from audiopalm.corpora.covost2 import INTO_ENGLISH, short_code
from audiopalm.corpora.data_set import DataSet, Utterance, write_sets
from audiopalm.corpora.tables import Account, read_rows
from audiopalm.errors import AudioPaLMError, nearest

SETS = ("train", "dev", "test")
VERSIONS = ("c", "t")


def prepare(downloads: str | Path, output: str | Path, languages: list[str], unpacked: str | Path,
            max_drop: float = 0.05, version: str = "c") -> dict:
    """Write <output>/{train,dev,test} for the source `languages` (Common Voice's codes) and return the report.

    Raises AudioPaLMError when a language or version is unknown or missing, or when more than `max_drop` of the rows of
    a set are dropped.
    """
    if version not in VERSIONS:
        raise AudioPaLMError(f"CVSS has no version {version!r}; {nearest(version, VERSIONS)}")
    for language in languages:
        if language not in INTO_ENGLISH:
            raise AudioPaLMError(f"CVSS has no source language {language!r}; {nearest(language, INTO_ENGLISH)}")
    sets = {name: DataSet() for name in SETS}
    for language in languages or INTO_ENGLISH:
        _read_language(Path(downloads), language, version, Path(unpacked), sets)
    return write_sets(Path(output), sets, max_drop)


def _read_language(downloads: Path, language: str, version: str, unpacked: Path, sets: dict[str, DataSet]) -> None:
    folder = _find(downloads, f"cvss_{version}_{short_code(language)}_en_v1.0", unpacked)
    texts = {name: _read_texts(folder / f"{name}.tsv", data.account) for name, data in sets.items()}
    wanted = {clip for table in texts.values() for clip in table}
    clips = read_clips(find_language(downloads, language, unpacked), language, wanted, Account())
    for name, table in texts.items():
        data = sets[name]
        data.account.rows += len(table)
        spoken_by_nobody = {path.name for path in (folder / name).glob("*.wav")} - {f"{clip}.wav" for clip in table}
        if spoken_by_nobody:
            logging.warning("CVSS, %s %s: %d recordings have no row, for example %s", language, name,
                            len(spoken_by_nobody), min(spoken_by_nobody))
        for clip, text in table.items():
            recording, source = folder / name / f"{clip}.wav", clips.get(clip)
            reason = None
            if source is None:
                reason = "not in validated.tsv"
            elif not text:
                reason = "empty translation"
            elif not source.sentence.strip():
                reason = "empty sentence"
            elif not _holds_data(recording):
                reason = "translation's recording missing"
            elif not _holds_data(source.path):
                reason = "clip missing"
            if reason:
                data.account.drop(clip, reason)
            else:
                data.utterances.append(Utterance(
                    id=f"{source.speaker}-{clip.removesuffix('.mp3')}", speaker=source.speaker,
                    language=short_code(language), audio=source.path, text=source.sentence,
                    translations={"en": text}, spoken={"en": recording}))


def _find(downloads: Path, name: str, unpacked: Path) -> Path:
    for folder in (downloads / name, downloads / name.removesuffix("_v1.0"), downloads / "cvss" / name):
        if (folder / "train.tsv").is_file():
            return folder
    for archive in (downloads / f"{name}.tar.gz", downloads / "cvss" / f"{name}.tar.gz"):
        if archive.is_file():
            root = unpack(archive, unpacked / "cvss")
            for folder in (root, root / name):
                if all((folder / f"{split}.tsv").is_file() for split in SETS):
                    return folder
            raise AudioPaLMError(f"{archive} lacks one of train.tsv, dev.tsv, test.tsv: it is cut off; fetch it again")
    raise AudioPaLMError(f"CVSS: neither {name}.tar.gz nor a folder {name} in {downloads}; "
                         "the recipe's README.md says how to obtain it")


def _read_texts(table: Path, account: Account) -> dict[str, str]:
    """{clip: English in lower case without punctuation}; the first of equal names counts."""
    texts: dict[str, str] = {}
    for clip, text in read_rows(table, ["clip", "text"], account, header=["clip", "text"]):
        if clip in texts:
            account.rows += 1
            account.drop(clip, "clip appears twice")
        else:
            texts[clip] = " ".join(re.sub(r"[^\w\s']|_", " ", text.lower()).split())
    return texts


def _holds_data(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0
