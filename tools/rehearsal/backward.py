"""The backward pass in Python. Torch's own engine would need streams of a CUDA driver, which may be missing."""

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor


@torch.no_grad()
def backward(loss: Tensor) -> None:
    """Add the gradients of a scalar to `grad` of the leaves, as `loss.backward()` does."""
    gradients: dict[Any, dict[int, Tensor]] = defaultdict(dict)
    gradients[loss.grad_fn][loss.output_nr] = torch.ones_like(loss)
    for node in in_order(loss.grad_fn):
        given = gradients.pop(node, {})
        if not given:
            continue
        if hasattr(node, "variable"):  # a leaf
            leaf, new = node.variable, given[0]
            if new.shape != leaf.shape or new.dtype != leaf.dtype or new.device != leaf.device:
                raise RuntimeError(f"a gradient {list(new.shape)} {new.dtype} {new.device} for a parameter "
                                   f"{list(leaf.shape)} {leaf.dtype} {leaf.device}")
            leaf.grad = new if leaf.grad is None else leaf.grad + new
            continue
        inputs = [given.get(number) for number in range(max(given) + 1)]
        inputs += [None] * (len(node._input_metadata) - len(inputs))
        found = node.apply(*inputs) if hasattr(node, "apply") else node(*inputs)
        found = found if isinstance(found, tuple) else (found,)
        for gradient, (following, number) in zip(found, node.next_functions, strict=False):
            if gradient is not None and following is not None:
                expected = following._input_metadata[number]
                if gradient.shape != expected.shape:  # the value was broadcast
                    gradient = gradient.sum_to_size(expected.shape)
                gradient = gradient.to(expected.dtype)
                old = gradients[following].get(number)
                gradients[following][number] = gradient if old is None else old + gradient


def in_order(root: Any) -> list[Any]:
    """All nodes of the graph, each before the nodes that receive its gradients."""
    order, seen, stack = [], set(), [(root, False)]
    while stack:
        node, done = stack.pop()
        if done:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            stack += [(following, False) for following, _ in node.next_functions if following is not None]
    return order[::-1]
