"""The jobs of stage 5: shards of audio files to archives of unit ids or codec ids."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from audiopalm.codec.registry import load_codec
from audiopalm.core.device import best_device
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import read_json, write_json
from audiopalm.data.archive import write_ark
from audiopalm.data.audio import read_audio
from audiopalm.stages.jobs import work
from audiopalm.units.registry import UnitTokenizer


def marker(stem: Path) -> Path:
    """The file that says that a shard is whole."""
    return stem.with_name(stem.name + ".done")


def is_done(stem: Path, paths: list[str]) -> bool:
    return marker(stem).exists() and list(read_json(marker(stem))["entries"]) == paths


def encode_shard(encode: Callable[[list[np.ndarray]], list[np.ndarray]], stem: Path, paths: list[str]) -> dict:
    """Write `<stem>.ark`, then the marker `<stem>.done` with {path: `ark:offset`}; return {"error": what is wrong}."""
    tokens = {}
    for number, path in enumerate(paths):
        try:
            tokens[str(number)] = encode([read_audio(path)])[0].reshape(-1)
        except AudioPaLMError as error:
            return {"error": f"{path}: {error}"}
    table = write_ark(stem.with_name(stem.name + ".ark"), tokens)
    write_json(marker(stem), {"entries": {path: table[str(number)] for number, path in enumerate(paths)}})
    return {"error": ""}


def encode_shards(todo: Path, done: Path, units: str, codec: str) -> None:
    """Encode the shards of a job by the tokenizer in `units` and the codec in `codec`, on one core or a GPU."""
    torch.set_num_threads(1)
    device = best_device()
    encode = {"units": UnitTokenizer.load(units, device).encode, "codec": load_codec(codec, device).encode}

    def shard(item: dict) -> dict:
        stem = Path(item["stem"])
        return encode_shard(encode[stem.name.partition(".")[0]], stem, item["paths"])

    work(todo, done, shard)
