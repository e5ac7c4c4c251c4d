"""The common part of the corpus readers: utterances in; Kaldi data directories and an account of the rows out."""

import hashlib
import logging
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow
from pyarrow import compute

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import write_json, write_text
from audiopalm.corpora.tables import Account, counts
from audiopalm.data.datadir import remove_tables_by_language, table_writers, why_bad_id, write_lines, write_table


@dataclass(frozen=True)
class Cut:
    """A part of a recording, from `start` to `end` in seconds."""

    path: Path
    start: float
    end: float


@dataclass(frozen=True)
class ReaderOptions:
    """What every reader of a corpus is asked.

    downloads: the folder of the corpus. output: the folder for <set>/. unpacked: a folder for the contents of archives.
    languages: as the corpus spells them; none for all of them. max_drop: the fraction of a set's rows, 0 to 1, that may
    be dropped.
    """

    downloads: Path
    output: Path
    unpacked: Path
    languages: Sequence[str] = ()
    max_drop: float = 0.05


BLOCK = 10_000  # ids that are Python strings at once
NONE: Mapping[str, Any] = MappingProxyType({})  # shared by the million utterances without a spoken translation


@dataclass(slots=True)
class Utterance:
    """Speech with its transcript and, by language, translations as text and as speech.

    The speech is the file `audio` or, where `cuts` are given, these joined. Likewise a spoken translation is a file in
    `spoken` or `spoken_cuts`. `seconds` is the length of the speech where the reader knows it without decoding,
    `spoken_seconds` that of spoken translations.
    """

    id: str
    speaker: str
    language: str
    audio: Path | str
    text: str
    translations: dict[str, str] = field(default_factory=dict)
    spoken: Mapping[str, Path] = field(default_factory=lambda: NONE)
    cuts: Sequence[Cut] = ()
    spoken_cuts: Mapping[str, list[Cut]] = field(default_factory=lambda: NONE)
    seconds: float | None = None
    spoken_seconds: Mapping[str, float] = field(default_factory=lambda: NONE)


class UtteranceList(list[Utterance]):
    """The utterances of a set. covost2.py has another class with `select`, `append`, `len`, iteration and indices."""

    def select(self, places: np.ndarray) -> "UtteranceList":
        """The utterances at `places`, in that order."""
        return UtteranceList(self[place] for place in places)


@dataclass
class DataSet:
    """The utterances of one set, and the account of the rows that were read for it."""

    utterances: UtteranceList = field(default_factory=UtteranceList)
    account: Account = field(default_factory=Account)


def compare(corpus: str, what: str, measured: Sequence[float], published: Sequence[float],
            tolerance: float = 0.0) -> None:
    """Warn where a measured figure differs from the published one by more than `tolerance`, a fraction of the latter.

    This is not an error, because users may have only a part of a corpus.
    """
    if any(abs(have - want) > tolerance * want for have, want in zip(measured, published, strict=True)):
        shown = [", ".join(f"{value:.1f}" if isinstance(value, float) else str(value) for value in values)
                 for values in (measured, published)]
        logging.warning("%s: %s %s; published are %s", corpus, shown[0], what, shown[1])


def hours(utterances: Iterable[Utterance], language: str = "") -> float:
    """Hours of the utterances or, with a `language`, of their spoken translations into it."""
    return sum((row.spoken_seconds.get(language, 0.0) if language else row.seconds or 0.0)
               for row in utterances) / 3600


def write_sets(output: Path, sets: dict[str, DataSet], max_drop: float) -> dict[str, Any]:
    """Write <output>/<set>/ for every set, and <output>/report.json; return the report.

    dropped.tsv names every row that is left out of the set, lacking.tsv every utterance that lacks something.
    Raises AudioPaLMError, after writing report.json and dropped.tsv of all sets, when a set has no utterance or more
    than `max_drop` (0 to 1) of its rows, or of the rows of one of its languages, were dropped; then no table of any set
    is written.
    """
    report: dict[str, Any] = {}
    wrong: list[str] = []
    for name, data in sets.items():
        lost = _lost_languages(name, data.account, max_drop)
        _drop_unfit(data)
        _drop_repeated(data)
        report[name] = _report(data)
        for file, named in (("dropped.tsv", data.account.dropped), ("lacking.tsv", data.account.lacking)):
            write_text(output / name / file, "".join(f"{_one_line(key)}\t{why}\n" for key, why in named))
        write_json(output / name / "report.json", report[name])
        reasons = ", ".join(f"{count} {reason}" for reason, count in data.account.reasons.items())
        if not data.utterances:
            wrong.append(f"{name}: none of {data.account.rows} rows is left ({reasons or 'the tables have no row'})")
        elif data.account.share > max_drop:
            wrong.append(f"{name}: {len(data.account.dropped)} of {data.account.rows} rows dropped ({reasons}), more "
                         f"than --max_drop {max_drop:g}")
        else:
            wrong += lost
    write_json(output / "report.json", report)
    if wrong:
        raise AudioPaLMError(f"{wrong[0]}; all of them: {output}/<set>/dropped.tsv")
    for name, data in sets.items():
        _write_tables(output / name, data.utterances)
    return report


def _lost_languages(name: str, account: Account, max_drop: float) -> list[str]:
    """A line for each language that has lost too many rows of the set. The share of the set does not show the loss of a
    small language."""
    return [f"{name}: {len(dropped)} of {rows} rows of {language} dropped "
            f"({', '.join(f'{count} {reason}' for reason, count in counts(dropped).items())}), more than --max_drop "
            f"{max_drop:g}"
            for language, rows, dropped in account.by_language() if len(dropped) > max_drop * rows]


def _drop_unfit(data: DataSet) -> None:
    """Drop utterances with an invalid id, which would fail in a later stage or lead out of a folder."""
    rows = data.utterances
    fit = np.fromiter((why_bad_id(row.id) is None for row in rows), dtype=bool, count=len(rows))
    for place in np.flatnonzero(~fit):
        data.account.drop(rows[place].id, "invalid id")
    if not fit.all():
        data.utterances = rows.select(np.flatnonzero(fit))


def _drop_repeated(data: DataSet) -> None:
    """Sort by the bytes of the ids; of equal ids only the first stays."""
    rows = data.utterances
    blocks = (range(len(rows))[start:start + BLOCK] for start in range(0, len(rows), BLOCK))
    ids = pyarrow.chunked_array([pyarrow.array([rows[place].id for place in block]) for block in blocks],
                                pyarrow.string())
    ordered = rows.select(compute.sort_indices(ids).to_numpy())  # equal ids stay in their order
    del ids
    neighbours = pairwise(chain([""], (row.id for row in ordered)))
    again = np.fromiter((before == name for before, name in neighbours), dtype=bool, count=len(rows))
    for place in np.flatnonzero(again):
        data.account.drop(ordered[place].id, "id appears twice")
    data.utterances = ordered.select(np.flatnonzero(~again)) if again.any() else ordered


def _report(data: DataSet) -> dict[str, Any]:
    """Counts, hours and a checksum of one set, as values of JSON."""
    rows = data.utterances
    ids = hashlib.sha256()
    for row in rows:
        ids.update(f"{row.id}\n".encode())
    lengths = [row.seconds for row in rows if row.seconds is not None]
    measured: dict[str, Any] = {}
    if rows and len(lengths) == len(rows):
        measured = {"hours": round(hours(rows), 3),
                    "seconds": {"min": round(min(lengths), 2), "mean": round(sum(lengths) / len(lengths), 2),
                                "max": round(max(lengths), 2)}}
    return {
        "rows": data.account.rows,
        "kept": len(rows),
        "dropped": data.account.reasons,
        "lacking": counts(data.account.lacking),
        **measured,
        "hours_of_translations": {code: round(hours(rows, code), 3)
                                  for code in sorted({code for row in rows for code in row.spoken_seconds})},

        "languages": dict(sorted(Counter(row.language for row in rows).items())),
        "translations": dict(sorted(Counter(code for row in rows for code in row.translations).items())),
        "spoken_translations": dict(sorted(Counter(
            code for row in rows for code in [*row.spoken, *row.spoken_cuts]).items())),
        "speakers": len({row.speaker for row in rows}),
        "first": rows[0].id if rows else None,
        "first_dropped": data.account.dropped[0][0] if data.account.dropped else None,
        "ids_sha256": ids.hexdigest(),
    }


def _write_tables(directory: Path, rows: UtteranceList) -> None:
    """Write the tables of one set, line by line. `rows` are sorted by id, and so are the tables."""
    remove_tables_by_language(directory)
    (directory / "segments").unlink(missing_ok=True)
    speakers: dict[str, array] = {}  # {speaker: places in `rows`}
    for place, row in enumerate(rows):
        speakers.setdefault(row.speaker, array("i")).append(place)
    if any(row.cuts or row.spoken_cuts for row in rows):
        _write_segments(directory, rows)
    else:
        write_lines(directory / "wav.scp", ((row.id, str(row.audio)) for row in rows))
    write_lines(directory / "text", ((row.id, _one_line(row.text)) for row in rows))
    _write_by_language(directory, "text", rows, lambda row: {
        code: _one_line(text) for code, text in row.translations.items()})
    _write_by_language(directory, "wav.scp", rows, lambda row: row.spoken)
    write_lines(directory / "utt2spk", ((row.id, row.speaker) for row in rows))
    write_lines(directory / "spk2utt", ((speaker, " ".join(rows[place].id for place in speakers[speaker]))
                                        for speaker in sorted(speakers, key=str.encode)))
    write_lines(directory / "utt2lang", ((row.id, row.language) for row in rows))


def _write_by_language(directory: Path, name: str, rows: UtteranceList,
                       values: Callable[[Utterance], Mapping[str, object]]) -> None:
    """Write `<name>.<language>` for each language in the `values` of any row."""
    with table_writers(directory) as write:
        for row in rows:
            for language, value in values(row).items():
                write(f"{name}.{language}", row.id, str(value))


def _write_segments(directory: Path, rows: UtteranceList) -> None:
    """Write wav.scp and `segments`: id, then `recording start end` once or more; a recording is named by its file."""
    recordings: dict[str, str] = {}

    def line(cuts: Sequence[Cut]) -> str:
        recordings.update({cut.path.stem: str(cut.path) for cut in cuts})
        return " ".join(f"{cut.path.stem} {cut.start:.6f} {cut.end:.6f}" for cut in cuts)

    write_lines(directory / "segments", ((row.id, line(row.cuts or [_whole(row)])) for row in rows))
    _write_by_language(directory, "segments", rows, lambda row: {
        code: line(cuts) for code, cuts in row.spoken_cuts.items()})
    write_table(directory / "wav.scp", recordings)


def _whole(row: Utterance) -> Cut:
    """The whole recording of an utterance as a cut."""
    if row.seconds is None:
        raise ValueError(f"{row.id}: the length of a recording must be known where other utterances have cuts")
    return Cut(Path(row.audio), 0.0, row.seconds)


def _one_line(text: str) -> str:
    """A text without line ends, for a table. All else stays as published."""
    return text.replace("\r", " ").replace("\n", " ").strip()
