"""The jobs of stage 5: shards of audio files to archives of unit ids or codec ids."""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from audiopalm.bin.common import run
from audiopalm.bin.jobs import add_worker_options, work
from audiopalm.codec.base import load_codec
from audiopalm.data.archive import write_ark
from audiopalm.data.audio import read_audio
from audiopalm.data.files import read_json, write_json
from audiopalm.device import best_device
from audiopalm.errors import AudioPaLMError
from audiopalm.tokenizers.audio import UnitTokenizer


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", required=True, help="directory of stage 3")
    parser.add_argument("--codec", required=True, help="directory of stage 4")
    add_worker_options(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # a job has one core
    device = best_device()
    encode = {"units": UnitTokenizer.load(arguments.units, device).encode,
              "codec": load_codec(arguments.codec, device).encode}

    def shard(item: dict) -> dict:
        stem = Path(item["stem"])
        return encode_shard(encode[stem.name.partition(".")[0]], stem, item["paths"])

    work(arguments.todo, arguments.done, shard)


if __name__ == "__main__":
    run(main)
