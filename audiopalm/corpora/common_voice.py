"""Common Voice 4 (`cv-corpus-4-2019-12-10`), the source audio of CoVoST 2 and CVSS: clips, sentences and speakers.

It is no longer offered for download. Users provide it as archives or unpacked, in one of several layouts.
"""

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow
from pyarrow import compute

from audiopalm.core.errors import AudioPaLMError
from audiopalm.corpora.archives import unpack
from audiopalm.corpora.data_set import compare
from audiopalm.corpora.tables import Account, optional_values, places, read_columns

RELEASE = "cv-corpus-4-2019-12-10"
LATER_COLUMNS = ("locale", "segment", "variant", "accents")  # of release 5 and later
SPEAKER_DIGITS = 16  # of the 128 hexadecimal digits of a client_id
VALIDATED = {  # rows of validated.tsv in release 4 (Mozilla's cv-dataset)
    "fr": 264897, "de": 370976, "es": 112127, "ca": 175625, "it": 56009, "ru": 47987, "zh-CN": 16898, "pt": 22131,
    "fa": 188313, "et": 5679, "mn": 6371, "nl": 22954, "tr": 12364, "ar": 6839, "sv-SE": 5898, "lv": 5098, "sl": 2972,
    "ta": 2528, "ja": 2438, "id": 2881, "cy": 47059, "en": 854444,
}


class Clip(NamedTuple):  # there are a million of them
    """One recording: its sentence as written, and a speaker id that is unique in all languages; see `clip_path`."""

    sentence: str
    speaker: str


@dataclass(frozen=True)
class Clips:
    """Sentences and speakers of the requested clips, in the order of the request.

    A clip that validated.tsv lacks has the sentence null and the speaker -1; the others have an index into `names`.
    """

    sentences: pyarrow.StringArray
    speakers: pyarrow.Int32Array
    names: list[str]

    def __iter__(self) -> Iterator[Clip | None]:
        for sentence, speaker in zip(optional_values(self.sentences), optional_values(self.speakers), strict=True):
            yield None if sentence is None or speaker < 0 else Clip(sentence, self.names[speaker])


def find_language(downloads: Path, language: str, unpacked: Path) -> Path:
    """The folder with `validated.tsv` and `clips/` of a language; where there is only an archive, it is unpacked.

    Raises AudioPaLMError, with the paths that were tried, where there is neither.
    """
    folders = [downloads / language, downloads / RELEASE / language, downloads / f"{RELEASE}-{language}" / language,
               downloads / f"{RELEASE}-{language}", downloads]
    for folder in folders:
        if (folder / "validated.tsv").is_file() and (folder / "clips").is_dir() and (
                folder != downloads or _is_of(folder, language)):
            return folder
    archives = [downloads / name for name in (f"{language}.tar.gz", f"{RELEASE}-{language}.tar.gz")]
    for archive in archives:
        if archive.is_file():
            root = unpack(archive, unpacked / "common_voice")
            for folder in (root, root / language, root / RELEASE / language):
                if (folder / "validated.tsv").is_file() and (folder / "clips").is_dir():
                    return folder
            raise AudioPaLMError(f"{archive} holds no validated.tsv with clips/: it is not Common Voice's archive of "
                                 f"{language!r}, or is cut off")
    tried = ", ".join(str(path.relative_to(downloads)) for path in [*folders[:-1], *archives])
    raise AudioPaLMError(f"Common Voice 4, {language!r}: nothing found in {downloads} (looked for {tried}); "
                         "the recipe's README.md says how to obtain it")


def _is_of(folder: Path, language: str) -> bool:
    """Whether the first clip of validated.tsv is of the language: `common_voice_<language>_<number>.mp3`."""
    with open(folder / "validated.tsv", encoding="utf-8", errors="replace") as lines:
        return f"common_voice_{language}_" in "".join(islice(lines, 1, 2))


def clip_path(folder: Path, name: str) -> str:
    """The path of a clip's file, which may not exist. `folder` is the folder of the language, `name` ends in .mp3."""
    return f"{folder}/clips/{name}"


def why_not(clip: Clip | None, path: str) -> str | None:
    """The reason why a clip cannot be used: its row, its sentence or its file is missing. None for a usable clip."""
    if clip is None:
        return "not in validated.tsv"
    if not clip.sentence.strip():
        return "empty sentence"
    try:
        size = os.stat(path).st_size
    except OSError:
        return "clip missing"
    return None if size else "clip of zero bytes"


def read_clips(folder: Path, language: str, wanted: pyarrow.StringArray, bad: Account) -> Clips:
    """The clips of the `wanted` names (with .mp3), in that order, from validated.tsv; the first of equal names counts.

    Rows that do not fit go to `bad`. A release other than 4 gives a warning, because it has other clips.
    """
    table = folder / "validated.tsv"
    with open(table, encoding="utf-8-sig", errors="replace") as lines:
        columns = lines.readline().split()
    clients, names, sentences = read_columns(table, ["client_id", "path", "sentence"], bad, recurring=["client_id"])
    count = len(names)
    whole = compute.ends_with(names, ".mp3")
    if compute.any(compute.invert(whole)).as_py():
        names = compute.if_else(whole, names, compute.binary_join_element_wise(names, ".mp3", ""))
    rows = places(wanted, names)
    missing = rows < 0
    clips = Clips(sentences.take(pyarrow.array(rows, mask=missing)), *_speakers(clients, rows, language))
    if any(column in columns for column in LATER_COLUMNS):
        logging.warning("%s is of Common Voice 5 or later, but CoVoST 2 and CVSS belong to release 4: %d of %d clips "
                        "are in it", table, (~missing).sum(), len(wanted))
    compare(f"Common Voice 4, {language}", "rows of validated.tsv", [count], [VALIDATED[language]])
    return clips


def _speakers(clients: pyarrow.DictionaryArray, rows: np.ndarray,
              language: str) -> tuple[pyarrow.Int32Array, list[str]]:
    """The speaker of each of the `rows` as an index into the speaker ids, -1 for the row -1; and these ids.

    An id has the first digits of the client_id, or all digits where an earlier speaker has the same first digits.
    """
    numbers = clients.indices.to_numpy()
    wanted = numbers[np.sort(rows[rows >= 0])]
    _, first = np.unique(wanted, return_index=True)
    names: list[str] = []
    taken: set[str] = set()
    codes = np.full(len(clients.dictionary) + 1, -1, dtype=np.int32)  # the last one is for the row -1
    for number in wanted[np.sort(first)].tolist():
        client = clients.dictionary[number].as_py()
        short = client[:SPEAKER_DIGITS]
        codes[number] = len(names)
        names.append(f"{language}-{(client if short in taken else short) or 'unknown'}")
        taken.add(short)
    return pyarrow.array(codes[np.where(rows < 0, -1, numbers[rows] if len(numbers) else -1)]), names
