"""The jobs of stage 5: shards of audio files to archives of unit ids or codec ids."""

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from audiopalm.codec.registry import load_codec
from audiopalm.core.device import best_device
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import read_json, write_json
from audiopalm.core.lock import locked
from audiopalm.data.audio import read_audio
from audiopalm.data.growing_archive import GrowingArchive
from audiopalm.stages.jobs import Result, work
from audiopalm.units.registry import UnitTokenizer


@dataclass(frozen=True)
class Shard:
    """Audio files `paths` whose ids of a `kind` ("units" or "codec") are written to the archive `<stem>.ark`.

    `<stem>.done` marks a complete archive and contains {path: `ark:offset`}. Until then the archive grows in the folder
    `<stem>.unfinished`, where the next run resumes after the last complete recording.
    """

    kind: str
    stem: str
    paths: list[str]

    @property
    def marker(self) -> Path:
        return Path(f"{self.stem}.done")

    @property
    def unfinished(self) -> Path:
        return Path(f"{self.stem}.unfinished")

    def entries(self) -> dict[str, str]:
        """{path: `ark:offset`} of a finished shard; empty for a shard that is not finished."""
        return read_json(self.marker)["entries"] if self.marker.exists() else {}

    def is_done(self) -> bool:
        """Whether the archive is complete and has these paths in this order."""
        return list(self.entries()) == self.paths


def encode_shard(encode: Callable[[list[np.ndarray]], list[np.ndarray]], shard: Shard) -> Result:
    """Write the archive of a shard, then its marker. An error is returned as a result."""
    keys = [hashlib.sha256(path.encode()).hexdigest()[:16] for path in shard.paths]  # name the entries
    try:
        with locked(shard.unfinished, "encode_shards"):
            with GrowingArchive(shard.unfinished / "ark", keys) as archive:
                for path in shard.paths[len(archive):]:
                    archive.append(encode_file(encode, path))
                shard.marker.unlink(missing_ok=True)  # an earlier marker has the offsets of an earlier archive
                entries = archive.finish(f"{shard.stem}.ark")
            write_json(shard.marker, {"entries": dict(zip(shard.paths, entries, strict=True))})
    except AudioPaLMError as error:
        return Result(str(error))
    shutil.rmtree(shard.unfinished, ignore_errors=True)
    return Result()


def encode_file(encode: Callable[[list[np.ndarray]], list[np.ndarray]], path: str) -> np.ndarray:
    """The ids of an audio file, flattened. Raises AudioPaLMError, with the path, for a file that cannot be read."""
    try:
        return encode([read_audio(path)])[0].reshape(-1)
    except AudioPaLMError as error:
        raise AudioPaLMError(f"{path}: {error}") from None


def encode_shards(todo: Path, done: Path, units: str, codec: str) -> None:
    """Encode the shards of a job by the tokenizer in `units` and the codec in `codec`, on one core or a GPU."""
    torch.set_num_threads(1)
    device = best_device()
    encode = {"units": UnitTokenizer.load(units, device).encode, "codec": load_codec(codec, device).encode}
    work(todo, done, Shard, lambda shard: encode_shard(encode[shard.kind], shard))
