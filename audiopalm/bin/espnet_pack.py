"""A model of ESPnet's Trainer with all that inference needs, as ESPnet packs models: one zip with meta.yaml.

`Speech2Any.from_pretrained` of audiopalm/espnet/inference.py loads it.
"""

import argparse
from pathlib import Path

import yaml

from audiopalm.core.command import run
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import require
from audiopalm.stages.pack import CONTENTS
from audiopalm.vocabulary.joint import load_vocabulary
from audiopalm.vocabulary.text import tokenizer_file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model_file", required=True, help="for example exp/espnet_lm/valid.loss.best.pth")
    parser.add_argument("--config_file", help="its config.yaml, unless it lies beside it")
    parser.add_argument("--expdir", default="exp", help="holds vocabulary, units, codec, acoustic")
    parser.add_argument("--units", help="folder of stage 3 (default: units in --expdir)")
    parser.add_argument("--codec", help="folder of stage 4 (default: codec in --expdir)")
    parser.add_argument("--outpath", required=True, help="the zip to write")
    args = parser.parse_args()
    folders = {name: Path(args.expdir) / name for name in CONTENTS if name != "lm"}
    folders |= {name: Path(given) for name, given in (("units", args.units), ("codec", args.codec)) if given}
    config_file = Path(args.config_file or Path(args.model_file).parent / "config.yaml")
    pack_model(config_file, Path(args.model_file), folders, Path(args.outpath))


def pack_model(config_file: Path, model_file: Path, folders: dict[str, Path], outpath: Path) -> None:
    """`folders` are those of `CONTENTS` but `lm`. Paths in the zip are relative to the directory where this runs."""
    from audiopalm.espnet.imports import pack  # without ESPnet, an error of one line

    files = [require(folders[name] / file, stage) for name, (names, stage) in CONTENTS.items() if name in folders
             for file in names]
    files.append(tokenizer_file(folders["vocabulary"]))
    for file in (config_file, model_file, *files):
        if not require(file).resolve().is_relative_to(Path.cwd()):
            raise AudioPaLMError(f"{file} is not below the current directory, where ESPnet looks for what it packs; "
                                 "copy it here, or run this further up")
    vocabulary, _ = load_vocabulary(folders["vocabulary"])
    vocabulary.check(yaml.safe_load(config_file.read_text(encoding="utf-8"))["vocabulary_hash"], str(config_file))
    named = {"audiopalm_model_file": model_file, "vocabulary_file": folders["vocabulary"] / "vocabulary.json"}
    named |= {f"{name}_file": folders[name] / "config.json" for name in ("units", "acoustic", "codec")}
    pack(files=named, yaml_files={"audiopalm_train_config": config_file}, outpath=outpath,
         option=[file for file in files if file not in named.values()])


if __name__ == "__main__":
    run(main)
