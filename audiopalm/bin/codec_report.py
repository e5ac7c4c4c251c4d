"""Measure a codec: use of each codebook, speed, and for each number of levels mel distance, judged WER and DNSMOS.

Opus at its lowest rates, and Codec 2 if pycodec2 is installed, are measured for comparison. A measurement that was
interrupted resumes with the missing rows.
"""

import argparse
from pathlib import Path

from audiopalm.core.command import run
from audiopalm.core.files import check_writable
from audiopalm.scoring.codec_quality import measure_codec
from audiopalm.scoring.judge import JUDGES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codec", type=Path, required=True, help="directory of stage 4")
    parser.add_argument("--data_dir", type=Path, required=True,
                        help="directory of stage 2 that the codec was not trained on")
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    parser.add_argument("--language", default="en", help="language of the measured utterances and of the judge")
    parser.add_argument("--count", type=int, default=40, help="number of utterances, evenly spaced")
    parser.add_argument("--judge", default="moonshine", choices=[*JUDGES, "none"], help="English ASR for the WER")
    parser.add_argument("--dnsmos", type=int, default=10, help="utterances for DNSMOS, which is slow; 0: none")
    arguments = parser.parse_args()
    check_writable(arguments.output)
    print(measure_codec(arguments.codec, arguments.data_dir, arguments.output, arguments.language, arguments.count,
                        arguments.judge, arguments.dnsmos))


if __name__ == "__main__":
    run(main)
