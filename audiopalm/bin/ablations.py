"""Run the paper's claims in small: train, decode and score the systems; write tables.json, TABLES.md and the plots.

tables.sh runs it in the directory of a recipe whose stages 1 to 10 are finished. A finished run is not repeated; an
interrupted run resumes.
"""

import argparse
from pathlib import Path

from audiopalm.ablations.design import Design
from audiopalm.ablations.hours import hours_table
from audiopalm.ablations.run_systems import Outputs, missing_runs, planned_runs, run_systems, write_pages
from audiopalm.ablations.runs import read_runs
from audiopalm.core.arguments import parse_seed
from audiopalm.core.command import run
from audiopalm.core.config import load_config


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("tables", nargs="*", help="names of comparisons, such as table5 table6 (default: all)")
    add("--config", default="conf/tables/tables.yaml", help="the design")
    add("--seeds", default="", help='"0 1" (default: those of the design)')
    add("--parallel", type=int, default=1, help="runs at a time, which share the cores")
    add("--cmd", default="", help="launcher of the jobs of every run, such as slurm.pl (default: those of cmd.sh)")
    add("--expdir", type=Path, default="exp/tables", help="a folder <system>_seed<N> for each run")
    add("--lm_args", default="", help="further arguments of every stage 8, for a trial")
    add("--results", type=Path, default="tables.json", help="the scores of all runs")
    add("--report", type=Path, default="TABLES.md", help="the page made from --results")
    add("--plots", type=Path, default="exp/tables/plots.html", help="the page of plots made from --results")
    add("--dry_run", action="store_true", help="print the hours that the missing runs take, and run nothing")
    add("--missing_only", action="store_true", help="leave out runs whose scores --results has already")
    add("--pages_only", action="store_true", help="write --report and --plots from --results, and run nothing")
    args = parser.parse_args()
    design, outputs = load_config(Design, args.config), Outputs(args.results, args.report, args.plots)
    if args.pages_only:
        return write_pages(design, read_runs(args.results), outputs)
    seeds = [parse_seed(word) for word in args.seeds.split()] or None
    runs = planned_runs(design, design.chosen(args.tables), seeds, args.expdir, args.lm_args, args.cmd)
    if args.missing_only:
        known = read_runs(args.results)
        runs = missing_runs(design, runs, known)
        if not runs:
            print(f"{args.results} has the scores of all these runs")
            return write_pages(design, known, outputs)
    if args.dry_run:
        return print(hours_table(design, runs, args.parallel))
    run_systems(design, runs, args.parallel, outputs)


if __name__ == "__main__":
    run(main)
