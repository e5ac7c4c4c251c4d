"""Gradients of several processes, with a stand-in for the other process."""

from types import SimpleNamespace

import torch
from torch import nn

from audiopalm.training.parallel import average_gradients


def test_a_parameter_that_no_process_trains_has_no_gradient(monkeypatch):
    """A gradient of zero in its place would let an optimizer decay it. The second parameter has a gradient in the other
    process alone."""
    parameters = [nn.Parameter(torch.ones(2)) for _ in range(3)]
    parameters[0].grad = torch.tensor([2.0, 4.0])
    sums = iter([torch.tensor([2.0, 1.0, 0.0]), torch.tensor([4.0, 8.0, 6.0, 6.0])])
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda tensor: tensor.copy_(next(sums)))
    average_gradients(SimpleNamespace(world_size=2, device="cpu"), parameters)
    assert [None if parameter.grad is None else parameter.grad.tolist() for parameter in parameters] == [
        [2.0, 4.0], [3.0, 3.0], None]
