"""Is one system better than another: paired bootstrap on the same utterances.

A and B are folders of stage 12, for example exp/score and exp_other/score. Every figure that both have is compared;
other references, normalisers, judges or versions of a metric are refused.
"""

import argparse

from audiopalm.core.command import run
from audiopalm.report.results_page import number, table
from audiopalm.scoring.metrics import RESAMPLES
from audiopalm.scoring.results import read_rows, select
from audiopalm.scoring.significance import comparable, compare, figure_name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", metavar="A")
    parser.add_argument("second", metavar="B")
    parser.add_argument("--sets", default="", help="sets to compare (default: all that both have)")
    parser.add_argument("--metrics", default="wer bleu asr_bleu", help="also cer, chrf, asr_wer")
    arguments = parser.parse_args()
    wanted = {"metric": lambda name: name in arguments.metrics.split(),
              "set": lambda name: not arguments.sets or name in arguments.sets.split()}
    first, second = (select(read_rows(f"{folder}/results.json"), **wanted)
                     for folder in (arguments.first, arguments.second))
    lines = []
    for one, other in comparable(first, second):
        found = compare(arguments.first, arguments.second, one, other)
        metric = one["metric"]
        lines.append([figure_name(one), number(metric, found.first), number(metric, found.second),
                      number(metric, found.second - found.first), f"{found.p:.3f}", str(one["n"])])
    print(f"A: {arguments.first}\nB: {arguments.second}\n"
          f"p: paired bootstrap over utterances, {RESAMPLES} resamples; below 0.05 the systems differ\n")
    print(table(["figure", "A", "B", "B - A", "p", "n"], lines))


if __name__ == "__main__":
    run(main)
