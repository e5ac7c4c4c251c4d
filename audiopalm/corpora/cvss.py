"""CVSS (Jia et al., arXiv 2201.03713): CoVoST 2's translations into English as speech.

Version C has one voice, version T the voice of the source speaker.

An archive per language holds `{train,dev,test}.tsv` (no header: name of the Common Voice clip, normalised English) and
`{train,dev,test}/<clip>.mp3.wav`, 24 kHz. The source speech and its text are Common Voice 4's.
"""

import logging
import re
from pathlib import Path
from typing import Any

import pyarrow

from audiopalm.core.errors import AudioPaLMError, nearest
from audiopalm.corpora.archives import unpack
from audiopalm.corpora.common_voice import Clip, clip_path, find_language, read_clips, why_not
from audiopalm.corpora.covost2 import INTO_ENGLISH, PUBLISHED, short_code
from audiopalm.corpora.data_set import DataSet, ReaderOptions, Utterance, compare, write_sets
from audiopalm.corpora.recordings import look_at
from audiopalm.corpora.tables import Account, read_rows

SETS = ("train", "dev", "test")
VERSIONS = ("c", "t")
RATE = 24000  # Hz
ROWS = {**PUBLISHED, "zh-CN": (7085, 4843, 4897)}  # those of CoVoST 2, without one row of Chinese


def prepare(options: ReaderOptions, version: str = "c") -> dict[str, Any]:
    """Write <output>/{train,dev,test} for the source languages (Common Voice's codes) and return the report.

    Raises AudioPaLMError when a language or version is unknown or missing, or when more than
    `options.max_drop` of the rows of a set are dropped.
    """
    if version not in VERSIONS:
        raise AudioPaLMError(f"CVSS has no version {version!r}; {nearest(version, VERSIONS)}")
    for language in options.languages:
        if language not in INTO_ENGLISH:
            raise AudioPaLMError(f"CVSS has no source language {language!r}; {nearest(language, INTO_ENGLISH)}")
    sets = {name: DataSet() for name in SETS}
    for language in options.languages or INTO_ENGLISH:
        _read_language(options.downloads, language, version, options.unpacked, sets)
    return write_sets(options.output, sets, options.max_drop)


def _read_language(downloads: Path, language: str, version: str, unpacked: Path, sets: dict[str, DataSet]) -> None:
    folder = _find(downloads, f"cvss_{version}_{short_code(language)}_en_v1.0", unpacked)
    for data in sets.values():
        data.account.begin(language)
    texts = {name: _read_texts(folder / f"{name}.tsv", data.account) for name, data in sets.items()}
    wanted = list({clip: None for table in texts.values() for clip in table})
    source = find_language(downloads, language, unpacked)
    clips = dict(zip(wanted, read_clips(source, language, pyarrow.array(wanted, pyarrow.string()),
                                        sets["train"].account), strict=True))
    for name, table in texts.items():
        _read_set(folder / name, source, language, table, clips, sets[name])
    compare(f"CVSS-{version.upper()}, {language}", "rows of train, dev, test", list(map(len, texts.values())),
            ROWS[language])


def _read_set(folder: Path, common_voice: Path, language: str, texts: dict[str, str], clips: dict[str, Clip | None],
              data: DataSet) -> None:
    """Add the utterances of one set of a language to `data`."""
    data.account.rows += len(texts)
    without_row = {path.name for path in folder.glob("*.wav")} - {f"{clip}.wav" for clip in texts}
    if without_row:
        logging.warning("CVSS, %s %s: %d recordings have no row, for example %s", language, folder.name,
                        len(without_row), min(without_row))
    other_rates: dict[int, str] = {}
    for clip, text in texts.items():
        source, spoken, audio = clips[clip], look_at(folder / f"{clip}.wav"), clip_path(common_voice, clip)
        reason = why_not(source, audio)
        if not reason and not text:
            reason = "empty translation"
        elif not reason and spoken.problem:
            reason = f"translation's recording {spoken.problem}"
        if source is None or spoken.path is None or reason:
            data.account.drop(clip, reason or "not in validated.tsv")
            continue
        if spoken.rate != RATE:
            other_rates.setdefault(spoken.rate, clip)
        data.utterances.append(Utterance(
            id=f"{source.speaker}-{clip.removesuffix('.mp3')}", speaker=source.speaker, language=short_code(language),
            audio=audio, text=source.sentence, translations={"en": text}, spoken={"en": spoken.path},
            spoken_seconds={"en": spoken.seconds}))
    for rate, clip in sorted(other_rates.items()):
        logging.warning("CVSS, %s %s: recordings at %d Hz instead of %d, for example %s; they are resampled", language,
                        folder.name, rate, RATE, clip)


def _find(downloads: Path, name: str, unpacked: Path) -> Path:
    """The folder with the tables of a language; where there is only an archive, it is unpacked."""
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
