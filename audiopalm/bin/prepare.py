"""Stage 1: write Kaldi data directories for a corpus."""

import argparse
import logging
import time

from audiopalm.bin.common import run
from audiopalm.corpora import mini

CORPORA = {"mini": mini.prepare}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", choices=sorted(CORPORA), required=True, help="which corpus the source holds")
    parser.add_argument("--source", required=True, help="folder of the corpus")
    parser.add_argument("--output", required=True, help="folder for <set>/{wav.scp,segments,text,...} and report.json")
    arguments = parser.parse_args()
    start = time.monotonic()
    logging.info("reading %s", arguments.source)
    report = CORPORA[arguments.corpus](arguments.source, arguments.output)
    for name, entry in report.items():
        dropped = ", ".join(f"{count} {reason}" for reason, count in entry["dropped"].items()) or "none"
        logging.info("%s/%s: %d utterances, %.2f h, %.1f s on average; dropped: %s", arguments.output, name,
                     entry["kept"], entry["hours"], entry["seconds"]["mean"], dropped)
    logging.info("wrote %s in %.1f s", arguments.output, time.monotonic() - start)


if __name__ == "__main__":
    run(main)
