"""Stage 12: score every decode of every set; rows into results.json, RESULTS.md made from it.

Rows of other seeds, sets and recipes in results.json stay. Transcripts and voice embeddings are kept by content of the
audio, so that a rerun judges only what is new.
"""

import argparse
import logging
import platform
import subprocess
import time
from importlib.metadata import version
from pathlib import Path

import audiopalm
from audiopalm.core.command import run
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import write_json
from audiopalm.report.results_page import write_results
from audiopalm.scoring.decodes import TestSet, sets_of
from audiopalm.scoring.judge import judge_signature
from audiopalm.scoring.results import merge
from audiopalm.scoring.score_set import Run, score_set
from audiopalm.units.quality import unit_rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--decode_dir", required=True, help="decodes of all sets, e.g. exp/decode")
    parser.add_argument("--data_dir", required=True, help="data directories of all sets, e.g. dump/raw")
    parser.add_argument("--output", required=True, help="rows, transcripts and caches, e.g. exp/score")
    parser.add_argument("--results", default="results.json", help="rows of all runs of the recipe")
    parser.add_argument("--report", default="RESULTS.md", help="the page made from --results")
    parser.add_argument("--recipe", default=Path.cwd().name, help="its name in the rows (default: this folder's)")
    parser.add_argument("--units", type=Path, help="directory of stage 3: what it has measured of units is put in too")
    parser.add_argument("--sets", default="", help="sets to score (default: all that were decoded)")
    parser.add_argument("--judges", default="moonshine",
                        help='English judges; "moonshine pocketsphinx:40": the second hears 40 utterances per decode; '
                             "a folder or hub id: a Whisper or CTC model")
    parser.add_argument("--translations", choices=["basic", "none", "cvss"], default="basic",
                        help="normaliser of BLEU and chrF of text; none: with case and punctuation, as published")
    parser.add_argument("--recognition", choices=["basic", "whisper"], default="basic",
                        help="normaliser of WER and CER of text")
    parser.add_argument("--speech", choices=["english", "cvss", "whisper"], default="english",
                        help="normaliser of what the judges hear and should hear")
    parser.add_argument("--dnsmos", type=int, default=0, metavar="N",
                        help="of S2ST, measure DNSMOS too of N utterances per decode, evenly spread; about 2 s each")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0, help="of the run: stands in the rows")
    arguments = parser.parse_args()
    began = time.monotonic()
    settings = Run(arguments.recipe, arguments.seed, code_version(), Path(arguments.output),
                   parse_judges(arguments.judges), arguments.processes, arguments.translations,
                   arguments.recognition, arguments.speech, arguments.dnsmos)
    found = sets_of(arguments.decode_dir)
    rows = unit_rows(arguments.units, arguments.recipe, arguments.seed, settings.code) if arguments.units else []
    for name in arguments.sets.split() or found:
        test_set = TestSet(arguments.decode_dir, arguments.data_dir, name)
        trained = {decode.meta.get("model_seed", arguments.seed) for decode in test_set.decodes}
        if trained != {arguments.seed}:
            raise AudioPaLMError(f"{test_set.decode_dir} was decoded by a model of seed {min(trained)}, not "
                                 f"{arguments.seed}; give --seed {min(trained)} or run stage 10 (decode) again")
        rows += score_set(test_set, settings)
        logging.info("%s: %d decodes scored", name, len(test_set.decodes))
    write_json(Path(arguments.output) / "results.json", rows)
    merged = merge(arguments.results, rows)
    write_results(arguments.results, arguments.report)
    logging.info("%d rows of %d in %s, page %s, %.1f s", len(rows), len(merged), arguments.results, arguments.report,
                 time.monotonic() - began)


def parse_judges(text: str) -> dict[str, int | None]:
    """`moonshine pocketsphinx:40` -> {"moonshine": None, "pocketsphinx": 40}; raises for one that is not there."""
    judges: dict[str, int | None] = {}
    for word in text.split():
        name, _, count = word.partition(":")
        name = name.rstrip("/")
        judge_signature(name)
        if count and not (count.isdigit() and int(count) > 0):
            raise AudioPaLMError(f"--judges {word!r}: {count!r} is not a number of utterances")
        judges[name] = int(count) if count else None
    return judges


def code_version() -> str:
    """What made the rows: package, git commit, Python, torch."""
    found = subprocess.run(["git", "rev-parse", "--short=10", "HEAD"], cwd=Path(audiopalm.__file__).parent,
                           capture_output=True, text=True)
    commit = found.stdout.strip() if found.returncode == 0 else "no git"
    return (f"audiopalm {audiopalm.__version__} ({commit}), Python {platform.python_version()}, "
            f"torch {version('torch')}")


if __name__ == "__main__":
    run(main)
