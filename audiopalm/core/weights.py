"""Weights in safetensors: written whole, and read only if they are exactly the weights that a model expects."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import atomic_path, require
from audiopalm.core.tensors import Stored, in_memory, stored_tensors, write_tensors

M = TypeVar("M", bound=nn.Module)


class _NoNormalValues(TorchFunctionMode):
    """Under it, `normal_` does nothing.

    On the meta device there are no values to draw, yet torch imports its compiler for the call: a second or two.
    """

    def __torch_function__(self, function, types, arguments=(), options=None):
        options = options or {}
        if getattr(function, "__name__", "") == "normal_":  # of torch.nn.init or of a tensor
            return arguments[0] if arguments else options["tensor"]
        return function(*arguments, **options)


def write_weights(path: str | Path, weights: Mapping[str, Tensor | Stored],
                  metadata: Mapping[str, str] | None = None) -> None:
    """Write `weights` to `path`, whole or not at all, one after the other."""
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
    """{name: weight} of `path`, to be read when they are needed; a value that is no finite number is refused then.

    Raises AudioPaLMError for a file that is missing (`made_by` is the stage that writes it) or damaged.
    """
    path = require(path, made_by)
    try:
        _, found = stored_tensors(path)
    except (SafetensorError, OSError, KeyError) as error:
        raise damaged(path, error) from None
    return {name: _checked(one, name, path) for name, one in found.items()}


def _checked(one: Stored, name: str, path: Path) -> Stored:
    def rows(first: int, last: int) -> Tensor:
        try:
            value = one.rows(first, last)
        except (SafetensorError, OSError) as error:
            raise damaged(path, error) from None
        check_finite(value, name, path)
        return value
    return Stored(one.shape, one.dtype, rows)


def check_shapes(found: Mapping[str, Sequence[int]], expected: Mapping[str, Sequence[int]], where: object) -> None:
    """Raise AudioPaLMError unless two {name: shape} are the same; `where` is the file that holds `found`."""
    for problem, names in (("lacks", expected.keys() - found.keys()), ("has unknown", found.keys() - expected.keys())):
        if names:
            raise AudioPaLMError(f"{where} {problem} {len(names)} weights, e.g. {min(names)!r}: it does not belong to "
                                 "the configuration beside it")
    for name, shape in expected.items():
        if tuple(found[name]) != tuple(shape):
            raise AudioPaLMError(f"{where}: {name} has shape {tuple(found[name])}, expected is {tuple(shape)} by the "
                                 "configuration beside it")


def check_finite(value: Tensor, name: str, where: object) -> None:
    """Raise AudioPaLMError for a weight with NaN or infinite values."""
    if not value.is_floating_point() or not value.numel():
        return
    wide = value if value.dtype.itemsize > 1 else value.float()  # torch has no extremes of 8-bit floats
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


def described(build: Callable[[], M], path: str | Path, first_on: str = "meta") -> M:
    """The module that `build` makes, without values: on the meta device no size asks for memory.

    Buffers that are not stored must name their own device. Raises AudioPaLMError where the configuration beside the
    weights in `path` has sizes that do not go together.
    """
    try:
        with torch.device(first_on), _NoNormalValues() if first_on == "meta" else nullcontext():
            return build()
    except AudioPaLMError as error:
        raise AudioPaLMError(f"the configuration beside {path} describes no possible model: {error}") from None
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError, ArithmeticError, AssertionError,
            MemoryError) as error:  # sizes that do not go together
        raise AudioPaLMError(f"the configuration beside {path} describes no possible model: "
                             f"{type(error).__name__} {' '.join(str(error).split())}".rstrip()) from None


def load_module(build: Callable[[], M], path: str | Path, made_by: str = "", first_on: str = "meta") -> M:
    """The module that `build` makes, with the weights of `path`; see `described` and `read_weights` for the errors.

    `first_on` may be `cpu` for modules of other packages, which are not made for the meta device.
    """
    require(path, made_by)
    expected = described(build, path, first_on)
    weights = read_weights(path, shapes_of(expected), made_by)
    for name, value in expected.state_dict().items():
        if weights[name].is_floating_point() != value.is_floating_point():
            raise AudioPaLMError(f"{path}: {name} is of type {weights[name].dtype}, expected is {value.dtype}")
    # The module takes the tensors that were read, so that no initial weights are drawn in vain. A copy is aligned as
    # torch aligns its tensors; the memory of the file is not.
    copies = {name: weights[name].to(value.dtype, copy=True) for name, value in expected.state_dict().items()}
    expected.load_state_dict(copies, assign=True)
    return expected


def hash_weights(path: str | Path, chosen: Callable[[str], bool]) -> str:
    """SHA-256 of the names, types, shapes and values of the weights that `chosen` takes; AudioPaLMError if damaged."""
    found = hashlib.sha256()
    try:
        with safe_open(path, framework="pt") as stream:
            for name in sorted(filter(chosen, stream.keys())):
                value = stream.get_tensor(name)
                found.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
                found.update(value.contiguous().view(torch.uint8).numpy().tobytes())
    except (SafetensorError, OSError) as error:
        raise damaged(path, error) from None
    return found.hexdigest()
