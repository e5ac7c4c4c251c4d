"""Stage 7 with --init_lm or --init_pack: import an LM that was trained elsewhere, in the format of stage 7."""

import argparse
from pathlib import Path

from audiopalm.core.arguments import add_seed
from audiopalm.core.command import run
from audiopalm.lm.importing import import_pack_lm, import_text_lm


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--init_lm", help="folder or hub id of a text LM in Hugging Face's layout, as in stage 6")
    source.add_argument("--init_pack", type=Path, help="folder of a packed model (stage 14), as in stage 6")
    parser.add_argument("--vocabulary", type=Path, required=True, help="directory of stage 6")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--layers", type=int, help="of --init_lm, only so many layers, the first (default: all)")
    parser.add_argument("--random", action="store_true", help="of --init_lm only the shape; the seed draws the weights")
    add_seed(parser, "for config.json, and for --random")
    arguments = parser.parse_args()
    if arguments.init_pack and (arguments.layers is not None or arguments.random):
        parser.error("--layers and --random are for --init_lm")
    if arguments.init_pack:
        import_pack_lm(arguments.init_pack, arguments.vocabulary, arguments.output, arguments.seed)
    else:
        import_text_lm(arguments.init_lm, arguments.vocabulary, arguments.output, arguments.seed, arguments.layers,
                       arguments.random)


if __name__ == "__main__":
    run(main)
