"""Decode steps on a GPU in rounds: the host starts ROUND steps, then reads all their tokens in one copy.

The state that determines the next token (part, length, limits, seed) is on the device, so that neither the device nor
the host waits within a round. A slot whose answer ends within a round continues to the end of the round, and these
tokens are not read.

With AUDIOPALM_CUDA_GRAPHS=1 a step is recorded once per shape and then replayed: the host starts one graph instead of
hundreds of kernels.
"""

import os

import numpy as np
import torch
from torch import Tensor

from audiopalm.lm.generation.batching import ContinuousBatch
from audiopalm.lm.generation.choice import Sampling, choose_tokens

ROUND = 16  # decode steps before the host reads the tokens
KEYS = 256  # attention lengths are rounded up to a multiple of this, so that few shapes and graphs occur
PART, COUNT, SEED, NUMBER, LENGTH, LIMITS = range(6)  # columns of the state; the limits of all parts come last


class Rounds:
    """The state of all slots of `batch` on the device, int64 `[slots, 5 + parts]`.

    tokens, scores, cut: the results of a round, `[slots, ROUND]`; see `run`.
    """

    def __init__(self, batch: ContinuousBatch, bias: Tensor, ends: list[int], sampling: Sampling):
        self.batch, self.bias, self.device = batch, bias, batch.decoder.device
        self.ends = torch.tensor(ends).to(self.device)
        self.sampling = sampling.to(self.device)
        self.graphs: dict[int, torch.cuda.CUDAGraph] | None = None
        if self.device.type == "cuda" and os.environ.get("AUDIOPALM_CUDA_GRAPHS") == "1":
            self.graphs = {}
        self._allocate()

    def _allocate(self) -> None:
        slots = self.batch.decoder.slots
        self.host = np.zeros((slots, LIMITS + len(self.ends)), dtype=np.int64)
        self.state = torch.zeros(self.host.shape, dtype=torch.int64, device=self.device)
        self.hidden = torch.zeros_like(self.batch.hidden)
        self.tokens = torch.zeros(slots, ROUND, dtype=torch.int64, device=self.device)
        self.cut = torch.zeros(slots, ROUND, dtype=torch.bool, device=self.device)
        self.scores = torch.zeros(slots, ROUND, device=self.device)
        self.step = torch.zeros(1, dtype=torch.int64, device=self.device)
        if self.graphs is not None:
            self.graphs = {}

    def set(self, slot: int, part: int, count: int, seed: int, number: int, limits: list[int]) -> None:
        """Set the state of a slot that is decoding.

        part: the current part. count, number: tokens in this part and in all parts. limits: the maximum length of each
        part.
        """
        if len(self.host) != self.batch.decoder.slots:
            self._allocate()
        self.host[slot] = [part, count, seed, number, self.batch.lengths[slot], *limits]

    def run(self, left: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Make ROUND decode steps, or `left` if that is less.

        Returns the tokens (int64), their log probabilities (float32), and whether a length limit ended a part at the
        token (bool), `[slots, steps]` each.
        """
        steps = min(ROUND, left)
        capacity = self.batch.decoder.capacity
        keys = min(-(-(max(self.batch.lengths) + steps) // KEYS) * KEYS, capacity)
        self.state.copy_(torch.from_numpy(self.host), non_blocking=True)
        self.hidden.copy_(self.batch.hidden)
        self.step.zero_()
        for _ in range(steps):
            self._start(keys)
        self.batch.hidden = self.hidden.clone()
        tokens, scores, cut = (results[:, :steps].cpu().numpy() for results in (self.tokens, self.scores, self.cut))
        return tokens, scores, cut

    def _start(self, keys: int) -> None:
        """Start one decode step, from its recording if there is one.

        The first step of a shape is computed before it is recorded, because libraries allocate memory at their first
        call. Recording computes nothing.
        """
        if self.graphs is None:
            self.decode_step(keys)
        elif keys in self.graphs:
            self.graphs[keys].replay()
        else:
            self.decode_step(keys)
            torch.cuda.synchronize()
            self.graphs[keys] = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graphs[keys]):
                self.decode_step(keys)

    def decode_step(self, keys: int) -> None:
        """Choose the next token of every slot, and compute its hidden state with attention to the first `keys` offsets.

        All tensors are changed in place.
        """
        decoder, state = self.batch.decoder, self.state
        part, count, length = state[:, PART], state[:, COUNT], state[:, LENGTH]
        logits = decoder.logits(self.hidden)
        chosen = choose_tokens(logits + self.bias.index_select(0, part), part, state[:, SEED], state[:, NUMBER],
                               self.sampling)
        end = self.ends.index_select(0, part)
        full = count >= state[:, LIMITS:].gather(1, part[:, None])[:, 0]
        tokens = torch.where(full, end, chosen)
        scores = logits.log_softmax(dim=-1).gather(1, tokens[:, None])
        self.tokens.index_copy_(1, self.step, tokens[:, None])
        self.scores.index_copy_(1, self.step, scores)
        self.cut.index_copy_(1, self.step, (full & (chosen != end))[:, None])
        self.hidden.copy_(decoder.step(tokens, length, num_keys=keys))
        ended = tokens == end
        state[:, COUNT] = torch.where(ended, 0, count + 1)
        state[:, PART] = (part + ended).clamp(max=len(self.ends) - 1)
        state[:, NUMBER] += 1
        state[:, LENGTH] = (length + 1).clamp(max=decoder.capacity - 1)
        self.step += 1
