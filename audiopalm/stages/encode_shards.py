"""The jobs of stage 5: shards of audio files to archives of unit ids or codec ids."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from audiopalm.codec.registry import load_codec
from audiopalm.core.device import best_device
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import read_json, write_json
from audiopalm.data.archive import write_ark
from audiopalm.data.audio import read_audio
from audiopalm.stages.jobs import Result, work
from audiopalm.units.registry import UnitTokenizer


@dataclass(frozen=True)
class Shard:
    """Audio files `paths` whose ids of a `kind` ("units" or "codec") are written to the archive `<stem>.ark`.

    `<stem>.done` marks a complete archive and contains {path: `ark:offset`}.
    """

    kind: str
    stem: str
    paths: list[str]

    @property
    def marker(self) -> Path:
        return Path(f"{self.stem}.done")

    def entries(self) -> dict[str, str]:
        """{path: `ark:offset`} of a finished shard; empty for a shard that is not finished."""
        return read_json(self.marker)["entries"] if self.marker.exists() else {}

    def is_done(self) -> bool:
        """Whether the archive is complete and has these paths in this order."""
        return list(self.entries()) == self.paths


def encode_shard(encode: Callable[[list[np.ndarray]], list[np.ndarray]], shard: Shard) -> Result:
    """Write the archive of a shard, then its marker. An error is returned as a result."""
    tokens = {}
    for number, path in enumerate(shard.paths):
        try:
            tokens[str(number)] = encode([read_audio(path)])[0].reshape(-1)
        except AudioPaLMError as error:
            return Result(f"{path}: {error}")
    table = write_ark(f"{shard.stem}.ark", tokens)
    write_json(shard.marker, {"entries": {path: table[str(number)] for number, path in enumerate(shard.paths)}})
    return Result()


def encode_shards(todo: Path, done: Path, units: str, codec: str) -> None:
    """Encode the shards of a job by the tokenizer in `units` and the codec in `codec`, on one core or a GPU."""
    torch.set_num_threads(1)
    device = best_device()
    encode = {"units": UnitTokenizer.load(units, device).encode, "codec": load_codec(codec, device).encode}
    work(todo, done, Shard, lambda shard: encode_shard(encode[shard.kind], shard))
