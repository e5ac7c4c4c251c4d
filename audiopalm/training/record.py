"""The record of a training: `training.json` in its folder. A later run with other settings or inputs is refused.

The record holds everything that changes the result: configuration, seed, vocabulary and hashes of the inputs. Settings
that do not change it (`training.workers`, `training.log_every`, marked `free` in their dataclass) are left out.
"""

import dataclasses
import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import read_json, sha256, write_json

RECORD = "training.json"
TABLES = ("wav.scp", "segments", "text", "utt2spk", "utt2lang")  # in a data directory, also as `<table>.<language>`


def settings_of(config: Any) -> Any:
    """A configuration as plain values, without the settings that are free to change."""
    if dataclasses.is_dataclass(config):
        return {field.name: settings_of(getattr(config, field.name)) for field in dataclasses.fields(config)
                if not field.metadata.get("free")}
    if isinstance(config, Mapping):
        return {str(key): settings_of(value) for key, value in config.items()}
    if isinstance(config, list | tuple):
        return [settings_of(value) for value in config]
    return config


def hash_data(directory: str | Path | None) -> str | None:
    """A hash of the tables of a data directory; None where `directory` is None."""
    return None if directory is None else _hash_tables(Path(directory), TABLES)


def made_from_speech(config: Any, seed: int, data: str | Path, dev: str | Path | None) -> dict[str, Any]:
    """The settings and hashes of everything that changes a model of speech: units or a codec."""
    return {"config": settings_of(config), "seed": seed, "data": hash_data(data), "dev": hash_data(dev)}


def hash_tokens(directory: str | Path | None) -> str | None:
    """A hash of the token folder of stage 5: meta.json, the ids, and the names of the archives without their folders.

    None where `directory` is None.
    """
    return None if directory is None else _hash_tables(Path(directory), ("meta.json", "units", "codec"))


def _hash_tables(directory: Path, names: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    for path in sorted(directory.iterdir()) if directory.is_dir() else []:
        if path.is_file() and any(path.name == name or path.name.startswith(f"{name}.") for name in names):
            digest.update(path.name.encode() + b"\0")
            for line in path.read_bytes().split(b"\n"):
                # An archive or audio file may be moved to another folder: only its name counts.
                key, _, value = line.partition(b" ")
                named = path.name.endswith(".scp") or path.name.startswith("wav.scp.")
                digest.update(key + b" " + (value.rpartition(b"/")[2] if named else value) + b"\n")
    return digest.hexdigest()


def hash_model(directory: str | Path | None) -> str | None:
    """A hash of the weights in the folder of a model, in one file or several; None where there are none."""
    files = [] if directory is None else sorted(Path(directory).glob("*.safetensors"))
    whole = [path for path in files if path.name == "model.safetensors"]
    digests = [sha256(path) for path in whole or files]
    if len(digests) > 1:
        return hashlib.sha256("".join(digests).encode()).hexdigest()
    return digests[0] if digests else None


def digest(made_from: Mapping[str, Any]) -> str:
    """SHA-256 of the content of a record."""
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()


def begin(output: Path, product: str, made_from: Mapping[str, Any]) -> bool:
    """Write the record of a training that makes `output/product`; False if it has been made with the same settings.

    Raises AudioPaLMError where the folder was begun with other settings, with one line for each key that differs, and
    where it holds the product without a record. The number of processes is not recorded: it does not change the result.
    """
    made_from = json.loads(json.dumps(made_from))
    path, finished = output / RECORD, (output / product).exists()
    if path.exists():
        record = read_json(path)
        if not isinstance(record, dict) or not isinstance(record.get("made_from"), dict):
            raise AudioPaLMError(f"{path} is not the record of a training; remove {output} to train anew")
        differing = differences(record["made_from"], made_from)
        if differing:
            state = "was trained" if finished else "was begun"
            raise AudioPaLMError(f"{output} {state} with other settings (old -> new); remove it to train anew, or "
                                 "give another output folder:\n  " + "\n  ".join(differing))
    elif finished:
        raise AudioPaLMError(f"{output} holds {product} but no {RECORD}, the record of its settings; remove {output} "
                             "to train anew, or give another output folder")
    if finished:
        logging.info("%s is finished; remove it to train anew", output)
        return False
    if not path.exists():
        write_json(path, {"made_from": made_from})
    return True


def differences(old: Any, new: Any, key: str = "") -> list[str]:
    """`key: old -> new` of every value that differs in nested dictionaries."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [line for name in sorted(old.keys() | new.keys())
                for line in differences(old.get(name), new.get(name), f"{key}.{name}" if key else name)]
    return [] if old == new else [f"{key}: {_shown(old)} -> {_shown(new)}"]


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."
