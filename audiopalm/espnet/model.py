"""The decoder with the interface of ESPnet's Trainer: `forward` returns a loss, statistics and a weight."""

from typing import Any

from torch import Tensor

from audiopalm.espnet.imports import AbsESPnetModel, force_gatherable
from audiopalm.lm.model import Decoder


class ESPnetAudioPaLMModel(AbsESPnetModel):
    """A wrapper of `decoder`, which has all parameters: in ESPnet's checkpoints their names begin with `decoder.`."""

    extract_feats_in_collect_stats = False  # tokens have nothing to extract

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, ids: Tensor, segments: Tensor, positions: Tensor, targets: Tensor, task: str | None = None,
                **unused: Any) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """The mean loss over the output tokens of packed rows, statistics, and the weight; all are `[1]`.

        ids, segments, positions, targets: int64 `[rows, T]`, as in `PackedBatch`. task: the task of all sequences if
        they have the same; its loss is logged separately. unused: `utt_id`, which the Trainer adds, and `ids_lengths`,
        which its samplers need.

        The weight is the number of output tokens. ESPnet's mean over batches is then the mean over tokens, as our own
        training logs it.
        """
        total, count = self.decoder(ids, segments, positions, targets)
        loss = total / max(count, 1)
        names = ["loss"] if task is None else ["loss", f"loss_{task}"]
        return force_gatherable((loss, {name: loss.detach() for name in names}, count), loss.device)

    def collect_feats(self, **batch: Tensor) -> dict[str, Tensor]:
        """No features: see `extract_feats_in_collect_stats`."""
        return {}
