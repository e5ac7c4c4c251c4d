"""Pack a model of ESPnet's Trainer with all files that inference needs, in ESPnet's format: a zip with meta.yaml.

`Speech2Any.from_pretrained` of audiopalm/espnet/inference.py loads it.
"""

import argparse
from pathlib import Path

from audiopalm.core.command import run
from audiopalm.stages.pack import CONTENTS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model_file", required=True, help="for example exp/espnet_lm/valid.loss.best.pth")
    parser.add_argument("--config_file", help="its config.yaml (default: the one beside it)")
    parser.add_argument("--expdir", default="exp", help="folder with vocabulary, units, codec, acoustic")
    parser.add_argument("--units", help="folder of stage 3 (default: units in --expdir)")
    parser.add_argument("--codec", help="folder of stage 4 (default: codec in --expdir)")
    parser.add_argument("--outpath", required=True, help="the zip to write")
    args = parser.parse_args()
    folders = {name: Path(args.expdir) / name for name in CONTENTS if name != "lm"}
    folders |= {name: Path(given) for name, given in (("units", args.units), ("codec", args.codec)) if given}
    # Imported here, because `run` shows a missing ESPnet as an error of one line.
    from audiopalm.espnet.packing import pack_model

    config_file = Path(args.config_file or Path(args.model_file).parent / "config.yaml")
    pack_model(config_file, Path(args.model_file), folders, Path(args.outpath))


if __name__ == "__main__":
    run(main)
