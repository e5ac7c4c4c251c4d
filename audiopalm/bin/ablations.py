"""Train, decode and score the systems of the paper's ablations in small; write tables.json and TABLES.md.

tables.sh runs it in the directory of a recipe whose stages 1 to 10 are finished. A finished run is not repeated; an
interrupted run resumes.
"""

import argparse
from pathlib import Path

from audiopalm.core.arguments import options_of, parse_seed
from audiopalm.core.command import run
from audiopalm.core.config import load_config
from audiopalm.report.ablation_runs import TableFiles, run_ablations
from audiopalm.report.ablations import Ablations


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="conf/tables/tables.yaml", help="systems and comparisons")
    parser.add_argument("--only", default="", help='rows: "table5 table6" (default: all)')
    parser.add_argument("--seeds", default="0 1 2")
    parser.add_argument("--parallel", type=int, default=1, help="runs at a time, which share the cores")
    parser.add_argument("--expdir", type=Path, default="exp/tables", help="a folder <system>_seed<N> for each run")
    parser.add_argument("--lm_args", default="", help="further arguments of every stage 8, for a trial")
    parser.add_argument("--results", type=Path, default="tables.json", help="the scores of all runs")
    parser.add_argument("--report", type=Path, default="TABLES.md", help="the page made from --results")
    arguments = parser.parse_args()
    run_ablations(load_config(Ablations, arguments.config), arguments.only.split(),
                  [parse_seed(word) for word in arguments.seeds.split()], options_of(TableFiles, arguments),
                  arguments.lm_args, arguments.parallel)


if __name__ == "__main__":
    run(main)
