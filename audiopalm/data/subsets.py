"""Data directories made from others: copies, subsets, splits and unions, for utils/copy_data_dir.sh and its like."""

import os
import random
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import require
from audiopalm.data.datadir import check_id, invert, read_table, write_table
from audiopalm.data.kaldi import BY_SPEAKER, PATHS, tables_of

WHOLE = "0 -1"  # in `segments`: the whole recording


def read_tables(directory: Path, utterance_files: Sequence[str] = ()) -> dict[str, dict[str, str]]:
    """{name: table} of all tables except spk2utt. Raises AudioPaLMError where there is no utt2spk.

    Relative paths may start from a folder above `directory`, as in the directories of another recipe. They are changed
    to start from the working directory.
    """
    require(directory / "utt2spk", "stage 1 (prepare)")
    names = [name for name in tables_of(directory, utterance_files).all() if (directory / name).is_file()]
    tables = {name: read_table(directory / name) for name in sorted(names)}
    for name, table in tables.items():
        if any(name == kind or name.startswith(kind + ".") for kind in PATHS):
            base = _base_of(directory, table)
            if base:
                tables[name] = {key: value if os.path.isabs(value) or value.endswith("|") else os.path.join(base, value)
                                for key, value in table.items()}
    return tables


def _base_of(directory: Path, table: dict[str, str]) -> str | None:
    """The folder, `directory` or above it, that the relative paths of a table start from, relative to the working
    directory. None where they start from the working directory, or from no such folder. The first relative path
    decides."""
    first = next((value for value in table.values() if not os.path.isabs(value) and not value.endswith("|")), None)
    if first is None:
        return None
    file = first.rpartition(":")[0] if first.rpartition(":")[2].isdigit() else first  # features: `ark:offset`
    if os.path.exists(file):
        return None
    for parent in [directory, *(directory / (".." + "/.." * level) for level in range(len(directory.resolve().parts)))]:
        if os.path.exists(os.path.join(parent, file)):
            return os.path.relpath(parent)
    return None


def by_recording(tables: dict[str, dict[str, str]], name: str) -> bool:
    """Whether a table is keyed by recordings that are not utterances, as beside `segments`."""
    return "segments" in tables and (name == "wav.scp" or name.startswith("reco2"))


def write_tables(directory: Path, tables: dict[str, dict[str, str]], kept: Collection[str],
                 speaker_files: Sequence[str] = BY_SPEAKER) -> None:
    """Write the tables of the utterances `kept`, of their speakers and recordings, and spk2utt.

    Empty tables of translations are left out. Raises AudioPaLMError when `kept` is empty, and for an invalid id.
    """
    if not kept:
        raise AudioPaLMError(f"{directory}: no utterance is left")
    chosen = set(kept)
    speakers = {tables["utt2spk"][key] for key in chosen}
    for name in (*chosen, *speakers):
        check_id(name, directory)
    needed = {recording for name, table in tables.items() if name.startswith("segments")
              for key, value in table.items() if key in chosen for recording in value.split()[::3]}
    for name, table in tables.items():
        wanted = needed if by_recording(tables, name) else speakers if name in speaker_files else chosen
        table = {key: value for key, value in table.items() if key in wanted}
        if table:
            write_table(directory / name, table)
        else:
            (directory / name).unlink(missing_ok=True)
    for name in set(tables_of(directory).all()) - set(tables):  # left by an earlier call
        (directory / name).unlink(missing_ok=True)
    write_table(directory / "spk2utt", invert({key: tables["utt2spk"][key] for key in chosen}))


def copy(source: Path, target: Path, utterance: Callable[[str], str], speaker: Callable[[str], str],
         utterance_files: Sequence[str] = ()) -> None:
    """Copy with new names of utterances and speakers. Raises AudioPaLMError when two utterances get the same name."""
    tables = read_tables(source, utterance_files)
    tables["utt2spk"] = {key: speaker(value) for key, value in tables["utt2spk"].items()}
    renamed = {}
    for name, table in tables.items():
        rename = speaker if name in BY_SPEAKER else utterance
        renamed[name] = table if by_recording(tables, name) else {rename(key): value for key, value in table.items()}
    if len(renamed["utt2spk"]) < len(tables["utt2spk"]):
        raise AudioPaLMError(f"{source}: two utterances would get the same name")
    write_tables(target, renamed, renamed["utt2spk"])


def subset(source: Path, target: Path, number: int, how: str) -> None:
    """Write `number` utterances of a directory: the `first`, `last` or `shortest` (by utt2dur or utt2num_frames),
    `random` ones (the same on every call), `number` of each speaker (`per-spk`), or those of `speakers` that are drawn
    until they have `number` utterances.

    Raises AudioPaLMError for fewer utterances, and for `shortest` without lengths.
    """
    tables = read_tables(source)
    utt2spk = tables["utt2spk"]
    ids = list(utt2spk)
    if number < 1 or (how != "per-spk" and number > len(ids)):
        raise AudioPaLMError(f"{source} has {len(ids)} utterances; cannot take {number}")
    if how == "last":
        ids = ids[-number:]
    elif how == "shortest":
        lengths = tables.get("utt2dur") or tables.get("utt2num_frames")
        if not lengths:
            raise AudioPaLMError(f"{source} has neither utt2dur nor utt2num_frames; run stage 2 (audio) first")
        ids = sorted(ids, key=lambda key: (float(lengths[key]), key))[:number]
    elif how == "random":
        ids = random.Random(0).sample(ids, number)
    elif how == "speakers":
        utterances = invert(utt2spk)
        chosen: list[str] = []
        for name in random.Random(0).sample(list(utterances), len(utterances)):
            if len(chosen) < number:
                chosen += utterances[name].split()
        ids = chosen
    elif how == "per-spk":
        seen: Counter[str] = Counter()
        ids = [key for key in ids if seen.update([utt2spk[key]]) or seen[utt2spk[key]] <= number]
    else:
        ids = ids[:number]
    write_tables(target, tables, ids)


def select(source: Path, target: Path, names: Collection[str], speakers: bool = False) -> None:
    """Write the utterances whose ids, or speakers, are in `names`. Raises AudioPaLMError for no utterance."""
    tables = read_tables(source)
    write_tables(target, tables, [key for key, value in tables["utt2spk"].items()
                                  if (value if speakers else key) in names])


def combine(target: Path, sources: list[Path], extra_files: Sequence[str] = ()) -> list[str]:
    """Write the union of the sources. Raises AudioPaLMError for an id with different values in two sources.

    Return lines for the user: tables that are left out because a source lacks them, and speakers that several sources
    have. Where some sources have segments, of utterances or of spoken translations, the recordings of the other sources
    become segments too.
    """
    parts = [read_tables(source, extra_files) for source in sources]
    if any(name.split(".")[0] == "segments" for part in parts for name in part):
        for part in parts:
            if "wav.scp" in part:
                part.setdefault("segments", {key: f"{key} {WHOLE}" for key in part["wav.scp"]})
    for language in sorted({name.partition(".")[2] for part in parts for name in part if name.startswith("segments.")}):
        for source, part in zip(sources, parts, strict=True):
            _spoken_as_segments(source, part, language)
    together: dict[str, dict[str, str]] = {}
    left_out = _shared_speakers(parts)
    for name in sorted(set().union(*parts)):
        lacking = [str(source) for source, part in zip(sources, parts, strict=True) if name not in part]
        partial = "." in name and name not in PATHS  # translations may lack utterances
        if lacking and not partial:
            left_out.append(f"{name} is left out: {lacking[0]} has none")
            continue
        table: dict[str, str] = {}
        for source, part in zip(sources, parts, strict=True):
            for key, value in part.get(name, {}).items():
                if table.setdefault(key, value) != value:
                    raise AudioPaLMError(f"combine: {key} of {source}/{name} is something else in another directory")
        together[name] = table
    write_tables(target, together, together["utt2spk"])
    return left_out


def _shared_speakers(parts: list[dict[str, dict[str, str]]]) -> list[str]:
    """A line that names the speakers of several directories, who may be different people; an empty list for none."""
    seen = Counter(speaker for part in parts for speaker in set(part["utt2spk"].values()))
    shared = sorted(speaker for speaker, number in seen.items() if number > 1)
    more = f" and {len(shared) - 5} more" if len(shared) > 5 else ""
    return [f"speakers of several directories are taken for the same people: {' '.join(shared[:5])}{more}; if they are "
            "not, copy_data_dir.sh --spk-prefix renames them"] if shared else []


def _spoken_as_segments(source: Path, tables: dict[str, dict[str, str]], language: str) -> None:
    """Turn spoken translations in whole files into segments of recordings.

    Where `segments.<language>` exists, a reader looks for translations only there.
    """
    spoken = tables.pop(f"wav.scp.{language}", None)
    if not spoken or f"segments.{language}" in tables:
        return
    recordings = {key: f"{key}-{language}" for key in spoken}
    for key, recording in recordings.items():
        if recording in tables["wav.scp"]:
            raise AudioPaLMError(f"combine: {source}/wav.scp has a recording {recording}, the name that the spoken "
                                 f"translation of {key} would get; rename the utterances by copy_data_dir.sh")
    tables["wav.scp"] |= {recording: spoken[key] for key, recording in recordings.items()}
    tables[f"segments.{language}"] = {key: f"{recording} {WHOLE}" for key, recording in recordings.items()}


def split(source: Path, parts: int, by_utterance: bool = False) -> Path:
    """Split into <source>/split<N>/1 ... N, in order, and return that folder. Utterances of a speaker stay together.

    With `by_utterance` speakers may be divided, and the folder is split<N>utt. Raises AudioPaLMError for more parts
    than speakers or utterances.
    """
    tables = read_tables(source)
    keys = {key: key if by_utterance else value for key, value in tables["utt2spk"].items()}
    groups: dict[str, list[str]] = {}
    for utterance, key in keys.items():
        groups.setdefault(key, []).append(utterance)
    if not 1 <= parts <= len(groups):
        raise AudioPaLMError(f"{source} has {len(groups)} {'utterances' if by_utterance else 'speakers'}; "
                             f"cannot split it into {parts}")
    folder = source / f"split{parts}{'utt' if by_utterance else ''}"
    split_ids: list[list[str]] = [[] for _ in range(parts)]
    number = filled = 0
    for index, group in enumerate(groups.values()):
        full = filled + len(group) / 2 > len(keys) * (number + 1) / parts
        if split_ids[number] and number < parts - 1 and (full or len(groups) - index < parts - number):
            number += 1
        split_ids[number] += group
        filled += len(group)
    for part, ids in enumerate(split_ids, start=1):
        write_tables(folder / str(part), tables, ids)
    return folder
