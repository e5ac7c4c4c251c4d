"""Muon's steps are those of PyTorch's."""

import torch

from audiopalm.training.muon import Muon, orthogonal


def test_steps_are_those_of_pytorchs_muon():
    torch.manual_seed(0)
    shapes = [(24, 16), (16, 24), (24, 16), (8, 8)]
    ours = [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]
    theirs = [torch.nn.Parameter(weight.detach().clone()) for weight in ours]
    optimizers = [Muon(ours, lr=0.02, weight_decay=0.1),
                  torch.optim.Muon(theirs, lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")]
    started = [weight.detach().clone() for weight in ours]
    for _ in range(5):
        for own, their in zip(ours, theirs, strict=True):
            own.grad = torch.randn(own.shape)
            their.grad = own.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for own, their, start in zip(ours, theirs, started, strict=True):
        moved = (their - start).norm()
        assert (own - their).norm() < 0.01 * moved  # bfloat16 rounds sums in another order differently


def test_updates_are_nearly_orthogonal():
    values = torch.linalg.svdvals(orthogonal(torch.randn(3, 20, 50)).float())
    assert values.shape == (3, 20)
    assert 0.5 < values.min() and values.max() < 1.3


def test_a_matrix_without_gradient_does_not_change():
    used, unused = (torch.nn.Parameter(torch.ones(4, 4)) for _ in range(2))
    used.grad = torch.ones(4, 4)
    Muon([used, unused], lr=0.1).step()
    assert torch.equal(unused, torch.ones(4, 4)) and not torch.equal(used, torch.ones(4, 4))
