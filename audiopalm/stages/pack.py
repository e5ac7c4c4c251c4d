"""Stage 14: a folder with all files that inference needs, a model card and a manifest, and a zip of the folder.

`AudioPaLM.from_pretrained` loads the folder. The same inputs give the same bytes.
"""

import shutil
import zipfile
from pathlib import Path

import audiopalm
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import atomic_path, require, sha256, write_json
from audiopalm.core.manifest import MANIFEST
from audiopalm.core.partials import partial_folder
from audiopalm.vocabulary.text import tokenizer_file

# Folder -> the files that inference reads, and the stage that makes them.
CONTENTS = {
    "lm": (("config.json", "model.safetensors"), "stage 8 (finetune)"),
    "vocabulary": (("vocabulary.json",), "stage 6 (vocabulary)"),  # and the tokenizer, which has one of several names
    "units": (("config.json", "model.safetensors"), "stage 3 (units)"),
    "codec": (("config.json", "model.safetensors"), "stage 4 (codec)"),
    "acoustic": (("config.json", "model.safetensors"), "stage 9 (acoustic)"),
}


def pack(folders: dict[str, Path], output: Path, recipe: str, beside: dict[str, bytes]) -> Path:
    """Write the pack `output` and its zip; returns the path of the zip.

    The folder gets its final name when it is complete. folders: {name in CONTENTS: folder that its files are copied
    from}. beside: {name: contents} of the card and other files at the top of the pack. Raises AudioPaLMError for a
    missing file, and if `output` is neither an earlier pack nor empty.
    """
    if output.exists() and not (output / MANIFEST).is_file() and not (output.is_dir() and not any(output.iterdir())):
        raise AudioPaLMError(f"{output} exists and is no pack, so it is not replaced; give --output another name")
    for name, (files, stage) in CONTENTS.items():
        for file in files:
            require(folders[name] / file, stage)
    tokenizer = tokenizer_file(folders["vocabulary"])
    partial = partial_folder(output)
    for name, (files, _) in CONTENTS.items():
        (partial / name).mkdir(parents=True)
        for file in files:
            shutil.copyfile(folders[name] / file, partial / name / file)
    shutil.copyfile(tokenizer, partial / "vocabulary" / tokenizer.name)
    for name, contents in beside.items():
        (partial / name).write_bytes(contents)
    packed = {path.relative_to(partial).as_posix(): {"sha256": sha256(path), "bytes": path.stat().st_size}
              for path in sorted(partial.rglob("*")) if path.is_file()}
    write_json(partial / MANIFEST, {"audiopalm": audiopalm.__version__, "recipe": recipe, "files": packed})
    shutil.rmtree(output, ignore_errors=True)
    partial.rename(output)
    return zip_folder(output, output.with_name(f"{output.name}.zip"))


def zip_folder(folder: Path, output: Path) -> Path:
    """Write a zip of `folder`, with fixed dates and order so that equal folders give equal zips; returns `output`."""
    with atomic_path(output) as temporary, zipfile.ZipFile(temporary, "w", compresslevel=1) as file:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                name = (Path(folder.name) / path.relative_to(folder)).as_posix()
                entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
                entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
                file.writestr(entry, path.read_bytes())
    return output
