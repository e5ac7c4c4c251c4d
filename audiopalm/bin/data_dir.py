"""Check or repair a Kaldi data directory: utils/validate_data_dir.sh and utils/fix_data_dir.sh call this."""

import argparse
from pathlib import Path

from audiopalm.bin.common import run
from audiopalm.data.checks import Options, fix, problems
from audiopalm.errors import AudioPaLMError

SHOWN = 5  # ids of a table, and problems


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    validate = commands.add_parser("validate", help="exit code 1, and what is wrong, unless it is valid")
    validate.add_argument("--no-text", action="store_true", help="text may be missing")
    validate.add_argument("--no-wav", action="store_true", help="wav.scp may be missing")
    validate.add_argument("--no-feats", action="store_true", help="has no effect: there are no features here")
    validate.add_argument("--no-spk-sort", action="store_true", help="utt2spk need not be sorted by speaker")
    repair = commands.add_parser("fix", help="sort, keep what all tables have, say what each table lost")
    for command in (validate, repair):
        command.add_argument("directory", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "fix":
        _fix(arguments.directory)
        return
    found = problems(arguments.directory, Options(text=not arguments.no_text, wav=not arguments.no_wav,
                                                  speaker_sort=not arguments.no_spk_sort))
    if found:
        more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise AudioPaLMError("; ".join(found[:SHOWN]) + more)
    print(f"validate_data_dir.sh: {arguments.directory} is valid")


def _fix(directory: Path) -> None:
    if not directory.is_dir():
        raise AudioPaLMError(f"{directory} is no directory")
    result = fix(directory)
    for name, ids in result.lost.items():
        if ids:
            more = f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
            print(f"fix_data_dir.sh: {name} lost {len(ids)}: {' '.join(ids[:SHOWN])}{more}")
    print(f"fix_data_dir.sh: kept {result.kept} utterances in {directory}; the old files are in {directory}/.backup")


if __name__ == "__main__":
    run(main)
