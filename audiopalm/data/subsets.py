"""Data directories made of others: copies with prefixes, subsets, splits and unions (utils/*_data_dir.sh and so on)."""

import random
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import require
from audiopalm.data.checks import tables_of
from audiopalm.data.datadir import invert, read_table, write_table


def read_tables(directory: Path) -> dict[str, dict[str, str]]:
    """All tables keyed by utterance, and wav.scp; raises AudioPaLMError where there is no utt2spk."""
    require(directory / "utt2spk", "stage 1 (prepare)")
    complete, partial = tables_of(directory)
    names = [name for name in {*complete, *partial, "wav.scp"} if (directory / name).is_file()]
    return {name: read_table(directory / name) for name in sorted(names)}


def by_recording(tables: dict[str, dict[str, str]], name: str) -> bool:
    """Whether a table is keyed by recording: wav.scp beside segments."""
    return name == "wav.scp" and "segments" in tables


def write_tables(directory: Path, tables: dict[str, dict[str, str]], kept: Collection[str]) -> None:
    """Write the `kept` utterances, the recordings that they need, and spk2utt. Empty tables of translations are left
    out. Raises AudioPaLMError when nothing is kept."""
    if not kept:
        raise AudioPaLMError(f"{directory}: no utterance is left")
    chosen = set(kept)
    needed = {recording for name, table in tables.items() if name.startswith("segments")
              for key, value in table.items() if key in chosen for recording in value.split()[::3]}
    for name, table in tables.items():
        wanted = needed if by_recording(tables, name) else chosen
        table = {key: value for key, value in table.items() if key in wanted}
        if table:
            write_table(directory / name, table)
    write_table(directory / "spk2utt", invert({key: tables["utt2spk"][key] for key in chosen}))


def copy(source: Path, target: Path, utterance: Callable[[str], str], speaker: Callable[[str], str]) -> None:
    """Copy with other names of utterances and speakers; raises AudioPaLMError when two become one."""
    tables = read_tables(source)
    tables["utt2spk"] = {key: speaker(value) for key, value in tables["utt2spk"].items()}
    renamed = {name: table if by_recording(tables, name) else {utterance(key): value for key, value in table.items()}
               for name, table in tables.items()}
    if len(renamed["utt2spk"]) < len(tables["utt2spk"]):
        raise AudioPaLMError(f"{source}: two utterances would get the same name")
    write_tables(target, renamed, renamed["utt2spk"])


def subset(source: Path, target: Path, number: int, how: str) -> None:
    """`first`, `last`, `shortest` (by utt2dur), `random` (the same on every call) or `speaker`: `number` of each."""
    tables = read_tables(source)
    ids = list(tables["utt2spk"])
    if number < 1 or (how != "speaker" and number > len(ids)):
        raise AudioPaLMError(f"{source} has {len(ids)} utterances; cannot take {number}")
    if how == "last":
        ids = ids[-number:]
    elif how == "shortest":
        lengths = read_table(source / "utt2dur", "stage 2 (audio)")
        ids = sorted(ids, key=lambda key: (float(lengths[key]), key))[:number]
    elif how == "random":
        ids = random.Random(0).sample(ids, number)
    elif how == "speaker":
        seen: Counter = Counter()
        ids = [key for key in ids if seen.update([tables["utt2spk"][key]]) or seen[tables["utt2spk"][key]] <= number]
    else:
        ids = ids[:number]
    write_tables(target, tables, ids)


def select(source: Path, target: Path, names: Collection[str], speakers: bool = False) -> None:
    """The utterances whose ids, or speakers, are in `names`."""
    tables = read_tables(source)
    write_tables(target, tables, [key for key, value in tables["utt2spk"].items()
                                  if (value if speakers else key) in names])


def combine(target: Path, sources: list[Path]) -> None:
    """The union; an id that occurs twice must mean the same. Tables that a source lacks are left out, and said."""
    parts = [read_tables(source) for source in sources]
    if len({"segments" in part for part in parts}) > 1:
        raise AudioPaLMError("combine: segments are in some of the directories only; format the audio first (stage 2)")
    together: dict[str, dict[str, str]] = {}
    for name in sorted(set().union(*parts)):
        lacking = [str(source) for source, part in zip(sources, parts, strict=True) if name not in part]
        if lacking and "." not in name:  # translations may be there for some utterances only
            print(f"combine_data.sh: {name} is left out: {lacking[0]} has none")
            continue
        table: dict[str, str] = {}
        for source, part in zip(sources, parts, strict=True):
            for key, value in part.get(name, {}).items():
                if table.setdefault(key, value) != value:
                    raise AudioPaLMError(f"combine: {key} of {source}/{name} is something else in another directory")
        together[name] = table
    write_tables(target, together, together["utt2spk"])


def split(source: Path, parts: int, by_utterance: bool = False) -> Path:
    """<source>/split<N>/1 ... N (split<N>utt by utterance), in order, speakers whole unless by utterance."""
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
    for place, ids in enumerate(split_ids, start=1):
        write_tables(folder / str(place), tables, ids)
    return folder
