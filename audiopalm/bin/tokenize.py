"""Stage 5: speech -> unit ids and codec ids. Every audio file is encoded once; utterances that share it share its ids.

Writes to --output: units.scp, units.<language>.scp for each wav.scp.<language>, codec.scp (source side, only with
--codec_tokens true), meta.json (rates, sizes, hashes of the tokenizers) and shards/. A rerun encodes only audio whose
ids are missing.
"""

import argparse
from pathlib import Path

from audiopalm.core.arguments import paired
from audiopalm.core.command import run
from audiopalm.stages.jobs import add_launcher_options, launcher_of
from audiopalm.stages.tokenize import tokenize


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", type=Path, required=True, nargs="+", help="data directories of stage 2")
    parser.add_argument("--units", type=Path, required=True, help="directory of stage 3")
    parser.add_argument("--codec", type=Path, required=True, help="directory of stage 4")
    parser.add_argument("--output", type=Path, required=True, nargs="+", help="one for each --data_dir, in order")
    parser.add_argument("--codec_tokens", choices=["true", "false"], default="true", help="also write codec.scp")
    parser.add_argument("--units_only", type=Path, nargs="+", default=[], metavar="DIR",
                        help="data directories that get no codec.scp: train, if no acoustic model is trained")
    parser.add_argument("--acoustic", type=Path, help="trained acoustic model that is to speak such units")
    add_launcher_options(parser, "first OUTPUT/jobs")
    arguments = parser.parse_args()
    if unknown := set(arguments.units_only) - set(arguments.data_dir):
        parser.error(f"--units_only names {min(unknown)}, which --data_dir does not")
    units_only = arguments.data_dir if arguments.codec_tokens == "false" else arguments.units_only
    tokenize(paired(arguments, "data_dir", "output"), arguments.units, arguments.codec,
             launcher_of(arguments, arguments.output[0]), set(units_only), arguments.acoustic)


if __name__ == "__main__":
    run(main)
