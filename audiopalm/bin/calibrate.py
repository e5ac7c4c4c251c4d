"""Part of stage 14: fit the confidence of answers on dev, test it on test, and write confidence.json."""

import argparse
from pathlib import Path

from audiopalm.core.arguments import add_seed
from audiopalm.core.command import run
from audiopalm.scoring.calibration import CalibrationOptions, calibrate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--lm", type=Path, required=True, help="directory of stage 8")
    add("--vocabulary", type=Path, required=True, help="directory of stage 6")
    add("--units", type=Path, required=True, help="directory of stage 3")
    add("--data_dir", type=Path, required=True, help="data directories of all sets, e.g. dump/raw")
    add("--tokens", type=Path, required=True, help="tokens of all sets, e.g. dump/tokens")
    add("--dev", default="dev", help="the set to fit on")
    add("--test", default="test", help="the set to test on")
    add("--more_texts", type=Path, help="a data directory of parallel texts that are added to dev")
    add("--outside_texts", type=Path, help="YAML of open sentences that are unlike the corpus")
    add("--most", type=int, default=60, help="maximum number of utterances per language pair")
    add("--outside_most", type=int, default=60, help="maximum number of inputs per kind of the outside set")
    add("--judge", default="", help="a judge of English, which decides whether answers of TTS are right")
    add("--acoustic", type=Path, help="directory of stage 9, for the judge")
    add("--codec", type=Path, help="directory of stage 4, for the judge")
    add("--judged_most", type=int, default=60, help="maximum number of utterances of a set that the judge hears")
    add("--output", type=Path, required=True, help="folder for confidence.json")
    add_seed(parser, "of the outside set")
    calibrate(CalibrationOptions(**vars(parser.parse_args())))


if __name__ == "__main__":
    run(main)
