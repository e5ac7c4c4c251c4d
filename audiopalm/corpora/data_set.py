"""What the readers of public corpora have in common: utterances in, Kaldi data directories and an account out."""

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import soundfile

from audiopalm.corpora.tables import Account
from audiopalm.data.datadir import invert, write_table
from audiopalm.data.files import write_json, write_text
from audiopalm.errors import AudioPaLMError


@dataclass(frozen=True)
class Cut:
    """A piece of a recording, in seconds."""

    path: Path
    start: float
    end: float


@dataclass
class Utterance:
    """Speech with its transcript and, by language, translations as text and as speech.

    The speech is the file `audio` or, where they are given, `cuts` joined; so it is for translations.
    """

    id: str
    speaker: str
    language: str
    audio: Path
    text: str
    translations: dict[str, str] = field(default_factory=dict)
    spoken: dict[str, Path] = field(default_factory=dict)
    cuts: list[Cut] = field(default_factory=list)
    spoken_cuts: dict[str, list[Cut]] = field(default_factory=dict)


@dataclass
class DataSet:
    utterances: list[Utterance] = field(default_factory=list)
    account: Account = field(default_factory=Account)


def write_sets(output: Path, sets: dict[str, DataSet], max_drop: float) -> dict:
    """Write <output>/<set>/ for every set, and <output>/report.json; return the report.

    Raises AudioPaLMError, after writing report.json and dropped.tsv of all sets, when a set has no utterance or more
    than `max_drop` (0 to 1) of its rows were dropped; then no table of any set is written.
    """
    report, wrong = {}, []
    for name, data in sets.items():
        _drop_repeated(data)
        report[name] = _report(data)
        write_text(output / name / "dropped.tsv", "".join(f"{key}\t{why}\n" for key, why in data.account.dropped))
        write_json(output / name / "report.json", report[name])
        reasons = ", ".join(f"{count} {reason}" for reason, count in data.account.reasons.items())
        if not data.utterances:
            wrong.append(f"{name}: none of {data.account.rows} rows is left ({reasons or 'the tables have no row'})")
        elif data.account.share > max_drop:
            wrong.append(f"{name}: {len(data.account.dropped)} of {data.account.rows} rows dropped ({reasons}), more "
                         f"than --max_drop {max_drop:g}")
    write_json(output / "report.json", report)
    if wrong:
        raise AudioPaLMError(f"{wrong[0]}; all of them: {output}/<set>/dropped.tsv")
    for name, data in sets.items():
        _write_tables(output / name, data.utterances)
    return report


def _drop_repeated(data: DataSet) -> None:
    """Sort by the bytes of the ids; of equal ids the first stays."""
    data.utterances.sort(key=lambda utterance: utterance.id.encode())
    kept: list[Utterance] = []
    for utterance in data.utterances:
        if kept and kept[-1].id == utterance.id:
            data.account.drop(utterance.id, "id appears twice")
        else:
            kept.append(utterance)
    data.utterances = kept


def _report(data: DataSet) -> dict:
    rows = data.utterances
    ids = "".join(f"{row.id}\n" for row in rows)
    return {
        "rows": data.account.rows,
        "kept": len(rows),
        "dropped": data.account.reasons,
        "lacking": dict(data.account.lacking),
        "languages": dict(sorted(Counter(row.language for row in rows).items())),
        "translations": dict(sorted(Counter(code for row in rows for code in row.translations).items())),
        "spoken_translations": dict(sorted(Counter(
            code for row in rows for code in [*row.spoken, *row.spoken_cuts]).items())),
        "speakers": len({row.speaker for row in rows}),
        "first": rows[0].id if rows else None,
        "first_dropped": data.account.dropped[0][0] if data.account.dropped else None,
        "ids_sha256": hashlib.sha256(ids.encode()).hexdigest(),
    }


def _write_tables(directory: Path, rows: list[Utterance]) -> None:
    utt2spk = {row.id: row.speaker for row in rows}
    if any(row.cuts for row in rows):
        _write_segments(directory, rows)
    else:
        write_table(directory / "wav.scp", {row.id: str(row.audio) for row in rows})
    write_table(directory / "text", {row.id: _one_line(row.text) for row in rows})
    for language in sorted({code for row in rows for code in row.translations}):
        write_table(directory / f"text.{language}", {row.id: _one_line(row.translations[language]) for row in rows
                                                     if language in row.translations})
    for language in sorted({code for row in rows for code in row.spoken}):
        write_table(directory / f"wav.scp.{language}", {row.id: str(row.spoken[language]) for row in rows
                                                        if language in row.spoken})
    write_table(directory / "utt2spk", utt2spk)
    write_table(directory / "spk2utt", invert(utt2spk))
    write_table(directory / "utt2lang", {row.id: row.language for row in rows})


def _write_segments(directory: Path, rows: list[Utterance]) -> None:
    """`segments`: id, then `recording start end` once or more; a recording is named by its file."""
    recordings: dict[str, str] = {}

    def line(cuts: list[Cut]) -> str:
        recordings.update({cut.path.stem: str(cut.path) for cut in cuts})
        return " ".join(f"{cut.path.stem} {cut.start:.6f} {cut.end:.6f}" for cut in cuts)

    write_table(directory / "segments", {
        row.id: line(row.cuts or [Cut(row.audio, 0.0, soundfile.info(str(row.audio)).duration)]) for row in rows})
    for language in sorted({code for row in rows for code in row.spoken_cuts}):
        write_table(directory / f"segments.{language}", {
            row.id: line(row.spoken_cuts[language]) for row in rows if language in row.spoken_cuts})
    write_table(directory / "wav.scp", recordings)


def _one_line(text: str) -> str:
    """A text fit for a table: carriage returns are no ends of lines there. All else stays as published."""
    return text.replace("\r", " ").strip()
