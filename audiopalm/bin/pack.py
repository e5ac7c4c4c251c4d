"""Stage 14: all that inference needs in one folder, with a model card and a manifest, and a zip of the folder.

`AudioPaLM.from_pretrained` loads the folder. The same inputs give the same bytes.
"""

import argparse
import logging
from pathlib import Path

from audiopalm.core.command import run
from audiopalm.core.files import read_json
from audiopalm.report.card import card
from audiopalm.stages.pack import CONTENTS, pack


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--expdir", default="exp", help="holds lm, vocabulary, acoustic")
    parser.add_argument("--units", help="folder of stage 3 (default: units in --expdir)")
    parser.add_argument("--codec", help="folder of stage 4 (default: codec in --expdir)")
    parser.add_argument("--results", default="results.json", help="rows for the model card, if the file exists")
    parser.add_argument("--recipe", default=Path.cwd().name, help="its name in the rows (default: this folder's)")
    parser.add_argument("--output", required=True, help="folder to make, e.g. exp/pack; the zip lies beside it")
    arguments = parser.parse_args()
    folders = {name: Path(arguments.expdir) / name for name in CONTENTS}
    folders |= {name: Path(given) for name, given in (("units", arguments.units), ("codec", arguments.codec)) if given}
    seed = read_json(folders["lm"] / "config.json", CONTENTS["lm"][1]).get("seed")
    languages = read_json(folders["vocabulary"] / "vocabulary.json", CONTENTS["vocabulary"][1])["languages"]
    text = card(arguments.recipe, Path(arguments.results), seed, languages)
    archive = pack(folders, Path(arguments.output), arguments.recipe, text)
    logging.info("packed %s and %s (%.1f MB)", arguments.output, archive, archive.stat().st_size / 1e6)


if __name__ == "__main__":
    run(main)
