"""Every place in which the host waits for the device, or copies to it without `non_blocking`.

This works on tensors without data, of the meta device or fake CUDA tensors. A value that the host reads is replaced by
a made-up one, so that one run finds all places.
"""

import traceback
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import unset_fake_temporarily
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten
ROOT = Path(__file__).resolve().parents[2]
# {operator whose result goes to the host, or whose result's size depends on values: its name in PyTorch}
WAITING = {
    aten._local_scalar_dense.default: "item()", aten.item.default: "item()", aten.is_nonzero.default: "bool()",
    aten.equal.default: "torch.equal", aten.nonzero.default: "nonzero", aten.masked_select.default: "masked_select",
    aten._unique2.default: "unique", aten.unique_consecutive.default: "unique_consecutive",
    aten.unique_dim.default: "unique", aten.bincount.default: "bincount",
    aten.multinomial.default: "multinomial",  # has the host check the probabilities
    aten.repeat_interleave.Tensor: "repeat_interleave without output_size",
}
INDEXING = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default)
CTC = aten._ctc_loss.Tensor  # copies the lengths to the host
COPIES = (aten._to_copy.default, aten.copy_.default)


class HostSyncs:
    """A context; `found` counts {(what, file:line): times} of the code in this repository."""

    def __init__(self) -> None:
        self.found: Counter[tuple[str, str]] = Counter()
        self.modes = (_Operators(self.found), _Constructors(self.found))

    def __enter__(self) -> "HostSyncs":
        for mode in self.modes:
            mode.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        for mode in reversed(self.modes):
            mode.__exit__(*error)

    def lines(self) -> list[str]:
        return [f"{place}: {what}, {times} times" for (what, place), times in sorted(self.found.items())]


class _Operators(TorchDispatchMode):
    def __init__(self, found: Counter):
        super().__init__()
        self.found = found

    def __torch_dispatch__(self, operator: Any, types: Any, arguments: tuple = (), options: dict | None = None) -> Any:
        options = options or {}
        tensors = [one for one in tree_leaves((arguments, options)) if isinstance(one, Tensor)]
        if not any(on_device(one.device) for one in tensors) and not on_device(options.get("device")):
            with unset_fake_temporarily():  # computations of the host itself are done, because its code depends on them
                return operator(*arguments, **options)
        composed = "CompositeImplicitAutograd"
        if operator.namespace == "aten" and torch._C._dispatch_has_kernel_for_dispatch_key(operator.name(), composed):
            with self:  # in inference mode, composite operators arrive undecomposed
                return operator.decompose(*arguments, **options)
        if (what := waits(operator, arguments, options)) is None:
            return operator(*arguments, **options)
        self.found[what, caller()] += 1
        return stand_in(operator, arguments, options)


class _Constructors(TorchFunctionMode):
    """`torch.tensor(values, device=...)`: its copy to the device does not pass through a dispatch mode."""

    def __init__(self, found: Counter):
        super().__init__()
        self.found = found

    def __torch_function__(self, function: Any, types: Any, arguments: tuple = (), options: dict | None = None) -> Any:
        options = options or {}
        if function in (torch.tensor, torch.as_tensor) and on_device(options.get("device", "cpu")):
            self.found["torch.tensor on the device", caller()] += 1
        return function(*arguments, **options)


def on_device(device: torch.device | str | None) -> bool:
    return device is not None and torch.device(device).type != "cpu"


def waits(operator: Any, arguments: tuple, options: dict) -> str | None:
    """The name of a computation for which the host waits; None for an operator that is only sent to the device."""
    tensors = [one for one in arguments if isinstance(one, Tensor)]
    device = any(on_device(one.device) for one in tensors)
    if operator in WAITING and device:
        return WAITING[operator]
    if operator in INDEXING and device:
        indices = [one for one in arguments[1] if one is not None and one.dtype in (torch.bool, torch.uint8)]
        filled = operator is not aten.index.Tensor and arguments[2].numel() == 1  # is a masked_fill
        return "indexing with bools" if indices and not filled else None
    if operator is CTC and any(on_device(one.device) for one in tensors[2:]):
        return "ctc_loss with lengths on the device"
    if operator in COPIES:
        if operator is aten.copy_.default:
            source, target = arguments[1].device, arguments[0].device
            waiting = not (arguments[2] if len(arguments) > 2 else options.get("non_blocking"))
        else:
            source, target = arguments[0].device, options.get("device") or arguments[0].device
            waiting = not options.get("non_blocking")
        if on_device(source) and not on_device(target):
            return "copy to the host"
        if on_device(target) and not on_device(source) and waiting and arguments[0].dim():
            return "copy to the device without non_blocking"
    return None


def stand_in(operator: Any, arguments: tuple, options: dict) -> Any:
    """A possible result: 1 for a number, half of the positions for a selection."""
    first = arguments[0]
    if operator in (aten._local_scalar_dense.default, aten.item.default):
        return {torch.bool: True}.get(first.dtype, 1.0 if first.is_floating_point() else 1)
    if operator in (aten.is_nonzero.default, aten.equal.default):
        return True
    some = -(-first.numel() // 2)
    if operator is aten.nonzero.default:
        return torch.empty(some, first.dim(), dtype=torch.int64, device=first.device)
    if operator is aten.bincount.default:
        return first.new_empty(1)
    if operator in (aten._unique2.default, aten.unique_consecutive.default):
        return first.flatten()[:some], torch.empty_like(first, dtype=torch.int64), first.new_empty(some)
    if operator is aten.multinomial.default:
        return torch.empty(*first.shape[:-1], arguments[1], dtype=torch.int64, device=first.device)
    if operator is aten.masked_select.default:
        return torch.empty(some, dtype=first.dtype, device=first.device)
    if operator in INDEXING:
        if operator is not aten.index.Tensor:
            return first
        mask = next(one for one in arguments[1] if one is not None)
        return first.new_empty(-(-mask.numel() // 2), *first.shape[mask.dim():])
    if operator is aten.copy_.default:
        return first
    if operator is aten._to_copy.default:
        target = options.get("device") or first.device
        with nullcontext() if on_device(target) else unset_fake_temporarily():
            return torch.zeros(first.shape, dtype=options.get("dtype") or first.dtype, device=target)
    return operator(*arguments, **options)


def caller() -> str:
    """file:line of the innermost frame that is in this repository and not in tools/rehearsal."""
    for frame in reversed(traceback.extract_stack()):
        path = Path(frame.filename)
        ours = path.is_relative_to(ROOT) and "site-packages" not in path.parts  # .venv is in the repository's folder
        if ours and Path(__file__).parent not in path.parents:
            return f"{path.relative_to(ROOT)}:{frame.lineno}"
    return "?"
