"""Weights in the format safetensors: written whole, and read only if they are exactly the weights of the model."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import atomic_path, require
from audiopalm.core.tensors import Stored, in_memory, stored_tensors, write_tensors

M = TypeVar("M", bound=nn.Module)


class _NoNormalValues(TorchFunctionMode):
    """In this mode `normal_` does nothing.

    On the meta device there are no values to draw, yet torch imports its compiler for the call, which takes a second or
    two.
    """

    def __torch_function__(self, function: Callable[..., Any], types: Any, arguments: tuple[Any, ...] = (),
                           options: dict[str, Any] | None = None) -> Any:
        options = options or {}
        if getattr(function, "__name__", "") == "normal_":  # torch.nn.init.normal_ or Tensor.normal_
            return arguments[0] if arguments else options["tensor"]
        return function(*arguments, **options)


def write_weights(path: str | Path, weights: Mapping[str, Tensor | Stored],
                  metadata: Mapping[str, str] | None = None) -> None:
    """Write `weights` to `path`, one after the other; the file is whole or absent.

    Raises AudioPaLMError where the disk is full.
    """
    with atomic_path(path) as temporary:
        write_tensors(temporary, {name: value if isinstance(value, Stored) else in_memory(value)
                                  for name, value in weights.items()}, metadata)


def read_weights(path: str | Path, expected_shapes: Mapping[str, Sequence[int]],
                 made_by: str = "") -> dict[str, Tensor]:
    """The weights of `path`, which must be those of `expected_shapes`: {name: shape}.

    Raises AudioPaLMError for a file that is missing (`made_by` is the stage that writes it) or damaged, for missing,
    additional or wrongly shaped weights, and for values that are not finite numbers.
    """
    path = require(path, made_by)
    try:
        with safe_open(path, framework="pt") as stream:
            check_shapes({name: stream.get_slice(name).get_shape() for name in stream.keys()}, expected_shapes, path)
            weights = {name: stream.get_tensor(name) for name in stream.keys()}
    except (SafetensorError, OSError) as error:
        raise damaged(path, error) from None
    for name, value in weights.items():
        check_finite(value, name, path)
    return weights


def stored_weights(path: str | Path, made_by: str = "") -> dict[str, Stored]:
    """{name: weight} of `path`, each read when it is needed.

    Raises AudioPaLMError for a file that is missing (`made_by` is the stage that writes it) or damaged; reading rows
    raises it for values that are not finite numbers.
    """
    path = require(path, made_by)
    try:
        _, tensors = stored_tensors(path)
    except (SafetensorError, OSError, KeyError) as error:
        raise damaged(path, error) from None
    return {name: _checked(tensor, name, path) for name, tensor in tensors.items()}


def _checked(tensor: Stored, name: str, path: Path) -> Stored:
    """The same weight, whose values are checked when they are read."""
    def rows(first: int, last: int) -> Tensor:
        try:
            value = tensor.rows(first, last)
        except (SafetensorError, OSError) as error:
            raise damaged(path, error) from None
        check_finite(value, name, path)
        return value
    return Stored(tensor.shape, tensor.dtype, rows)


def check_shapes(actual: Mapping[str, Sequence[int]], expected: Mapping[str, Sequence[int]], where: object) -> None:
    """Raise AudioPaLMError unless both {name: shape} are equal; `where` is the file of the actual weights."""
    for problem, names in (("lacks", expected.keys() - actual.keys()),
                           ("has unknown", actual.keys() - expected.keys())):
        if names:
            raise AudioPaLMError(f"{where} {problem} {len(names)} weights, e.g. {min(names)!r}: it does not belong to "
                                 "the configuration beside it")
    for name, shape in expected.items():
        if tuple(actual[name]) != tuple(shape):
            raise AudioPaLMError(f"{where}: {name} has shape {tuple(actual[name])}, expected is {tuple(shape)} by the "
                                 "configuration beside it")


def check_finite(value: Tensor, name: str, where: object) -> None:
    """Raise AudioPaLMError for NaN or infinite values in the weight `name` of the file `where`."""
    if not value.is_floating_point() or not value.numel():
        return
    wide = value if value.dtype.itemsize > 1 else value.float()  # torch has no aminmax of 8-bit floats
    if not all(end.isfinite() for end in wide.aminmax()):
        raise AudioPaLMError(f"{where}: {name} holds values that are not finite numbers: the model is damaged, or its "
                             "training diverged; train or fetch it again")


def damaged(path: object, error: Exception) -> AudioPaLMError:
    """The error for a file that safetensors cannot read."""
    return AudioPaLMError(f"{path} is damaged or not in the format safetensors "
                          f"({' '.join(str(error).split())}); make or fetch it again")


def shapes_of(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """{name: shape} of the weights and buffers that a module stores."""
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


def build_empty(build: Callable[[], M], path: str | Path, device: str = "meta") -> M:
    """The module that `build` makes, without values: on the meta device it takes no memory, whatever its size.

    Buffers that are not stored must name their own device. Raises AudioPaLMError where the sizes in the configuration
    beside `path`, the file of the weights, do not fit together.
    """
    try:
        with torch.device(device), _NoNormalValues() if device == "meta" else nullcontext():
            return build()
    except AudioPaLMError as error:
        raise AudioPaLMError(f"the configuration beside {path} describes no possible model: {error}") from None
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError, ArithmeticError, AssertionError,
            MemoryError) as error:  # sizes that do not fit together
        raise AudioPaLMError(f"the configuration beside {path} describes no possible model: "
                             f"{type(error).__name__} {' '.join(str(error).split())}".rstrip()) from None


def load_module(build: Callable[[], M], path: str | Path, made_by: str = "", build_on: str = "meta") -> M:
    """The module that `build` makes, with the weights of `path`, on the CPU.

    `build_on` is the device that the module is built on before it gets its weights: `cpu` for modules of other packages
    that cannot be built on the meta device. Raises AudioPaLMError as `build_empty` and `read_weights` do, and for
    weights of another type.
    """
    require(path, made_by)
    module = build_empty(build, path, build_on)
    weights = read_weights(path, shapes_of(module), made_by)
    for name, value in module.state_dict().items():
        if weights[name].is_floating_point() != value.is_floating_point():
            raise AudioPaLMError(f"{path}: {name} is of type {weights[name].dtype}, expected is {value.dtype}")
    # The module takes the tensors themselves (`assign`). They are copied, because the memory of the file is not aligned
    # as torch aligns its tensors.
    copies = {name: weights[name].to(value.dtype, copy=True) for name, value in module.state_dict().items()}
    module.load_state_dict(copies, assign=True)
    return module


def hash_weights(path: str | Path, chosen: Callable[[str], bool]) -> str:
    """SHA-256 of the names, types, shapes and values of the weights for whose names `chosen` is true.

    Raises AudioPaLMError for a damaged file.
    """
    digest = hashlib.sha256()
    try:
        with safe_open(path, framework="pt") as stream:
            for name in sorted(filter(chosen, stream.keys())):
                value = stream.get_tensor(name)
                digest.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
                digest.update(value.contiguous().view(torch.uint8).numpy().tobytes())
    except (SafetensorError, OSError) as error:
        raise damaged(path, error) from None
    return digest.hexdigest()
