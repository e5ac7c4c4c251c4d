"""Which decodes of a set belong together, and whether what was spoken or scored is of the decodes that lie there.

Stage 10 writes `decodes.json` into the folder of a set before it decodes: the settings of every decode by the present
model. Stages 12 to 14 refuse folders that do not agree with it.
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
SPEECH_KEYS = ("acoustic_sha256", "codec_sha256", "generation", "seed")  # what else than the units decides the speech


def write_record(set_dir: Path, planned: Mapping[str, dict[str, Any]]) -> None:
    """Record {folder: settings} of the decodes that stage 10 is about to make.

    Finished decodes of an earlier call by the same model stay in the record; those of another model leave it.
    """
    model = {tuple(meta[key] for key in MODEL_KEYS) for meta in planned.values()}
    earlier = read_json(set_dir / DECODES) if (set_dir / DECODES).exists() else {}
    kept = {name: meta for name, meta in earlier.items() if name not in planned
            and tuple(meta[key] for key in MODEL_KEYS) in model and (set_dir / name / "meta.json").exists()}
    write_json(set_dir / DECODES, dict(sorted({**kept, **planned}.items())))


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
    """SHA-256 of the units `[T]` of all utterances and of their voice prompts: what stage 11 has spoken."""
    digest = hashlib.sha256(json.dumps(dict(prompts), sort_keys=True).encode())
    for utterance in sorted(units):
        digest.update(utterance.encode() + np.asarray(units[utterance], dtype="<i4").tobytes())
    return digest.hexdigest()


def check_spoken(folder: Path) -> None:
    """Raise AudioPaLMError where the speech of a decode was made from other units than those of the decode."""
    record = read_json(folder / SYNTHESIS, SYNTHESIZE)
    prompts, archive = read_table(folder / "prompt.scp", SYNTHESIZE), TokenArchive(folder / "units.scp")
    units = {name: archive[name] for name in prompts if name in archive}
    if spoken_fingerprint(units, prompts) != record["input_sha256"]:
        raise AudioPaLMError(f"{folder} was decoded anew after it was spoken; run {SYNTHESIZE} again")


def check_spoken_alike(folder: Path, decode: Path) -> None:
    """Raise AudioPaLMError unless two folders were spoken by the same models with the same settings.

    `folder` is the ceiling of a set, whose score stands beside that of `decode`.
    """
    here, there = (read_json(one / SYNTHESIS, SYNTHESIZE) for one in (folder, decode))
    if odd := [key for key in SPEECH_KEYS if here.get(key) != there.get(key)]:
        raise AudioPaLMError(f"{folder} was spoken with another {odd[0]} than {decode}; run {SYNTHESIZE} with "
                             "--true_tokens again, or remove the former")


def decode_fingerprint(folder: Path) -> str:
    """16 digits of a hash of the settings of a decode, of the model that made it, and of what has spoken it."""
    digest = hashlib.sha256((folder / "meta.json").read_bytes())
    if (folder / SYNTHESIS).exists():
        digest.update((folder / SYNTHESIS).read_bytes())
    return digest.hexdigest()[:16]
