"""Files in the format safetensors, written tensor by tensor and read by rows: memory holds one tensor at a time.

`safetensors.torch.save_file`, in contrast, holds a second copy of all tensors while it writes them. The library reads
the files of `write_tensors`.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
          "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "I64": torch.int64, "I32": torch.int32,
          "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool}
NAMES = {dtype: name for name, dtype in DTYPES.items()}


@dataclass(frozen=True)
class Stored:
    """A tensor that is read when it is needed. `rows(first, last)` reads the rows from `first` up to, not with, `last`.

    A number, of shape `()`, counts as one row.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    rows: Callable[[int, int], Tensor]

    def whole(self) -> Tensor:
        """All rows."""
        return self.rows(0, self.shape[0] if self.shape else 1)


def in_memory(value: Tensor) -> Stored:
    """A tensor in memory as a `Stored`, for functions that take tensors of files."""
    return Stored(tuple(value.shape), value.dtype, lambda first, last: value[first:last] if value.ndim else value)


def write_tensors(path: str | Path, tensors: Mapping[str, Stored], metadata: Mapping[str, str] | None = None,
                  done: Callable[[], None] = lambda: None) -> None:
    """Write `tensors` to `path` in the format safetensors; `done` is called when none of them is needed any more.

    The bytes are on the disk when this returns. Raises OSError where `path` cannot be written, and ValueError for a
    tensor whose rows do not have its stated shape and dtype.
    """
    # Tensors of large items come first, so that all are aligned.
    order = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    header: dict[str, Any] = {} if metadata is None else {"__metadata__": dict(metadata)}
    end = 0
    for name in order:
        start, end = end, end + _size(tensors[name])
        header[name] = {"dtype": NAMES[tensors[name].dtype], "shape": list(tensors[name].shape),
                        "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb", buffering=0) as stream:
        _write(stream, len(text).to_bytes(8, "little") + text)
        for name in order:
            stored = tensors[name]
            value = stored.whole().detach().cpu().contiguous()
            if (tuple(value.shape), value.dtype) != (stored.shape, stored.dtype):
                raise ValueError(f"{name} is {list(value.shape)} of {value.dtype}, stated is {list(stored.shape)} of "
                                 f"{stored.dtype}")
            _write(stream, memoryview(value.reshape(-1).view(torch.uint8).numpy()))
        done()
        os.fsync(stream.fileno())


def _size(tensor: Stored) -> int:
    """Its size in bytes."""
    return int(torch.Size(tensor.shape).numel() * tensor.dtype.itemsize)


def _write(stream: FileIO, data: bytes | memoryview) -> None:
    """Write all of `data`. One call of the system writes 2 GiB at most."""
    while len(data):
        data = data[stream.write(data):]


def stored_tensors(path: str | Path) -> tuple[dict[str, str], dict[str, Stored]]:
    """(metadata, {name: tensor}) of a file in the format safetensors; tensors that are not read take no memory.

    Raises SafetensorError or OSError for a damaged file, here and when a tensor is read.
    """
    with safe_open(path, framework="pt") as stream:
        tensors = {}
        for name in stream.keys():
            part = stream.get_slice(name)
            tensors[name] = Stored(tuple(part.get_shape()), DTYPES[part.get_dtype()], _reader(path, name))
        return stream.metadata() or {}, tensors


def _reader(path: str | Path, name: str) -> Callable[[int, int], Tensor]:
    def rows(first: int, last: int) -> Tensor:
        # The file is opened for each read: the pages read from an open file count as memory of the process.
        with safe_open(path, framework="pt") as stream:
            part = stream.get_slice(name)
            return part[first:last] if part.get_shape() else stream.get_tensor(name)
    return rows


def joined(parts: Sequence[tuple[int, Stored]]) -> Stored:
    """One tensor of its parts, (number of the first row, part), which may lie in several files.

    Raises ValueError for missing rows and for parts of other shapes or dtypes.
    """
    parts = sorted(parts, key=lambda part: part[0])
    first, model = parts[0]
    if first == 0 and len(parts) == 1:
        return model
    end = 0
    for first, part in parts:
        if first != end or not part.shape or part.shape[1:] != model.shape[1:] or part.dtype != model.dtype:
            raise ValueError(f"rows {end} to {first} are missing, or its parts do not belong together")
        end += part.shape[0]

    def rows(first: int, last: int) -> Tensor:
        read = []
        for start, part in parts:
            low, high = max(first - start, 0), min(last - start, part.shape[0])
            if low < high:
                read.append(part.rows(low, high))
        if not read:
            return torch.empty(0, *model.shape[1:], dtype=model.dtype)
        return read[0] if len(read) == 1 else torch.cat(read)

    return Stored((end, *model.shape[1:]), model.dtype, rows)
