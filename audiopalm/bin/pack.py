"""Stage 14: all that inference needs in one folder, with a model card and a manifest, and a zip of the folder.

`AudioPaLM.from_pretrained` loads the folder. The same inputs give the same bytes.
"""

import argparse
import logging
import shutil
import zipfile
from pathlib import Path

import audiopalm
from audiopalm.bin.common import run
from audiopalm.data.files import atomic_path, read_json, require, sha256, write_json, write_text
from audiopalm.languages import language_name
from audiopalm.report.results import headline_table
from audiopalm.report.rows import read_rows
from audiopalm.tasks import TASKS
from audiopalm.tokenizers.text import tokenizer_file

MANIFEST = "audiopalm.json"
# Folder -> the files that inference reads, and the stage that makes them.
CONTENTS = {
    "lm": (("config.json", "model.safetensors"), "stage 8 (finetune)"),
    "vocabulary": (("vocabulary.json",), "stage 6 (vocabulary)"),  # and the tokenizer, by whichever name
    "units": (("config.json", "model.safetensors"), "stage 3 (units)"),
    "codec": (("config.json", "model.safetensors"), "stage 4 (codec)"),
    "acoustic": (("config.json", "model.safetensors"), "stage 9 (acoustic)"),
}
CARD = """\
# AudioPaLM, recipe `{recipe}`

A decoder-only language model over text and audio tokens that recognises, translates and speaks, trained by the recipe
`{recipe}` of audiopalm {version}.

    from audiopalm.inference import AudioPaLM
    answer = AudioPaLM.from_pretrained("this folder")("x.wav", task="[S2ST Spanish English]")

- Languages: {languages}.
- Tags: {tags}, each followed by the name of the language, or of two for a translation.
- Parts: `lm/` the language model, `vocabulary/` text and audio ids, `units/` speech to audio tokens, `acoustic/` audio
  tokens to codec tokens in the voice of a prompt, `codec/` codec tokens to a waveform at 16 kHz.
- Limits: it knows the kind of sentences it was trained on, and no others.
- Licence: Apache-2.0 for the code. The weights were trained on the recordings of the recipe, whose licences and
  authors stand in its folder `corpus/`; attribute them when you pass the weights on.
- Files with their SHA-256: `{manifest}`.
{scores}"""


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
    archive = pack(folders, Path(arguments.output), arguments.recipe, Path(arguments.results))
    logging.info("packed %s and %s (%.1f MB)", arguments.output, archive, archive.stat().st_size / 1e6)


def pack(folders: dict[str, Path], output: Path, recipe: str, results: Path) -> Path:
    """Fill `output` aside, put it in place whole, zip it; returns the path of the zip."""
    for name, (files, stage) in CONTENTS.items():
        for file in files:
            require(folders[name] / file, stage)
    tokenizer = tokenizer_file(folders["vocabulary"])
    partial = output.with_name(f".{output.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    for name, (files, _) in CONTENTS.items():
        (partial / name).mkdir(parents=True)
        for file in files:
            shutil.copyfile(folders[name] / file, partial / name / file)
    shutil.copyfile(tokenizer, partial / "vocabulary" / tokenizer.name)
    write_text(partial / "README.md", card(recipe, results, read_json(folders["lm"] / "config.json").get("seed"),
                                            read_json(folders["vocabulary"] / "vocabulary.json")["languages"]))
    packed = {path.relative_to(partial).as_posix(): {"sha256": sha256(path), "bytes": path.stat().st_size}
              for path in sorted(partial.rglob("*")) if path.is_file()}
    write_json(partial / MANIFEST, {"audiopalm": audiopalm.__version__, "recipe": recipe, "files": packed})
    shutil.rmtree(output, ignore_errors=True)
    partial.rename(output)
    return zip_folder(output, output.with_name(f"{output.name}.zip"))


def card(recipe: str, results: Path, seed: int | None, languages: list[str]) -> str:
    """README.md of the pack: what it is, its licence, and the figures of the run that trained it."""
    scores = ""
    if results.exists():
        rows = [row for row in read_rows(results) if seed is None or row["seed"] == seed]
        if table := headline_table(rows, recipe, "test"):
            scores = f"\n## Scores on the set `test`\n\n{table}\n"
    tags = ", ".join(f"`[{task.tag} ...]`" for task in TASKS.values() if task.tag)
    return CARD.format(recipe=recipe, version=audiopalm.__version__, languages=", ".join(map(language_name, languages)),
                       tags=tags, manifest=MANIFEST, scores=scores)


def zip_folder(folder: Path, output: Path) -> Path:
    """A zip of `folder`, with fixed dates and order so that equal folders give equal zips."""
    with atomic_path(output) as temporary, zipfile.ZipFile(temporary, "w", compresslevel=1) as file:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                name = (Path(folder.name) / path.relative_to(folder)).as_posix()
                entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
                entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
                file.writestr(entry, path.read_bytes())
    return output


if __name__ == "__main__":
    run(main)
