"""A snapshot: a folder with the shards of a training's tensors (safetensors) and `snapshot.json` beside them.

Each process writes the rows that it holds into its own file, in the format of torch.distributed.checkpoint's Hugging
Face storage, whose reader can read it. The writer of that storage is not used: it holds a copy of the whole shard in
memory, while `Shard` holds one tensor at a time. A file states the first row of each of its tensors.
"""

import hashlib
import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from audiopalm.core.files import read_json, sha256, write_json
from audiopalm.core.tensors import Stored, in_memory, joined, stored_tensors, write_tensors
from audiopalm.training.parallel import own_part

HEADER = "snapshot.json"
OFFSETS, FORMAT = "DCP_SHARDING_INFO", {"DCP_VERSION": "1.0", "format": "pt"}  # metadata of torch's storage


class Shard(threading.Thread):
    """A thread that writes the tensors of one process into `folder` while the training continues.

    `read` is set when all tensors have been read and may change again. Afterwards the thread waits for the disk and
    hashes the file. When it has ended, `error` is the reason why it failed, or empty.
    """

    def __init__(self, folder: Path, tensors: Mapping[str, Tensor], rank: int, processes: int):
        super().__init__(daemon=True)
        self.path = folder / f"shard-{rank + 1:05d}-of-{processes:05d}.safetensors"
        self.read, self.error, self.sha256 = threading.Event(), "", ""
        self._rows: dict[str, Stored] = {}
        offsets: dict[str, dict[str, list[int]]] = {}
        for name, value in tensors.items():
            own, first = own_part(value)
            if rank > 0 and (own is value or not len(own)):  # only the first process writes unsharded tensors
                continue
            self._rows[name] = in_memory(own)
            offsets[name] = {"saved_offsets": [first, *[0] * (own.ndim - 1)] if own.ndim else []}
        self._metadata = {OFFSETS: json.dumps(offsets), **FORMAT}

    def run(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_tensors(self.path, self._rows, self._metadata, self.read.set)
            self._rows = {}
            self.sha256 = sha256(self.path)
        except Exception as error:  # an exception in a thread would be lost; `settle` raises it in the training
            self.error = " ".join(str(error).split()) or type(error).__name__
        finally:
            self.read.set()


def write_header(folder: Path, content: Mapping[str, Any]) -> None:
    """Write snapshot.json: `content` with its hash. It is the last file of a snapshot."""
    write_json(folder / HEADER, {"sha256": _digest(content), **content})


def read_header(folder: Path) -> dict[str, Any]:
    """`made_from`, `state` and `shards` of a snapshot. Raises ValueError for a file that was changed.

    Raises AudioPaLMError for a file that is missing or is not JSON.
    """
    header = read_json(folder / HEADER)
    content = {key: value for key, value in header.items() if key != "sha256"} if isinstance(header, dict) else {}
    if not content or header.get("sha256") != _digest(content):
        raise ValueError(f"{HEADER} was changed")
    return content


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def check_shards(folder: Path, shards: Mapping[str, str]) -> None:
    """Raise OSError or ValueError for files that are missing or were changed; `shards` is {name: SHA-256}."""
    for name, expected in shards.items():
        if sha256(folder / name) != expected:
            raise ValueError(f"{name} was changed")


def snapshot_tensors(folder: Path, shards: Mapping[str, str]) -> dict[str, Stored]:
    """{name: tensor} of all shards together; each tensor is read when it is needed.

    Raises SafetensorError, OSError, KeyError or ValueError for damaged shards.
    """
    parts: dict[str, list[tuple[int, Stored]]] = {}
    for shard in shards:
        metadata, tensors = stored_tensors(folder / shard)
        offsets = json.loads(metadata[OFFSETS])
        for name, tensor in tensors.items():
            parts.setdefault(name, []).append((offsets[name]["saved_offsets"][0] if tensor.shape else 0, tensor))
    return {name: joined(shards_of_tensor) for name, shards_of_tensor in parts.items()}
