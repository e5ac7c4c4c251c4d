"""The scripts of utils/ that work on data directories, with the names, argument orders and options of Kaldi's."""

import argparse
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import require
from audiopalm.data import subsets
from audiopalm.data.checks import Options, fix, problems

SHOWN = 5  # problems, and ids of a table, that a message names
# Options whose values may begin with a hyphen.
VALUES = ("--validate-opts", "--utt-prefix", "--utt-suffix", "--spk-prefix", "--spk-suffix")


class Parser(argparse.ArgumentParser):
    """A parser of options with - or _ between words. An error is one line and exit code 1, as in Kaldi's scripts."""

    def error(self, message: str) -> NoReturn:
        raise AudioPaLMError(f"{message}; {' '.join(self.format_usage().split())}")

    def parse(self, words: list[str]) -> argparse.Namespace:
        """The arguments in `words`. Raises AudioPaLMError for unknown or missing ones."""
        joined: list[str] = []
        for word in words:
            name, *value = word.split("=", 1)
            if re.fullmatch(r"--\w[\w-]*", name):
                word = "=".join([name.replace("_", "-"), *value])
            if joined and joined[-1] in VALUES:
                joined[-1] += f"={word}"
            else:
                joined.append(word)
        return self.parse_args(joined)


def _options_of_validate(parser: Parser) -> None:
    parser.add_argument("--no-text", action="store_true", help="text may be missing")
    parser.add_argument("--no-wav", action="store_true", help="wav.scp may be missing")
    parser.add_argument("--no-feats", action="store_true", help="feats.scp may be missing, which it may in any case")
    parser.add_argument("--no-spk-sort", action="store_true", help="utt2spk need not be sorted by speaker")
    parser.add_argument("--non-print", action="store_true", help="texts may have characters that cannot be printed")


def _check(directory: Path, options: argparse.Namespace) -> None:
    """Raise AudioPaLMError with the first problems of a data directory that is not valid."""
    lines = problems(directory, Options(text=not options.no_text, wav=not options.no_wav,
                                        speaker_sort=not options.no_spk_sort, printable=not options.non_print))
    if lines:
        more = f"; and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""
        raise AudioPaLMError("; ".join(lines[:SHOWN]) + more)


def validate(parser: Parser, words: list[str]) -> None:
    """Check data directories; exit code 1, and the problems in one line, for a directory that is not valid."""
    _options_of_validate(parser)
    parser.add_argument("directories", type=Path, nargs="+", metavar="DIR")
    arguments = parser.parse(words)
    for directory in arguments.directories:
        _check(directory, arguments)
        print(f"{parser.prog}: {directory} is valid")


def repair(parser: Parser, words: list[str]) -> None:
    """Sort the tables of a data directory and remove utterances that not all tables have; print the removed ids."""
    parser.add_argument("--utt-extra-files", type=str.split, default=[], help="further tables, keyed by utterance")
    parser.add_argument("--spk-extra-files", type=str.split, default=[], help="further tables, keyed by speaker")
    parser.add_argument("directory", type=Path, metavar="DIR")
    arguments = parser.parse(words)
    _fix(parser.prog, arguments.directory, arguments.utt_extra_files, arguments.spk_extra_files)


def _fix(program: str, directory: Path, utterance_files: list[str], speaker_files: list[str]) -> None:
    if not (directory / "utt2spk").is_file():
        raise AudioPaLMError(f"{directory} is no data directory: it has no utt2spk")
    result = fix(directory, utterance_files, speaker_files)
    for name, reason in result.invalid.items():
        print(f"{program}: removed the invalid id {name!r}: {reason}")
    for what, tables in (("lost", result.lost), ("had more lines of", result.repeated)):
        for name, ids in tables.items():
            if ids:
                more = f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
                print(f"{program}: {name} {what} {len(ids)}: {' '.join(ids[:SHOWN])}{more}")
    for name in result.incomplete:
        print(f"{program}: removed {name}, which lacked utterances; make it again")
    print(f"{program}: kept {result.kept} utterances in {directory}; the old files are in {directory}/.backup")


def copy(parser: Parser, words: list[str]) -> None:
    """Copy a data directory, with new names of utterances and speakers, and validate the copy."""
    for what in ("utt", "spk"):
        for end in ("prefix", "suffix"):
            parser.add_argument(f"--{what}-{end}", default="", metavar="TEXT")
    parser.add_argument("--validate-opts", default="", help='options of validate_data_dir.sh, such as "--no-text"')
    parser.add_argument("--utt-extra-files", type=str.split, default=[], help="further tables, keyed by utterance")
    parser.add_argument("source", type=Path, metavar="SRC")
    parser.add_argument("target", type=Path, metavar="DST")
    arguments = parser.parse(words)
    validation = Parser(prog="validate_data_dir.sh", add_help=False)
    _options_of_validate(validation)
    options = validation.parse(shlex.split(arguments.validate_opts))
    subsets.copy(arguments.source, arguments.target,
                 lambda name: arguments.utt_prefix + name + arguments.utt_suffix,
                 lambda name: arguments.spk_prefix + name + arguments.spk_suffix, arguments.utt_extra_files)
    options.no_text |= not (arguments.source / "text").is_file()
    options.no_wav |= not (arguments.source / "wav.scp").is_file()
    _check(arguments.target, options)
    print(f"{parser.prog}: copied {arguments.source} to {arguments.target}")


def subset(parser: Parser, words: list[str]) -> None:
    """Write a subset of a data directory: N utterances (by default at random), or the utterances of a list."""
    how = parser.add_mutually_exclusive_group()
    for name, text in (("first", "the first N"), ("last", "the last N"), ("shortest", "the shortest N"),
                       ("per-spk", "N of each speaker"), ("speakers", "of speakers at random, until they have N")):
        how.add_argument(f"--{name}", dest="how", action="store_const", const=name, help=text)
    how.add_argument("--utt-list", type=Path, metavar="FILE", help="utterances; then N is not given")
    how.add_argument("--spk-list", type=Path, metavar="FILE", help="speakers; then N is not given")
    parser.add_argument("arguments", nargs="+", metavar="SRC [N] DST")
    arguments = parser.parse(words)
    names = arguments.utt_list or arguments.spk_list
    if len(arguments.arguments) != (2 if names else 3):
        parser.error("it takes SRC N DST, or with a list SRC DST")
    source, target = Path(arguments.arguments[0]), Path(arguments.arguments[-1])
    if names:
        wanted = {line.split()[0] for line in require(names).read_text(encoding="utf-8").split("\n") if line.strip()}
        subsets.select(source, target, wanted, speakers=arguments.spk_list is not None)
    else:
        number = arguments.arguments[1]
        if not re.fullmatch(r"[0-9]+", number):
            parser.error(f"{number!r} is no number of utterances")
        subsets.subset(source, target, int(number), arguments.how or "random")
    print(f"{parser.prog}: wrote {target}")


def combine(parser: Parser, words: list[str]) -> None:
    """Write the union of data directories."""
    parser.add_argument("--extra-files", type=str.split, default=[], help="further tables, keyed by utterance")
    parser.add_argument("--skip-fix", choices=("true", "false"), default="false", help="do not fix the union")
    parser.add_argument("target", type=Path, metavar="DST")
    parser.add_argument("sources", type=Path, nargs="+", metavar="SRC")
    arguments = parser.parse(words)
    for line in subsets.combine(arguments.target, arguments.sources, arguments.extra_files):
        print(f"{parser.prog}: {line}")
    if arguments.skip_fix == "false":
        _fix(parser.prog, arguments.target, arguments.extra_files, [])
    print(f"{parser.prog}: wrote {arguments.target}")


def split(parser: Parser, words: list[str]) -> None:
    """Split a data directory into SRC/split<N>/1 ... N; all utterances of a speaker stay together."""
    parser.add_argument("--per-utt", action="store_true", help="into SRC/split<N>utt, speakers may be divided")
    parser.add_argument("source", type=Path, metavar="SRC")
    parser.add_argument("number", type=int, metavar="N")
    arguments = parser.parse(words)
    print(f"{parser.prog}: wrote {subsets.split(arguments.source, arguments.number, arguments.per_utt)}")


SCRIPTS: dict[str, Callable[[Parser, list[str]], None]] = {
    "validate_data_dir.sh": validate, "fix_data_dir.sh": repair, "copy_data_dir.sh": copy,
    "subset_data_dir.sh": subset, "combine_data.sh": combine, "split_data.sh": split}


def run_script(script: str, words: list[str]) -> None:
    """Run a script of utils/ by its name. Raises AudioPaLMError for wrong arguments and for invalid data."""
    if script not in SCRIPTS:
        raise AudioPaLMError(f"unknown script {script!r}; known: {', '.join(SCRIPTS)}")
    SCRIPTS[script](Parser(prog=script, description=SCRIPTS[script].__doc__, allow_abbrev=False), words)
