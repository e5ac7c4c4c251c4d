"""Tensors in files: safetensors that are written tensor by tensor and read by rows, so that memory holds one of them.

`safetensors.torch.save_file` holds a second copy of everything that it writes. What `write_tensors` writes, it reads.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
          "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "I64": torch.int64, "I32": torch.int32,
          "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool}
NAMES = {dtype: name for name, dtype in DTYPES.items()}


@dataclass(frozen=True)
class Stored:
    """A tensor that is read when it is needed; `rows(first, last)` gives the rows from `first` to before `last`.

    A number, of shape `()`, counts as one row.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    rows: Callable[[int, int], Tensor]

    def whole(self) -> Tensor:
        return self.rows(0, self.shape[0] if self.shape else 1)


def in_memory(value: Tensor) -> Stored:
    """A tensor that is there already, as what other tensors are read from."""
    return Stored(tuple(value.shape), value.dtype, lambda first, last: value[first:last] if value.ndim else value)


def write_tensors(path: str | Path, tensors: Mapping[str, Stored], metadata: Mapping[str, str] | None = None,
                  done: Callable[[], None] = lambda: None) -> None:
    """Write `tensors` to `path` in the format safetensors; `done` is called when none of them is needed any more.

    The bytes are on the disk when this returns.
    """
    order = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))  # so that all are aligned
    header: dict = {} if metadata is None else {"__metadata__": dict(metadata)}
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
            value = tensors[name].whole().detach().cpu().contiguous()
            if (tuple(value.shape), value.dtype) != (tensors[name].shape, tensors[name].dtype):
                raise ValueError(f"{name} is {list(value.shape)} of {value.dtype}, not what was said of it")
            _write(stream, value.reshape(-1).view(torch.uint8).numpy())
        done()
        os.fsync(stream.fileno())


def _size(one: Stored) -> int:
    return torch.Size(one.shape).numel() * one.dtype.itemsize


def _write(stream, data) -> None:
    """All of `data`: one call of the system writes 2 GiB at most."""
    view = memoryview(data)
    while len(view):
        view = view[stream.write(view):]


def stored_tensors(path: str | Path) -> tuple[dict[str, str], dict[str, Stored]]:
    """(metadata, {name: tensor}) of a file in the format safetensors; what is not read takes no memory.

    Raises SafetensorError or OSError for a damaged file, here and when a tensor is read.
    """
    with safe_open(path, framework="pt") as stream:
        found = {}
        for name in stream.keys():
            part = stream.get_slice(name)
            found[name] = Stored(tuple(part.get_shape()), DTYPES[part.get_dtype()], _reader(path, name))
        return stream.metadata() or {}, found


def _reader(path: str | Path, name: str) -> Callable[[int, int], Tensor]:
    def rows(first: int, last: int) -> Tensor:
        # The file is opened each time: what was read of an open one counts as memory of the process.
        with safe_open(path, framework="pt") as stream:
            part = stream.get_slice(name)
            return part[first:last] if part.get_shape() else stream.get_tensor(name)
    return rows


def joined(parts: Sequence[tuple[int, Stored]]) -> Stored:
    """One tensor of parts, each with its first row; they may lie in several files. Raises ValueError for gaps."""
    parts = sorted(parts, key=lambda part: part[0])
    first, one = parts[0]
    if first == 0 and len(parts) == 1:
        return one
    end = 0
    for first, part in parts:
        if first != end or not part.shape or part.shape[1:] != one.shape[1:] or part.dtype != one.dtype:
            raise ValueError(f"rows {end} to {first} are missing, or its parts do not belong together")
        end += part.shape[0]

    def rows(first: int, last: int) -> Tensor:
        read = []
        for start, part in parts:
            low, high = max(first - start, 0), min(last - start, part.shape[0])
            if low < high:
                read.append(part.rows(low, high))
        if not read:
            return torch.empty(0, *one.shape[1:], dtype=one.dtype)
        return read[0] if len(read) == 1 else torch.cat(read)

    return Stored((end, *one.shape[1:]), one.dtype, rows)
