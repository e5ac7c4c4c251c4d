"""Stage 9: train SoundStorm or AudioLM, which turn audio units and a voice prompt into codec tokens.

`kind` in the configuration chooses it: `soundstorm`, the default, or `audiolm`. Started again after an interruption, it
goes on from its last checkpoint; finished, it does nothing.
"""

import argparse
from pathlib import Path

from audiopalm.acoustic.training import AcousticData, train
from audiopalm.acoustic.training_registry import load_training_config
from audiopalm.core.arguments import parse_with_overrides
from audiopalm.core.command import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", required=True, help="data directory with utt2spk, e.g. dump/raw/train")
    parser.add_argument("--tokens", required=True, help="its units.scp, codec.scp, meta.json, e.g. dump/tokens/train")
    parser.add_argument("--dev_data_dir", help="data directory of the dev losses, e.g. dump/raw/dev")
    parser.add_argument("--dev_tokens", help="its tokens, e.g. dump/tokens/dev")
    parser.add_argument("--codec", help="folder of stage 4, whose codebooks the embeddings start from")
    parser.add_argument("--config", required=True, help="conf/acoustic.yaml or conf/acoustic_audiolm.yaml")
    parser.add_argument("--output", type=Path, required=True, help="folder to write, e.g. exp/acoustic")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parse_with_overrides(parser, "training.steps=10")
    if (arguments.dev_data_dir is None) != (arguments.dev_tokens is None):
        parser.error("--dev_data_dir and --dev_tokens belong together")
    kind, config = load_training_config(arguments.config, arguments.overrides)
    data = AcousticData(arguments.data_dir, arguments.tokens, arguments.dev_data_dir, arguments.dev_tokens,
                        arguments.codec)
    train(kind.training, config, data, arguments.output, arguments.seed)


if __name__ == "__main__":
    run(main)
