"""Stage 5: speech -> unit ids and codec ids. Every audio file is encoded once; utterances that share it share its ids.

Writes to --output: units.scp, units.<language>.scp for each wav.scp.<language>, codec.scp (source side, only with
--codec_tokens true), meta.json (rates, sizes, hashes of the tokenizers) and shards/. A rerun encodes only audio whose
ids are missing.
"""

import argparse
from pathlib import Path

from audiopalm.core.command import run
from audiopalm.stages.jobs import Launcher, add_launcher_options
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
    add_launcher_options(parser, "first OUTPUT/jobs")
    arguments = parser.parse_args()
    if len(arguments.data_dir) != len(arguments.output):
        parser.error(f"{len(arguments.data_dir)} data directories, but {len(arguments.output)} outputs")
    if unknown := set(arguments.units_only) - set(arguments.data_dir):
        parser.error(f"--units_only names {min(unknown)}, which --data_dir does not")
    launcher = Launcher(arguments.cmd, arguments.nj, arguments.job_dir or arguments.output[0] / "jobs")
    units_only = arguments.data_dir if arguments.codec_tokens == "false" else arguments.units_only
    tokenize(dict(zip(arguments.data_dir, arguments.output, strict=True)), arguments.units, arguments.codec, launcher,
             set(units_only))


if __name__ == "__main__":
    run(main)
