"""Vector quantisation: the nearest code, and a codebook trained by moving averages."""

import torch
from torch import Tensor, distributed, nn

# The points whose distances to all codes are computed at once, on a CPU and on other devices: 512 fit the CPU's cache.
BLOCK, DEVICE_BLOCK = 512, 65536


def nearest(points: Tensor, codebook: Tensor) -> Tensor:
    """Index of the nearest row of `codebook` `[size, dim]` for each of `points` `[..., dim]`, int64 `[...]`."""
    norms, on_cpu = codebook.square().sum(1), points.device.type == "cpu"

    def index(block: Tensor) -> Tensor:
        # The squared distance |p - c|^2 without |p|^2, which is equal for all codes.
        scores = torch.addmm(norms, block, codebook.T, alpha=-2)
        if not on_cpu:
            return scores.argmin(-1)
        return torch.from_numpy(scores.detach().numpy().argmin(-1))  # on a CPU 20 times as fast as torch's argmin

    blocks = points.flatten(0, -2).split(BLOCK if on_cpu else DEVICE_BLOCK)
    return torch.cat([index(block) for block in blocks]).view(points.shape[:-1])


class VectorQuantiser(nn.Module):
    """A codebook trained by exponential moving averages of the inputs that select each code.

    Buffers: `codebook` `[size, dim]`, and the averages `count` `[size]` and `total` `[size, dim]` of inputs per code.
    """

    def __init__(self, size: int, dim: int, decay: float = 0.98):
        super().__init__()
        self.decay = decay
        self.register_buffer("codebook", torch.zeros(size, dim))
        self.register_buffer("count", torch.ones(size))
        self.register_buffer("total", torch.zeros(size, dim))

    def start(self, centroids: Tensor) -> None:
        """Set the codebook to `centroids` `[size, dim]`, for example those of k-means."""
        self.codebook.copy_(centroids)
        self.count.fill_(1.0)
        self.total.copy_(self.codebook)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`[N, dim]` -> the nearest codes `[N, dim]` and their indices `[N]`. Gradients pass straight through to `x`.

        In training, each code moves to the average of the inputs that select it. A code that is no longer selected is
        replaced by a random input.
        """
        with torch.no_grad():
            index = nearest(x, self.codebook)
            if self.training:
                self._update(x.detach(), index)
        return x + (self.codebook[index] - x).detach(), index

    def _update(self, x: Tensor, index: Tensor) -> None:
        """Move the codes towards the inputs `x` `[N, dim]` that selected them, `index` `[N]`."""
        count = torch.zeros_like(self.count).index_add_(0, index, torch.ones_like(x[:, 0]))
        total = torch.zeros_like(self.total).index_add_(0, index, x)
        number = torch.full((), float(len(x)), device=x.device)
        for sums in (count, total, number):
            sum_over_processes(sums)
        # Counts are scaled to an average of 1 per code, so that the threshold below does not depend on the batch size.
        scale = len(self.count) / number.clamp(min=1)
        self.count.lerp_(count * scale, 1 - self.decay)
        self.total.lerp_(total * scale, 1 - self.decay)
        unused = self.count < 0.03
        if len(x) and x.device.type == "cpu":
            if unused.any():
                self.total[unused] = from_first_process(x[torch.randint(len(x), (int(unused.sum()),))])
        elif len(x):  # every code gets a replacement: the host would have to wait for the number of unused codes
            replacements = from_first_process(x[torch.randint(len(x), self.count.shape, device=x.device)])
            self.total.copy_(torch.where(unused[:, None], replacements, self.total))
        if len(x):
            self.count.masked_fill_(unused, 1.0)
        self.codebook.copy_(self.total / self.count[:, None])


def sum_over_processes(tensor: Tensor) -> None:
    """Replace `tensor` by its sum over all processes that train together; one process alone leaves it unchanged."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(tensor)


def from_first_process(tensor: Tensor) -> Tensor:
    """Replace `tensor` by the tensor of the first process, where several train together, and return it."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.broadcast(tensor, src=0)
    return tensor
