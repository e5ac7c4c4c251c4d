"""Stage 13: one page in one file, with figures, plots, and speech to listen to."""

import argparse
import logging
import time
from pathlib import Path

from audiopalm.core.command import run
from audiopalm.report.attention import AttentionOptions
from audiopalm.report.page import Page, write_page
from audiopalm.scoring.results import read_rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--expdir", default="exp", help="decodes, transcripts and training logs")
    parser.add_argument("--data_dir", default="dump/raw", help="data directories of all sets")
    parser.add_argument("--results", default="results.json", help="rows of stage 12")
    parser.add_argument("--recipe", default=Path.cwd().name, help="its name in the rows (default: this folder's)")
    parser.add_argument("--output", required=True, help="folder of the page, e.g. exp/report")
    parser.add_argument("--examples", type=int, default=8, help="utterances per decode")
    parser.add_argument("--lm", type=Path, help="the model that decoded: its attention is shown")
    parser.add_argument("--vocabulary", type=Path)
    parser.add_argument("--tokens", type=Path, help="tokens of all sets, e.g. dump/tokens")
    parser.add_argument("--no_attention", action="store_true", help="do not load the model, which may be large")
    arguments = parser.parse_args()
    began = time.monotonic()
    # The decodes at hand are those that were scored last, which has results of its own.
    last = read_rows(Path(arguments.expdir) / "score" / "results.json")
    given = (arguments.lm, arguments.vocabulary, arguments.tokens)
    attention = AttentionOptions(*given) if all(given) and not arguments.no_attention else None
    page = Page(Path(arguments.expdir), Path(arguments.data_dir), Path(arguments.output), arguments.examples, attention)
    path = write_page(page, read_rows(arguments.results), last, arguments.recipe)
    logging.info("open %s (%.1f MB), %.1f s", path, path.stat().st_size / 1e6, time.monotonic() - began)


if __name__ == "__main__":
    run(main)
