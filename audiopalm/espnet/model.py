"""The decoder in the form that ESPnet's Trainer wants: `forward` gives a loss, statistics and a weight."""

from torch import Tensor

from audiopalm.espnet.imports import AbsESPnetModel, force_gatherable
from audiopalm.lm.model import Decoder


class ESPnetAudioPaLMModel(AbsESPnetModel):
    """`decoder` has all parameters: ESPnet's checkpoints are ours with `decoder.` in front of each name."""

    extract_feats_in_collect_stats = False  # tokens have nothing to extract

    def __init__(self, decoder: Decoder):
        super().__init__()
        self.decoder = decoder

    def forward(self, ids: Tensor, segments: Tensor, positions: Tensor, targets: Tensor, task: str | None = None,
                **unused) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Mean loss of the output tokens of packed rows, int64 `[rows, T]` as in `PackedBatch`; all results are `[1]`.

        The weight is the number of output tokens: ESPnet's mean over batches is then the mean over tokens that our own
        loop logs. `task` names the task of all sequences, if they have the same: its loss gets a curve of its own.
        `unused` has what the Trainer adds, `utt_id`, and what its samplers need, `ids_lengths`.
        """
        total, count = self.decoder(ids, segments, positions, targets)
        loss = total / count.clamp(min=1)
        names = ["loss"] if task is None else ["loss", f"loss_{task}"]
        return force_gatherable((loss, {name: loss.detach() for name in names}, count), loss.device)

    def collect_feats(self, **batch: Tensor) -> dict[str, Tensor]:
        """None: see `extract_feats_in_collect_stats`."""
        return {}
