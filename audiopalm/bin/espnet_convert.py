"""Convert language models between ESPnet's Trainer and the other stages.

    --model_file exp/espnet_lm/valid.loss.best.pth --output exp/lm          config.json and model.safetensors
    --lm exp/lm --vocabulary exp/vocabulary --output exp/espnet_lm_start    config.yaml and model.pth
"""

import argparse
import logging

from audiopalm.core.command import run
from audiopalm.core.errors import AudioPaLMError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--model_file", help="weights of ESPnet's Trainer")
    source.add_argument("--lm", help="directory of stage 8")
    parser.add_argument("--config_file", help="config.yaml of --model_file (default: the one beside it)")
    parser.add_argument("--vocabulary", help="directory of stage 6, with --lm")
    parser.add_argument("--output", required=True, help="folder to write into")
    args = parser.parse_args()
    from audiopalm.espnet.convert import from_espnet, to_espnet  # `run` shows a missing ESPnet in one line

    if args.model_file is not None:
        from_espnet(args.model_file, args.output, args.config_file)
    elif args.vocabulary is None:
        raise AudioPaLMError("--lm needs --vocabulary")
    else:
        to_espnet(args.lm, args.vocabulary, args.output)
    logging.info("wrote %s", args.output)


if __name__ == "__main__":
    run(main)
