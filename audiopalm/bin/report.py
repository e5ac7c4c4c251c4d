"""Stage 13: a page in a single file, with figures, plots, and examples with audio."""

import argparse
from pathlib import Path

from audiopalm.core.command import run
from audiopalm.core.lock import locked
from audiopalm.report.page import PageOptions, write_page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--expdir", type=Path, default="exp", help="decodes, scored texts and training logs")
    parser.add_argument("--data_dir", type=Path, default="dump/raw", help="data directories of all sets")
    parser.add_argument("--results", type=Path, required=True, help="rows of stage 12, e.g. exp/results.json")
    parser.add_argument("--goals", type=Path, help="goals of the recipe (default: conf/goals.yaml, if it exists)")
    parser.add_argument("--recipe", default=Path.cwd().name, help="its name in the rows (default: this folder's)")
    parser.add_argument("--output", type=Path, required=True, help="folder of the page, e.g. exp/report")
    parser.add_argument("--examples", type=int, default=8, help="utterances per decode")
    parser.add_argument("--lm", type=Path, help="the model that decoded: its attention is shown")
    parser.add_argument("--vocabulary", type=Path)
    parser.add_argument("--tokens", type=Path, help="tokens of all sets, e.g. dump/tokens")
    parser.add_argument("--no_attention", action="store_true", help="do not load the model, which may be large")
    options = PageOptions(**vars(parser.parse_args()))
    with locked(options.output, "report"):
        write_page(options)


if __name__ == "__main__":
    run(main)
