"""Our Adafactor, which never waits for the device, takes the steps of PyTorch's."""

import pytest
import torch

from audiopalm.training.adafactor import Adafactor


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_steps_are_those_of_pytorchs_adafactor(weight_decay):
    torch.manual_seed(0)
    shapes = [(24, 16), (16,), (), (3, 4, 5), (1, 7), (7, 1)]
    ours = [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]
    theirs = [torch.nn.Parameter(weight.detach().clone()) for weight in ours]
    optimizers = [Adafactor(ours, 0.02, weight_decay),
                  torch.optim.Adafactor(theirs, lr=0.02, weight_decay=weight_decay)]
    for _ in range(5):
        for own, their in zip(ours, theirs, strict=True):
            own.grad = torch.randn(own.shape)
            their.grad = own.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for own, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own, their)
