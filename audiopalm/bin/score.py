"""Stage 12: score every decode of every set; write results.json and RESULTS.md; compare with published figures."""

import argparse
from pathlib import Path

from audiopalm.core.arguments import add_seed, options_of
from audiopalm.core.command import run
from audiopalm.report.run_results import ResultOptions, score_and_report
from audiopalm.scoring.score_run import ScoreOptions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--decode_dir", type=Path, required=True, help="decodes of all sets, e.g. exp/decode")
    add("--data_dir", type=Path, required=True, help="data directories of all sets, e.g. dump/raw")
    add("--output", type=Path, required=True, help="scored texts, transcripts and caches, e.g. exp/score")
    add("--results", type=Path, required=True, help="file for the rows of the run, e.g. exp/results.json")
    add("--report", type=Path, required=True, help="file for the page made from them, e.g. exp/RESULTS.md")
    add("--publish", action="store_true", help="also merge the rows into results.json and RESULTS.md of the recipe")
    add("--goals", type=Path, help="goals of the recipe (default: conf/goals.yaml, if it exists)")
    add("--recipe", default=Path.cwd().name, help="its name in the rows (default: this folder's)")
    add("--units", type=Path, help="directory of stage 3, whose figures of units become rows too")
    add("--sets", default="", help="sets to score (default: all that were decoded)")
    add("--judges", default="moonshine", help='English judges: "moonshine pocketsphinx:40" (the second judges 40 '
        "utterances per decode), or the folder or hub id of a Whisper or CTC model")
    add("--translations", choices=["basic", "none", "cvss"], default="basic",
        help="normaliser of BLEU and chrF of text; none: with case and punctuation, as published")
    add("--recognition", choices=["basic", "whisper"], default="basic", help="normaliser of WER and CER of text")
    add("--speech", choices=["english", "cvss", "whisper"], default="english", help="normaliser of judged speech")
    add("--speaker_encoder", type=Path, metavar="FILE", help="a second encoder of voices, in ONNX, as WeSpeaker and "
        "3D-Speaker publish them; its rows are speaker_cosine_onnx and speaker_win_onnx")
    add("--dnsmos", type=int, default=0, metavar="N", help="DNSMOS of N utterances per decode in the source's voice")
    add("--forgetting", type=int, default=0, metavar="N", help="also the loss of the texts of test sets, and BLEU of N "
        "translated texts of each language, by --text_lm and by --lm")
    for name, stage in (("vocabulary", 6), ("text_lm", 7), ("lm", 8)):
        add(f"--{name}", type=Path, help=f"directory of stage {stage}, for --forgetting")
    add("--processes", type=int, default=2)
    add_seed(parser, "of the run, for the rows")
    args = parser.parse_args()
    score_and_report(options_of(ScoreOptions, args), options_of(ResultOptions, args))


if __name__ == "__main__":
    run(main)
