"""Checks and repairs of Kaldi data directories, for utils/validate_data_dir.sh and utils/fix_data_dir.sh."""

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from audiopalm.core.errors import AudioPaLMError
from audiopalm.data.datadir import invert, read_table, split_line, why_bad_id, write_table
from audiopalm.data.kaldi import tables_of

DERIVED = ("utt2dur", "utt2num_frames", "utt2uniq", "vad.scp")  # made from the audio or the features
NOT_PRINTABLE = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True)
class Options:
    """What a data directory must have: the tables text and wav.scp, order by speaker, printable texts only.

    Each is switched off by an option of Kaldi: --no-text, --no-wav, --no-spk-sort, --non-print.
    """

    text: bool = True
    wav: bool = True
    speaker_sort: bool = True
    printable: bool = True


@dataclass
class Repair:
    """What `fix` did.

    lost: {table: ids that were removed}. repeated: {table: ids whose later lines were removed}. incomplete: derived
    tables that were removed. invalid: {invalid id: why}. kept: number of utterances.
    """

    lost: dict[str, list[str]] = field(default_factory=dict)
    repeated: dict[str, list[str]] = field(default_factory=dict)
    incomplete: list[str] = field(default_factory=list)
    invalid: dict[str, str] = field(default_factory=dict)
    kept: int = 0


def problems(directory: Path, options: Options) -> list[str]:
    """Everything that is wrong with a data directory, one line each; an empty list means that it is valid."""
    if not directory.is_dir():
        return [f"{directory} is no directory"]
    needed = ["utt2spk", "spk2utt", *(["text"] if options.text else []), *(["wav.scp"] if options.wav else [])]
    lines = [f"{directory}/{name} is missing" for name in needed if not (directory / name).is_file()]
    if lines:
        return lines
    names = tables_of(directory)
    tables: dict[str, dict[str, str]] = {}
    for name in [*names.all(), "spk2utt"]:
        if not (directory / name).is_file():  # there is no audio, which the options allow
            continue
        try:
            tables[name] = read_table(directory / name)
        except AudioPaLMError as error:
            lines.append(str(error))
            continue
        lines += _line_problems(directory / name, tables[name])
    if lines:
        return lines
    utterances = tables["utt2spk"]
    if not utterances:
        return [f"{directory}/utt2spk is empty"]
    speakers = list(utterances.values())
    for kind, wanted in ((names.complete, list(utterances)), (names.partial, list(utterances)),
                         (names.speakers, sorted(set(speakers)))):
        for name in (name for name in kind if name in tables):
            lines += _id_problems(directory / name, list(tables[name]), wanted, kind is not names.partial)
    if tables["spk2utt"] != invert(utterances):
        lines.append(f"{directory}/spk2utt is not the inverse of utt2spk")
    if options.speaker_sort and speakers != sorted(speakers, key=str.encode):
        lines.append(f"{directory}/utt2spk is not sorted by speaker: let utterance ids begin with the speaker's")
    if options.printable:
        for name in [table for table in tables if table.split(".")[0] == "text"]:
            keys = [key for key, value in tables[name].items() if NOT_PRINTABLE.search(value)]
            if keys:
                lines.append(f"{directory}/{name}: {keys[0]} has characters that cannot be printed ({len(keys)} such "
                             "lines); --non-print allows them")
    return lines + _recording_problems(directory, tables)


def _line_problems(path: Path, table: dict[str, str]) -> list[str]:
    """Invalid ids, a wrong order and empty values of one table."""
    keys = list(table)
    invalid = [key for key in keys if why_bad_id(key)]
    if invalid:
        return [f"{path}: invalid id {invalid[0]!r}: {why_bad_id(invalid[0])} ({len(invalid)} such ids); "
                "utils/fix_data_dir.sh removes them"]
    lines = []
    if keys != sorted(keys, key=str.encode):
        lines.append(f"{path} is not sorted (LC_ALL=C sort)")
    empty = [key for key, value in table.items() if not value]
    if empty:
        lines.append(f"{path}: {empty[0]} has no value ({len(empty)} such lines)")
    return lines


def _id_problems(path: Path, ids: list[str], wanted: list[str], complete: bool) -> list[str]:
    """Ids of one table that utt2spk lacks and, where the table must be complete, ids of utt2spk that it lacks."""
    known, present = set(wanted), set(ids)
    more = [key for key in ids if key not in known]
    less = [key for key in wanted if key not in present] if complete else []
    what = "speakers" if path.name in ("cmvn.scp", "spk2gender") else "utterances"
    return [f"{path} {how} {len(keys)} {what} of utt2spk, for example {keys[0]}" for how, keys in
            (("has besides the", more), ("lacks", less)) if keys]


def _recording_problems(directory: Path, tables: dict[str, dict[str, str]]) -> list[str]:
    """Segments and lengths of recordings that are not in wav.scp."""
    if "wav.scp" not in tables:
        return []
    lines, recordings = [], tables["wav.scp"]
    for name in [table for table in tables if table.startswith("segments")]:
        for key, value in tables[name].items():
            unknown = [recording for recording in value.split()[::3] if recording not in recordings]
            if unknown or len(value.split()) % 3:
                lines.append(f"{directory}/{name}: {key}: " + (
                    f"recording {unknown[0]} is not in wav.scp" if unknown else "not `recording start end`"))
                break
    for name in [table for table in tables if table.startswith("reco2")]:
        unknown = [key for key in tables[name] if key not in recordings]
        if unknown:
            lines.append(f"{directory}/{name}: recording {unknown[0]} is not in wav.scp")
    return lines


def fix(directory: Path, utterance_files: Sequence[str] = (), speaker_files: Sequence[str] = ()) -> Repair:
    """Sort every table and remove utterances that a complete table lacks, or whose speaker a table of speakers lacks.

    A table that can be made again, such as utt2dur, is removed where it lacks utterances (Kaldi leaves it incomplete).
    The old tables are copied to `.backup`. `utterance_files` and `speaker_files` are further tables, which may lack
    utterances or speakers. Raises AudioPaLMError when no utterance is left; then nothing is changed.
    """
    names = tables_of(directory, utterance_files, speaker_files)
    if not (directory / names.complete[-1]).is_file():  # a directory with features and no audio
        names.complete.pop()
    repair = Repair()
    before = {name: _first_of_each(directory / name, repair) for name in names.all()}
    tables = {name: {key: value for key, value in table.items() if value and not _invalid(key, repair)}
              for name, table in before.items()}
    if "wav.scp" in names.recordings:
        for name in [table for table in tables if table.startswith("segments")]:
            tables[name] = {key: value for key, value in tables[name].items()
                            if all(recording in tables["wav.scp"] for recording in value.split()[::3])}
    needed = [name for name in names.speakers if name not in speaker_files]
    kept = {key for key in set.intersection(*(set(tables[name]) for name in names.complete if name not in DERIVED))
            if not _invalid(tables["utt2spk"][key], repair)
            and all(tables["utt2spk"][key] in tables[name] for name in needed)}
    if not kept:
        raise AudioPaLMError(f"{directory}: no utterance is in all of {', '.join([*names.complete, *needed])}; nothing "
                             "was changed")
    repair.kept = len(kept)
    ids = dict.fromkeys([*names.complete, *names.partial], kept)
    ids |= dict.fromkeys(names.speakers, {tables["utt2spk"][key] for key in kept})
    if "wav.scp" in names.recordings:
        recordings = {recording for name, table in tables.items() if name.startswith("segments")
                      for key, value in table.items() if key in kept for recording in value.split()[::3]}
    else:
        recordings = kept
    ids |= dict.fromkeys(names.recordings, recordings)
    (directory / ".backup").mkdir(exist_ok=True)
    for name in [*names.all(), "spk2utt"]:
        if (directory / name).is_file():
            shutil.copyfile(directory / name, directory / ".backup" / name)
    repair.incomplete = [name for name in names.complete if not kept <= tables[name].keys()]
    for name in repair.incomplete:
        (directory / name).unlink()
    for name in names.all():
        if name in repair.incomplete:
            continue
        tables[name] = {key: value for key, value in tables[name].items() if key in ids[name]}
        repair.lost[name] = [key for key in before[name] if key not in tables[name]]
        write_table(directory / name, tables[name])
    write_table(directory / "spk2utt", invert(tables["utt2spk"]))
    return repair


def _invalid(name: str, repair: Repair) -> bool:
    """Whether an id is invalid; `repair` then gets the reason."""
    reason = why_bad_id(name)
    if reason:
        repair.invalid[name] = reason
    return reason is not None


def _first_of_each(path: Path, repair: Repair) -> dict[str, str]:
    """{id: value} of a table in any order. Of repeated ids the first line counts, and `repair` gets the id."""
    table: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8").split("\n"):
        key, value = split_line(line.strip(" \t\r"))
        if key in table:
            repair.repeated.setdefault(path.name, []).append(key)
        elif key:
            table[key] = value
    return table
