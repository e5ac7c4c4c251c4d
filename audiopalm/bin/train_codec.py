"""Stage 4: train a codec (speech <-> 50 Hz ids of several levels) on the recordings of a data directory.

`kind` in the configuration says which: `spectral`, which two cores train in half an hour, or `soundstream`.
"""

import argparse
import json
import logging
from pathlib import Path

from audiopalm.codec.soundstream_training import SoundStreamTraining, train_soundstream
from audiopalm.codec.spectral_training import CodecTraining, train_codec
from audiopalm.core.arguments import parse_with_overrides
from audiopalm.core.command import run
from audiopalm.core.config import load_kind_config

KINDS = {"spectral": (CodecTraining, train_codec), "soundstream": (SoundStreamTraining, train_soundstream)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", required=True, help="data directory of stage 2")
    parser.add_argument("--config", help="YAML of CodecTraining (codec/spectral_training.py) or, with `kind: "
                                         "soundstream`, of SoundStreamTraining (codec/soundstream_training.py)")
    parser.add_argument("--output", required=True, help="directory to write, or to go on in")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parse_with_overrides(parser, "decoder_steps=100")
    config = load_kind_config(arguments.config, arguments.overrides,
                              {kind: training for kind, (training, _) in KINDS.items()}, "spectral")
    train = KINDS[config.kind][1]
    if (Path(arguments.output) / "report.json").exists():
        logging.info("%s is trained already; remove it to train anew", arguments.output)
        return
    print(json.dumps(train(arguments.data_dir, config, arguments.output, arguments.seed), indent=1))


if __name__ == "__main__":
    run(main)
