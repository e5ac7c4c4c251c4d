"""Stage 9: train SoundStorm or AudioLM, which turn audio units and a voice prompt into codec tokens.

`kind` in the configuration selects the model: `soundstorm`, the default, or `audiolm`. After an interruption, the same
command resumes from the last checkpoint. A finished training is not repeated.
"""

import argparse
from pathlib import Path

from audiopalm.acoustic.training import AcousticData, train
from audiopalm.acoustic.trainings import load_training
from audiopalm.core.arguments import add_seed, parse_with_overrides
from audiopalm.core.command import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", required=True, help="data directory with utt2spk, e.g. dump/raw/train")
    parser.add_argument("--tokens", required=True, help="its units.scp, codec.scp, meta.json, e.g. dump/tokens/train")
    parser.add_argument("--dev_data_dir", help="data directory of the dev losses, e.g. dump/raw/dev")
    parser.add_argument("--dev_tokens", help="its tokens, e.g. dump/tokens/dev")
    parser.add_argument("--codec", help="folder of stage 4, whose codebooks the embeddings start from")
    parser.add_argument("--init_model", type=Path, help="folder of an acoustic model to start from")
    parser.add_argument("--config", required=True, help="conf/acoustic.yaml or conf/acoustic_audiolm.yaml")
    parser.add_argument("--output", type=Path, required=True, help="folder to write, e.g. exp/acoustic")
    add_seed(parser)
    arguments = parse_with_overrides(parser, "training.steps=10")
    if (arguments.dev_data_dir is None) != (arguments.dev_tokens is None):
        parser.error("--dev_data_dir and --dev_tokens belong together")
    training, config = load_training(arguments.config, arguments.overrides)
    data = AcousticData(arguments.data_dir, arguments.tokens, arguments.dev_data_dir, arguments.dev_tokens,
                        arguments.codec, arguments.init_model)
    train(training, config, data, arguments.output, arguments.seed)


if __name__ == "__main__":
    run(main)
