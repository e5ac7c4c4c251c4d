"""Stage 10: decode every task of the configuration on each set; a folder for each task and language pair.

A folder gets the texts as Kaldi tables named by part, the units as `units.scp`, all hypotheses in ESPnet's layout
(`1best_recog/{text,token_int,score}`, `2best_recog/...`), and meta.json last. A rerun leaves folders with meta.json as
they are. In the other folders it decodes only the missing shards, so that an interrupted decode resumes.
"""

import argparse
from pathlib import Path

from audiopalm.core.arguments import add_seed, parse_with_overrides
from audiopalm.core.command import run
from audiopalm.core.config import load_config
from audiopalm.core.lock import all_locked
from audiopalm.stages.decode import DecodeConfig, DecodedSet, decode_sets
from audiopalm.stages.jobs import add_launcher_options, launcher_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lm", type=Path, required=True, help="directory of stage 8, or an export of it")
    parser.add_argument("--vocabulary", type=Path, required=True, help="directory of stage 6")
    parser.add_argument("--data_dir", type=Path, required=True, nargs="+")
    parser.add_argument("--tokens", type=Path, required=True, nargs="+", help="tokens of each --data_dir (stage 5)")
    parser.add_argument("--config", required=True, help="YAML of DecodeConfig: tasks, decoding, batch_size")
    parser.add_argument("--output", type=Path, required=True, nargs="+", help="for each set, e.g. exp/decode/test")
    add_seed(parser, "of sampling; greedy decoding does not use it")
    add_launcher_options(parser, "first OUTPUT/jobs")
    args = parse_with_overrides(parser, "batch_size=16")
    if not len(args.data_dir) == len(args.tokens) == len(args.output):
        parser.error("--data_dir, --tokens and --output name the same number of folders, one for each set")
    config = load_config(DecodeConfig, args.config, args.overrides)
    sets = list(map(DecodedSet, args.data_dir, args.tokens, args.output))
    with all_locked(args.output, "decode"):
        decode_sets(sets, args.lm, args.vocabulary, config, args.seed, launcher_of(args, args.output[0]))


if __name__ == "__main__":
    run(main)
