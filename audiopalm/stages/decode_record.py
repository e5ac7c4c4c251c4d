"""The record of a set's decodes, and checks that speech and scores were made from the present decodes.

Stage 10 writes `decodes.json` into the folder of a set before it decodes. It holds the settings of every decode by the
present model. Stages 12 to 14 refuse folders that do not agree with it.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import read_json, write_json
from audiopalm.data.archive import TokenArchive
from audiopalm.data.datadir import read_table

DECODES, SYNTHESIS = "decodes.json", "synthesis.json"
DECODE, SYNTHESIZE = "stage 10 (decode)", "stage 11 (synthesize)"
MODEL_KEYS = ("model_sha256", "vocabulary_hash")
# Besides the units, these decide the speech.
SPEECH_KEYS = ("acoustic_sha256", "codec_sha256", "generation", "prompt_seconds", "seed")


def write_record(set_dir: Path, planned: Mapping[str, dict[str, Any]]) -> None:
    """Record {folder: settings} of the decodes that stage 10 is about to make.

    Finished decodes that the same model made earlier stay in the record; decodes of another model are removed from it.
    """
    models = {tuple(meta[key] for key in MODEL_KEYS) for meta in planned.values()}
    record = read_json(set_dir / DECODES) if (set_dir / DECODES).exists() else {}
    finished = {name: meta for name, meta in record.items() if name not in planned
                and tuple(meta[key] for key in MODEL_KEYS) in models and (set_dir / name / "meta.json").exists()}
    write_json(set_dir / DECODES, dict(sorted({**finished, **planned}.items())))


def check_decodes(set_dir: Path, decoded: Mapping[str, dict[str, Any]]) -> None:
    """Raise AudioPaLMError unless the decodes of a set, {folder: meta.json}, are those that stage 10 has recorded."""
    record = read_json(set_dir / DECODES, DECODE)
    for name, planned in record.items():
        if name not in decoded:
            raise AudioPaLMError(f"{set_dir / name} is not finished; run {DECODE} again")
        if odd := [key for key, value in planned.items() if decoded[name].get(key) != value]:
            raise AudioPaLMError(f"{set_dir / name} was decoded with another {odd[0]} than {DECODE} was last asked "
                                 "for; run it again")
    if stale := sorted(decoded.keys() - record.keys()):
        model = decoded[stale[0]]["model_sha256"]
        raise AudioPaLMError(f"{set_dir / stale[0]} was decoded by the model {model:.16}, the set last by another; "
                             f"run {DECODE} for it again, or remove the folder")


def spoken_fingerprint(units: Mapping[str, np.ndarray], prompts: Mapping[str, str]) -> str:
    """SHA-256 of the inputs of stage 11: the units `[T]` of all utterances and the names of their voice prompts."""
    digest = hashlib.sha256(json.dumps(dict(prompts), sort_keys=True).encode())
    for utterance in sorted(units):
        digest.update(utterance.encode() + np.asarray(units[utterance], dtype="<i4").tobytes())
    return digest.hexdigest()


def check_spoken(folder: Path) -> None:
    """Raise AudioPaLMError if the speech of a decode was made from other units than those of the decode."""
    record = read_json(folder / SYNTHESIS, SYNTHESIZE)
    prompts, archive = read_table(folder / "prompt.scp", SYNTHESIZE), TokenArchive(folder / "units.scp")
    units = {name: archive[name] for name in prompts if name in archive}
    if spoken_fingerprint(units, prompts) != record["input_sha256"]:
        raise AudioPaLMError(f"{folder} was decoded anew after it was spoken; run {SYNTHESIZE} again")


def check_spoken_alike(folder: Path, decode: Path) -> None:
    """Raise AudioPaLMError unless two folders were spoken by the same models with the same settings.

    `folder` is the ceiling of a set, whose score stands beside that of `decode`.
    """
    ceiling, spoken = read_json(folder / SYNTHESIS, SYNTHESIZE), read_json(decode / SYNTHESIS, SYNTHESIZE)
    if odd := [key for key in SPEECH_KEYS if ceiling.get(key) != spoken.get(key)]:
        raise AudioPaLMError(f"{folder} was spoken with another {odd[0]} than {decode}; run {SYNTHESIZE} with "
                             "--true_tokens again, or remove the former")


def decode_fingerprint(folder: Path) -> str:
    """16 digits of a hash of a decode's meta.json and, if it was spoken, of its synthesis.json."""
    digest = hashlib.sha256((folder / "meta.json").read_bytes())
    if (folder / SYNTHESIS).exists():
        digest.update((folder / SYNTHESIS).read_bytes())
    return digest.hexdigest()[:16]
