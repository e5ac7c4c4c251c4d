"""Weights in safetensors: written whole, and read only if they are exactly the weights that a model expects."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import atomic_path, require

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


def write_weights(path: str | Path, weights: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None,
                  previous: Path | None = None) -> None:
    """Write `weights` to `path`, whole or not at all. As for every other file, the umask decides who may read it.

    With `previous` the file that was at `path` is kept under that name, once the new one is whole.
    """
    with atomic_path(path) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode
        save_file({name: value.detach().contiguous() for name, value in weights.items()}, str(temporary),
                  metadata=None if metadata is None else dict(metadata))
        temporary.chmod(mode)  # safetensors gives 0600
        if previous is not None and Path(path).exists():
            Path(path).replace(previous)


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


def load_module(build: Callable[[], M], path: str | Path, made_by: str = "", first_on: str = "meta") -> M:
    """The module that `build` makes, with the weights of `path`; see `read_weights` for the errors.

    It is built on the meta device, so that a damaged configuration does not ask for much memory; buffers that are not
    stored must name their own device. `first_on` may be `cpu` for modules of other packages, which are not made for
    the meta device.
    """
    require(path, made_by)
    try:
        with torch.device(first_on), _NoNormalValues() if first_on == "meta" else nullcontext():
            expected = build()
    except AudioPaLMError as error:
        raise AudioPaLMError(f"the configuration beside {path} describes no possible model: {error}") from None
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError, ArithmeticError, AssertionError,
            MemoryError) as error:  # sizes that do not go together
        raise AudioPaLMError(f"the configuration beside {path} describes no possible model: "
                             f"{type(error).__name__} {' '.join(str(error).split())}".rstrip()) from None
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
