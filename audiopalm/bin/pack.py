"""Stage 14: a folder with all files that inference needs, a model card and a manifest, and a zip of the folder.

`AudioPaLM.from_pretrained` loads the folder. The same inputs give the same bytes.
"""

import argparse
from pathlib import Path

from audiopalm.core.command import run
from audiopalm.core.lock import locked
from audiopalm.report.model_pack import PackOptions, pack_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--expdir", type=Path, default="exp", help="folder with lm, vocabulary, acoustic")
    parser.add_argument("--units", type=Path, help="folder of stage 3 (default: units in --expdir)")
    parser.add_argument("--codec", type=Path, help="folder of stage 4 (default: codec in --expdir)")
    parser.add_argument("--results", type=Path, default="exp/results.json", help="scores for the card, if it exists")
    parser.add_argument("--goals", type=Path, help="goals of the recipe (default: conf/goals.yaml, if it exists)")
    parser.add_argument("--domain", type=Path, help="sentences that the model understands (default: conf/domain.yaml, "
                                                    "if it exists)")
    parser.add_argument("--decode_dir", type=Path, default="exp/decode", help="for an example in the card")
    parser.add_argument("--data_dir", type=Path, default="dump/raw", help="for an example in the card")
    parser.add_argument("--recipe", default=Path.cwd().name, help="its name in the rows (default: this folder's)")
    parser.add_argument("--license", default="other", help="of the weights, as the hub names it: cc-by-sa-3.0")
    parser.add_argument("--output", type=Path, required=True, help="folder to write; the zip is written beside it")
    options = PackOptions(**vars(parser.parse_args()))
    with locked(options.output.parent, "pack"):  # the folder itself is replaced
        pack_model(options)


if __name__ == "__main__":
    run(main)
