"""Estimate, by formula, what stage 8 needs for a text LM: parameters, memory of a device, operations, hours.

The fraction of a device's peak that a training reaches is a guess. --track also measures a step without data.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from audiopalm.core.arguments import parse_with_overrides
from audiopalm.core.command import run
from audiopalm.core.config import load_config
from audiopalm.lm.estimate import Device, estimate, table
from audiopalm.lm.huggingface.pretrained import read_config
from audiopalm.lm.tracking import track
from audiopalm.lm.training import LMConfig


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, help="configuration of stage 8, for example conf/lm.yaml")
    parser.add_argument("--init_lm", type=Path, required=True,
                        help="folder with the config.json of a text LM; the weights are not needed")
    parser.add_argument("--audio_size", type=int, default=1024, help="audio ids that are added to the vocabulary")
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--peak", type=float, default=Device.peak, help="operations a second of one device")
    parser.add_argument("--share", type=float, default=Device.share, help="fraction of it that a training reaches")
    parser.add_argument("--output_share", type=float, default=1.0, help="fraction of tokens with a loss (1: all)")
    parser.add_argument("--track", action="store_true", help="also measure the memory by torch's trackers")
    arguments = parse_with_overrides(parser, "batch.rows=4")
    config = load_config(LMConfig, arguments.config, arguments.overrides)
    shape = read_config(arguments.init_lm)
    shape = replace(shape, vocabulary_size=shape.vocabulary_size + arguments.audio_size)
    result = estimate(shape, config, Device(arguments.devices, arguments.peak, arguments.share), arguments.output_share)
    tracked = track(shape, config, arguments.devices, arguments.output_share) if arguments.track else None
    print(table(result, arguments.devices, tracked))


if __name__ == "__main__":
    run(main)
