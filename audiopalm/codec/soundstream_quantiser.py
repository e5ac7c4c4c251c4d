"""ESPnet's residual vector quantiser, whose training does not make the host wait for the device.

At every level of every step, ESPnet's own class reads from the device whether the codebook is initialised, whether
codes must be replaced, and how many. On a CPU the results of both classes are the same bit for bit.

Import this module after `optional.install()`, because it needs espnet2.
"""

import torch
from espnet2.gan_codec.shared.quantizer.modules.core_vq import EuclideanCodebook
from espnet2.gan_codec.shared.quantizer.residual_vq import ResidualVectorQuantizer
from torch import Tensor
from torch.nn import functional

from audiopalm.core.gradients import no_grad


class Codebook(EuclideanCodebook):
    """The codes of one level. `started` is a copy of the buffer `inited` on the host, so that it is read only once."""

    started = False

    def init_embed_(self, data: Tensor) -> None:
        if not self.started:
            super().init_embed_(data)
            self.started = True

    def expire_codes_(self, batch_samples: Tensor) -> None:
        """Replace rarely chosen codes by random vectors of the batch `[..., dim]`."""
        if batch_samples.device.type == "cpu":
            super().expire_codes_(batch_samples)
        else:
            self.replace_rare(batch_samples.detach().flatten(0, -2))

    @no_grad
    def replace_rare(self, points: Tensor) -> None:
        """`expire_codes_` by operators of fixed shapes, from `points` `[N, dim]`.

        A replacement is drawn for every code, because the host would have to wait for the number of rare codes.
        """
        drawn = points[torch.randint(len(points), self.cluster_size.shape, device=points.device)].to(self.embed.dtype)
        rare = self.cluster_size < self.threshold_ema_dead_code
        self.embed.copy_(torch.where(rare[:, None], drawn, self.embed))
        self.embed_avg.copy_(torch.where(rare[:, None], drawn * self.threshold_ema_dead_code, self.embed_avg))
        self.cluster_size.masked_fill_(rare, self.threshold_ema_dead_code)


class Quantiser(ResidualVectorQuantizer):
    """A residual vector quantiser of latents `[B, dim, T]`. Codes are as wide as latents, without projections."""

    def __init__(self, dim: int, levels: int, size: int):
        super().__init__(dimension=dim, codebook_dim=dim, n_q=levels, bins=size)
        for layer in self.vq.layers:
            layer._codebook = Codebook(dim, size, kmeans_init=self.kmeans_init, kmeans_iters=self.kmeans_iters,
                                       decay=self.decay, threshold_ema_dead_code=self.threshold_ema_dead_code)

    def forward(self, x: Tensor, sample_rate: int,
                bandwidth: float | None = None) -> tuple[Tensor, Tensor, float | None, Tensor]:
        """Quantised latents `[B, dim, T]`, ids `[levels, B, T]`, `bandwidth`, and the commitment loss, 0 in evaluation.

        `bandwidth` in kbit/s determines the number of levels, see `get_num_quantizers_for_bandwidth`.
        """
        residual, total, ids, losses = x, torch.zeros_like(x), [], []
        for layer in self.vq.layers[:self.get_num_quantizers_for_bandwidth(sample_rate, bandwidth)]:
            points = residual.transpose(1, 2)
            codes, chosen = layer._codebook(points)
            if self.training:
                codes = points + (codes - points).detach()
                losses.append(functional.mse_loss(codes.detach(), points))
            codes = codes.transpose(1, 2)
            residual, total = residual - codes.detach(), total + codes
            ids.append(chosen)
        if not self.training:
            return total, torch.stack(ids), bandwidth, x.new_zeros(())
        return x + (total - x).detach(), torch.stack(ids), bandwidth, torch.stack(losses).mean()
