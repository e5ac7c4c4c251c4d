"""Checks and repairs of Kaldi data directories: what utils/validate_data_dir.sh and utils/fix_data_dir.sh do."""

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from audiopalm.core.errors import AudioPaLMError
from audiopalm.data.datadir import invert, read_table, split_line, why_bad_id, write_table
from audiopalm.data.kaldi import tables_of

NOT_PRINTABLE = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True)
class Options:
    """What must be there, or be so: false by Kaldi's --no-text, --no-wav, --no-spk-sort and --non-print."""

    text: bool = True
    wav: bool = True
    speaker_sort: bool = True
    printable: bool = True


@dataclass
class Repair:
    """What fix_data_dir did: {table: ids that were taken out of it}, {invalid id: why}, and how many were kept."""

    lost: dict[str, list[str]] = field(default_factory=dict)
    invalid: dict[str, str] = field(default_factory=dict)
    kept: int = 0


def problems(directory: Path, options: Options) -> list[str]:
    """Everything that is wrong with a data directory, one line each; none means that it is valid."""
    if not directory.is_dir():
        return [f"{directory} is no directory"]
    needed = ["utt2spk", "spk2utt", *(["text"] if options.text else []), *(["wav.scp"] if options.wav else [])]
    found = [f"{directory}/{name} is missing" for name in needed if not (directory / name).is_file()]
    if found:
        return found
    names = tables_of(directory)
    tables: dict[str, dict[str, str]] = {}
    for name in [*names.all(), "spk2utt"]:
        if not (directory / name).is_file():  # no audio, as the options allow
            continue
        try:
            tables[name] = read_table(directory / name)
        except AudioPaLMError as error:
            found.append(str(error))
            continue
        found += _line_problems(directory / name, tables[name])
    if found:
        return found
    utterances = tables["utt2spk"]
    if not utterances:
        return [f"{directory}/utt2spk is empty"]
    speakers = list(utterances.values())
    for kind, wanted in ((names.complete, utterances), (names.partial, utterances), (names.speakers, set(speakers))):
        for name in (name for name in kind if name in tables):
            found += _id_problems(directory / name, list(tables[name]), list(wanted), kind is not names.partial)
    if tables["spk2utt"] != invert(utterances):
        found.append(f"{directory}/spk2utt is not the inverse of utt2spk")
    if options.speaker_sort and speakers != sorted(speakers, key=str.encode):
        found.append(f"{directory}/utt2spk is not sorted by speaker: let utterance ids begin with the speaker's")
    if options.printable:
        for name in [table for table in tables if table.split(".")[0] == "text"]:
            lines = [key for key, value in tables[name].items() if NOT_PRINTABLE.search(value)]
            if lines:
                found.append(f"{directory}/{name}: {lines[0]} has characters that cannot be printed ({len(lines)} such "
                             "lines); --non-print allows them")
    return found + _recording_problems(directory, tables)


def _line_problems(path: Path, table: dict[str, str]) -> list[str]:
    keys = list(table)
    invalid = [key for key in keys if why_bad_id(key)]
    if invalid:
        return [f"{path}: invalid id {invalid[0]!r}: {why_bad_id(invalid[0])} ({len(invalid)} such ids); "
                "utils/fix_data_dir.sh removes them"]
    found = []
    if keys != sorted(keys, key=str.encode):
        found.append(f"{path} is not sorted (LC_ALL=C sort)")
    empty = [key for key, value in table.items() if not value]
    if empty:
        found.append(f"{path}: {empty[0]} has no value ({len(empty)} such lines)")
    return found


def _id_problems(path: Path, ids: list[str], wanted: list[str], complete: bool) -> list[str]:
    known, found = set(wanted), set(ids)
    more = [key for key in ids if key not in known]
    less = [key for key in wanted if key not in found] if complete else []
    what = "speakers" if path.name in ("cmvn.scp", "spk2gender") else "utterances"
    return [f"{path} {how} {len(keys)} {what} of utt2spk, for example {keys[0]}" for how, keys in
            (("has besides the", more), ("lacks", less)) if keys]


def _recording_problems(directory: Path, tables: dict[str, dict[str, str]]) -> list[str]:
    """Segments of recordings that are not in wav.scp, and lengths of recordings that are not."""
    if "wav.scp" not in tables:
        return []
    found, recordings = [], tables["wav.scp"]
    for name in [table for table in tables if table.startswith("segments")]:
        for key, value in tables[name].items():
            unknown = [recording for recording in value.split()[::3] if recording not in recordings]
            if unknown or len(value.split()) % 3:
                found.append(f"{directory}/{name}: {key}: " + (
                    f"recording {unknown[0]} is not in wav.scp" if unknown else "not `recording start end`"))
                break
    for name in [table for table in tables if table.startswith("reco2")]:
        unknown = [key for key in tables[name] if key not in recordings]
        if unknown:
            found.append(f"{directory}/{name}: recording {unknown[0]} is not in wav.scp")
    return found


def fix(directory: Path, utterance_files: Sequence[str] = (), speaker_files: Sequence[str] = ()) -> Repair:
    """Sort every table and leave the utterances that all complete tables have, of speakers that all tables of speakers
    have; the old tables go to `.backup`. The further files may lack utterances or speakers.

    Raises AudioPaLMError when no utterance is left; then nothing is changed.
    """
    names = tables_of(directory, utterance_files, speaker_files)
    if not (directory / names.complete[-1]).is_file():  # features alone
        names.complete.pop()
    repair = Repair()
    before = {name: _first_of_each(directory / name) for name in names.all()}
    tables = {name: {key: value for key, value in table.items() if value and not _invalid(key, repair)}
              for name, table in before.items()}
    if "wav.scp" in names.recordings:
        for name in [table for table in tables if table.startswith("segments")]:
            tables[name] = {key: value for key, value in tables[name].items()
                            if all(one in tables["wav.scp"] for one in value.split()[::3])}
    needed = [name for name in names.speakers if name not in speaker_files]
    kept = {key for key in set.intersection(*(set(tables[name]) for name in names.complete))
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
    for name in names.all():
        tables[name] = {key: value for key, value in tables[name].items() if key in ids[name]}
        repair.lost[name] = [key for key in before[name] if key not in tables[name]]
        write_table(directory / name, tables[name])
    write_table(directory / "spk2utt", invert(tables["utt2spk"]))
    return repair


def _invalid(name: str, repair: Repair) -> bool:
    reason = why_bad_id(name)
    if reason:
        repair.invalid[name] = reason
    return reason is not None


def _first_of_each(path: Path) -> dict[str, str]:
    """{id: value} of a table in any order; of equal ids the first counts."""
    table: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8").split("\n"):
        key, value = split_line(line.strip(" \t\r"))
        if key:
            table.setdefault(key, value)
    return table
