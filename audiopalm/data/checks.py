"""Checks and repairs of Kaldi data directories: what utils/validate_data_dir.sh and utils/fix_data_dir.sh do.

Tables keyed by utterance: text, utt2spk, utt2lang, utt2dur, and with `segments` that, else wav.scp. Tables of
translations (`text.en`, `wav.scp.en`, `segments.en`) may lack utterances, but have no others.
"""

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from audiopalm.core.errors import AudioPaLMError
from audiopalm.data.datadir import invert, read_table, write_table

COMPLETE = ("text", "utt2spk", "utt2lang", "utt2dur")
PARTIAL = ("text", "wav.scp", "segments")  # followed by .<language>


@dataclass(frozen=True)
class Options:
    """What need not be there, or be so: Kaldi's --no-text, --no-wav, --no-spk-sort."""

    text: bool = True
    wav: bool = True
    speaker_sort: bool = True


@dataclass
class Repair:
    """What fix_data_dir did: {table: ids that were taken out of it}."""

    lost: dict[str, list[str]] = field(default_factory=dict)
    kept: int = 0


def tables_of(directory: Path) -> tuple[list[str], list[str]]:
    """Names of the tables that must hold every utterance, and of those that may lack some."""
    complete = [name for name in COMPLETE if (directory / name).is_file()]
    complete.append("segments" if (directory / "segments").is_file() else "wav.scp")
    partial = sorted(path.name for name in PARTIAL for path in directory.glob(f"{name}.*") if path.is_file())
    return complete, partial


def problems(directory: Path, options: Options) -> list[str]:
    """Everything that is wrong with a data directory, one line each; none means that it is valid."""
    if not directory.is_dir():
        return [f"{directory} is no directory"]
    needed = ["utt2spk", "spk2utt", *(["text"] if options.text else []), *(["wav.scp"] if options.wav else [])]
    found = [f"{directory}/{name} is missing" for name in needed if not (directory / name).is_file()]
    if found:
        return found
    complete, partial = tables_of(directory)
    if not (directory / complete[-1]).is_file():  # no audio, as the options allow
        complete.pop()
    tables: dict[str, dict[str, str]] = {}
    for name in [*complete, *partial, "spk2utt"]:
        try:
            tables[name] = read_table(directory / name)
        except (AudioPaLMError, UnicodeDecodeError) as error:
            found.append(f"{directory}/{name}: {error}")
            continue
        found += _line_problems(directory / name, tables[name])
    if found:
        return found
    utterances = tables["utt2spk"]
    if not utterances:
        return [f"{directory}/utt2spk is empty"]
    for name in complete:
        found += _id_problems(directory / name, list(tables[name]), list(utterances), complete=True)
    for name in partial:
        found += _id_problems(directory / name, list(tables[name]), list(utterances), complete=False)
    if tables["spk2utt"] != invert(utterances):
        found.append(f"{directory}/spk2utt is not the inverse of utt2spk")
    speakers = list(utterances.values())
    if options.speaker_sort and speakers != sorted(speakers, key=str.encode):
        found.append(f"{directory}/utt2spk is not sorted by speaker: let utterance ids begin with the speaker's")
    if options.wav and (directory / "segments").is_file():
        recordings = read_table(directory / "wav.scp")
        for name in [table for table in tables if table.startswith("segments")]:
            for key, value in tables[name].items():
                unknown = [recording for recording in value.split()[::3] if recording not in recordings]
                if unknown or len(value.split()) % 3:
                    found.append(f"{directory}/{name}: {key}: " + (
                        f"recording {unknown[0]} is not in wav.scp" if unknown else "not `recording start end`"))
                    break
    return found


def _line_problems(path: Path, table: dict[str, str]) -> list[str]:
    keys = list(table)
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
    return [f"{path} {what} {len(keys)} utterances of utt2spk, for example {keys[0]}" for what, keys in
            (("has besides the", more), ("lacks", less)) if keys]


def fix(directory: Path) -> Repair:
    """Sort every table and leave the utterances that all complete tables have; the old tables go to `.backup`.

    Raises AudioPaLMError when no utterance is left; then nothing is changed.
    """
    complete, partial = tables_of(directory)
    tables = {name: _first_of_each(directory / name) for name in [*complete, *partial]}
    if (directory / "segments").is_file():
        recordings = _first_of_each(directory / "wav.scp")
        for name in [table for table in tables if table.startswith("segments")]:
            tables[name] = {key: value for key, value in tables[name].items()
                            if value.split() and all(one in recordings for one in value.split()[::3])}
    kept = set.intersection(*({key for key, value in tables[name].items() if value} for name in complete))
    if not kept:
        raise AudioPaLMError(f"{directory}: no utterance is in all of {', '.join(complete)}; nothing was changed")
    repair = Repair(kept=len(kept))
    backup = directory / ".backup"
    for name in [*complete, *partial, "spk2utt"]:
        if (directory / name).is_file():
            backup.mkdir(exist_ok=True)
            shutil.copyfile(directory / name, backup / name)
    for name in [*complete, *partial]:
        before = list(_first_of_each(directory / name))
        tables[name] = {key: value for key, value in tables[name].items() if key in kept and value}
        repair.lost[name] = [key for key in before if key not in tables[name]]
        write_table(directory / name, tables[name])
    write_table(directory / "spk2utt", invert(tables["utt2spk"]))
    return repair


def _first_of_each(path: Path) -> dict[str, str]:
    """{id: value} of a table in any order; of equal ids the first counts."""
    table: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8").split("\n"):
        key, _, value = line.strip().partition(" ")
        if key:
            table.setdefault(key, value.strip())
    return table
