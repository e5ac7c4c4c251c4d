"""Pack a model of ESPnet's Trainer with all files that inference needs, in ESPnet's format: a zip with meta.yaml."""

from pathlib import Path

import yaml

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import require
from audiopalm.espnet.imports import pack
from audiopalm.stages.pack import CONTENTS
from audiopalm.vocabulary.joint import load_vocabulary
from audiopalm.vocabulary.text import tokenizer_file


def pack_model(config_file: Path, model_file: Path, folders: dict[str, Path], outpath: Path) -> None:
    """Pack a checkpoint of ESPnet's Trainer with the other models into the zip `outpath`.

    folders: {name in CONTENTS, except `lm`: folder}. Paths in the zip are relative to the working directory. Raises
    AudioPaLMError for missing files, for files outside of the working directory, and for a vocabulary that is not the
    checkpoint's.
    """
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
