"""Is one system better than another? Paired bootstrap on the same utterances.

A and B are experiment folders after stage 12, for example exp and exp_other, with results.json and score/. Every figure
that both have is compared. Figures with different references, normalisers, judges or metric versions are refused.
"""

import argparse

from audiopalm.core.command import run
from audiopalm.report.comparison import compare_runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", metavar="A")
    parser.add_argument("second", metavar="B")
    parser.add_argument("--sets", default="", help="sets to compare (default: all that both have)")
    parser.add_argument("--metrics", default="wer bleu asr_bleu", help="also cer, chrf, asr_wer")
    print(compare_runs(**vars(parser.parse_args())))


if __name__ == "__main__":
    run(main)
