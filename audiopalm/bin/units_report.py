"""Measure a unit tokenizer: purity of phones, use of the codebook, bits a second. Writes its report.json."""

import argparse
import json
from pathlib import Path

from audiopalm.core.command import run
from audiopalm.core.files import write_json
from audiopalm.data.speech import list_speech
from audiopalm.units.quality import measure_units
from audiopalm.units.registry import UnitTokenizer
from audiopalm.units.usm_v2 import UnitModel
from audiopalm.units.usm_v2_training import character_error_rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=Path, required=True, help="directory of stage 3")
    parser.add_argument("--data_dir", type=Path, required=True, help="data directory of stage 2")
    arguments = parser.parse_args()
    print(json.dumps(report_units(arguments.units, arguments.data_dir), indent=1))


def report_units(units: Path, data: Path, most: int = 300) -> dict:
    tokenizer = UnitTokenizer.load(units)
    report = measure_units(tokenizer, data, most)
    if isinstance(tokenizer.model, UnitModel):
        speech = [item for item in list_speech(data) if item.text]
        report["cer"] = round(character_error_rate(tokenizer.model, speech[::-(-len(speech) // most)]), 4)
    write_json(units / "report.json", report)
    return report


if __name__ == "__main__":
    run(main)
