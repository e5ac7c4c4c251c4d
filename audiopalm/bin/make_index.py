"""Write the index of a data directory and of its tokens; with --vocabulary also the lengths of its texts in tokens.

Trainings read data by this index. Stages 5 and 6 write it too. This command is needed after tables or archives have
been changed or moved by hand.
"""

import argparse
from pathlib import Path

from audiopalm.core.command import run
from audiopalm.core.lock import all_locked
from audiopalm.data.index import write_index
from audiopalm.lm.lengths import write_lengths
from audiopalm.vocabulary.joint import load_vocabulary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", type=Path, required=True)
    parser.add_argument("--tokens", type=Path, help="its tokens (stage 5)")
    parser.add_argument("--vocabulary", type=Path, help="directory of stage 6")
    args = parser.parse_args()
    loaded = load_vocabulary(args.vocabulary) if args.vocabulary else None
    with all_locked([args.data_dir, *([args.tokens] if args.tokens else [])], "index"):
        write_index(args.data_dir, args.tokens, "stages 1 and 2 (data, audio)")
        if loaded:
            write_lengths(args.data_dir, *loaded)


if __name__ == "__main__":
    run(main)
