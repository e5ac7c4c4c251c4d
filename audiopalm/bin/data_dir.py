"""Kaldi data directories: check, repair, copy, subset, split, combine. The scripts of utils/ call this."""

import argparse
from pathlib import Path

from audiopalm.core.command import run
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import require
from audiopalm.data import subsets
from audiopalm.data.checks import Options, fix, problems

SHOWN = 5  # ids of a table, and problems


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    validate = commands.add_parser("validate", help="exit code 1, and what is wrong, unless it is valid")
    validate.add_argument("--no-text", action="store_true", help="text may be missing")
    validate.add_argument("--no-wav", action="store_true", help="wav.scp may be missing")
    validate.add_argument("--no-feats", action="store_true", help="has no effect: there are no features here")
    validate.add_argument("--no-spk-sort", action="store_true", help="utt2spk need not be sorted by speaker")
    validate.add_argument("directory", type=Path)
    repair = commands.add_parser("fix", help="sort, keep what all tables have, say what each table lost")
    repair.add_argument("directory", type=Path)
    copy = commands.add_parser("copy", help="copy, with other names")
    for what in ("utt", "spk"):
        for place in ("prefix", "suffix"):
            copy.add_argument(f"--{what}-{place}", default="")
    copy.add_argument("source", type=Path)
    copy.add_argument("target", type=Path)
    subset = commands.add_parser("subset", help="N utterances (at random), or those of a list")
    how = subset.add_mutually_exclusive_group()
    for name, text in (("first", "the first N"), ("last", "the last N"), ("shortest", "the shortest N, by utt2dur"),
                       ("per-spk", "N of each speaker")):
        how.add_argument(f"--{name}", dest="how", action="store_const", const=name, help=text)
    how.add_argument("--utt-list", type=Path, help="file of utterances: then N is not given")
    how.add_argument("--spk-list", type=Path, help="file of speakers: then N is not given")
    subset.add_argument("arguments", nargs="+", metavar="[N] SOURCE TARGET")
    combine = commands.add_parser("combine", help="the union of directories")
    combine.add_argument("target", type=Path)
    combine.add_argument("sources", type=Path, nargs="+")
    split = commands.add_parser("split", help="SOURCE/split<N>/1 ... N, speakers kept whole")
    split.add_argument("--per-utt", action="store_true", help="into SOURCE/split<N>utt, speakers may be divided")
    split.add_argument("source", type=Path)
    split.add_argument("number", type=int)
    arguments = parser.parse_args()
    COMMANDS[arguments.command](arguments)


def _validate(arguments: argparse.Namespace) -> None:
    found = problems(arguments.directory, Options(text=not arguments.no_text, wav=not arguments.no_wav,
                                                  speaker_sort=not arguments.no_spk_sort))
    if found:
        more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise AudioPaLMError("; ".join(found[:SHOWN]) + more)
    print(f"validate_data_dir.sh: {arguments.directory} is valid")


def _copy(arguments: argparse.Namespace) -> None:
    subsets.copy(arguments.source, arguments.target,
                 lambda name: arguments.utt_prefix + name + arguments.utt_suffix,
                 lambda name: arguments.spk_prefix + name + arguments.spk_suffix)
    print(f"copy_data_dir.sh: copied {arguments.source} to {arguments.target}")


def _subset(arguments: argparse.Namespace) -> None:
    names = arguments.utt_list or arguments.spk_list
    number, *directories = [None, *arguments.arguments] if names else arguments.arguments
    if len(directories) != 2 or not (names or number.isdigit()):
        raise AudioPaLMError("subset takes N SOURCE TARGET, or SOURCE TARGET with a list")
    source, target = map(Path, directories)
    if names:
        wanted = {line.split()[0] for line in require(names).read_text(encoding="utf-8").split("\n") if line.strip()}
        subsets.select(source, target, wanted, speakers=arguments.spk_list is not None)
    else:
        how = {None: "random", "per-spk": "speaker"}.get(arguments.how, arguments.how)
        subsets.subset(source, target, int(number), how)
    print(f"subset_data_dir.sh: wrote {target}")


def _combine(arguments: argparse.Namespace) -> None:
    subsets.combine(arguments.target, arguments.sources)
    print(f"combine_data.sh: wrote {arguments.target}")


def _split(arguments: argparse.Namespace) -> None:
    print(f"split_data.sh: wrote {subsets.split(arguments.source, arguments.number, arguments.per_utt)}")


def _fix(arguments: argparse.Namespace) -> None:
    directory = arguments.directory
    if not directory.is_dir():
        raise AudioPaLMError(f"{directory} is no directory")
    result = fix(directory)
    for name, ids in result.lost.items():
        if ids:
            more = f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
            print(f"fix_data_dir.sh: {name} lost {len(ids)}: {' '.join(ids[:SHOWN])}{more}")
    print(f"fix_data_dir.sh: kept {result.kept} utterances in {directory}; the old files are in {directory}/.backup")


COMMANDS = {"validate": _validate, "fix": _fix, "copy": _copy, "subset": _subset, "combine": _combine, "split": _split}

if __name__ == "__main__":
    run(main)
