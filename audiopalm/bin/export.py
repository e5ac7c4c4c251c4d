"""Export the language model of stage 8 as a Hugging Face folder, which `AutoModelForCausalLM` of transformers loads.

A model that was imported stays in its family; a model that was trained here becomes a Llama.
"""

import argparse
from pathlib import Path

from audiopalm.core.command import run
from audiopalm.lm.huggingface.export import export


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lm", type=Path, required=True, help="directory of stage 8")
    parser.add_argument("--vocabulary", type=Path, required=True, help="directory of stage 6")
    parser.add_argument("--output", type=Path, required=True, help="folder to write; an earlier export is replaced")
    args = parser.parse_args()
    export(args.lm, args.vocabulary, args.output)


if __name__ == "__main__":
    run(main)
