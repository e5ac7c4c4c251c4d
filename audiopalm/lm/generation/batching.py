"""Continuous batching: the assignment of prompts to slots of the KV cache."""

import numpy as np
import torch
from torch import Tensor

from audiopalm.lm.generation.cache import CachedDecoder
from audiopalm.lm.generation.cpu.linear import MIN_ROWS
from audiopalm.lm.model import Decoder


class ContinuousBatch:
    """Decodes many prompts in a limited number of slots. A waiting prompt gets the slots of a finished prompt.

    Each prompt has a group of `width` adjacent slots: one for sampling, one per hypothesis for beam search.

    lengths: the number of tokens in each slot. hidden: `[slots, dim]`, the hidden state of each slot's last token.
    """

    def __init__(self, model: Decoder, prompts: list[np.ndarray], capacity: int, batch_size: int, width: int = 1):
        """`capacity` is the maximum number of tokens of a prompt and its answer; `batch_size` counts prompts."""
        groups = min(batch_size, len(prompts))
        self.prompts, self.width = prompts, width
        self.decoder = CachedDecoder(model, groups * width, capacity)
        self._waiting = list(range(len(prompts)))[::-1]
        self._prompt_of_group: list[int | None] = [None] * groups  # None: the group is free
        self.lengths = [0] * self.decoder.slots
        self.hidden = torch.zeros(self.decoder.slots, model.config.dim, dtype=self.decoder.embedding.dtype,
                                  device=self.decoder.device)

    def admit(self) -> bool:
        """Prefill waiting prompts into free groups. Returns False when all prompts are finished."""
        for group, prompt in enumerate(self._prompt_of_group):
            if prompt is None and self._waiting:
                self._prefill(group, self._waiting.pop())
        running = self.running()
        if 0 < len(running) <= len(self._prompt_of_group) // 2 and len(self.lengths) > MIN_ROWS:
            self._shrink([group for group, _ in running])
        return bool(running)

    def _prefill(self, group: int, index: int) -> None:
        prompt = torch.from_numpy(np.asarray(self.prompts[index], dtype=np.int64))
        first, *others = slots = self.slots_of(group)
        self._prompt_of_group[group] = index
        self.hidden[first:first + self.width] = self.decoder.prefill(first, prompt)
        if others:
            self.decoder.copy_slots(others, [first] * len(others), 0, len(prompt))
        for slot in slots:
            self.lengths[slot] = len(prompt)

    def _shrink(self, groups: list[int]) -> None:
        """Drop the slots of all other groups. It is called when no prompt is waiting for them."""
        slots = [slot for group in groups for slot in self.slots_of(group)]
        self.decoder.select_slots(slots)
        inactive = self.decoder.slots - len(slots)
        self._prompt_of_group = [self._prompt_of_group[group] for group in groups]
        self.hidden = self.hidden[slots + slots[:1] * inactive]
        self.lengths = [self.lengths[slot] for slot in slots] + [0] * inactive

    def running(self) -> list[tuple[int, int]]:
        """(group, index of its prompt) of each group that is decoding."""
        return [(group, prompt) for group, prompt in enumerate(self._prompt_of_group) if prompt is not None]

    def slots_of(self, group: int) -> list[int]:
        """The slots of a group."""
        return list(range(group * self.width, (group + 1) * self.width))

    def release(self, group: int) -> None:
        """Free the slots of a group whose prompt is finished."""
        self._prompt_of_group[group] = None
        for slot in self.slots_of(group):
            self.lengths[slot] = 0

    def logits(self) -> Tensor:
        """Logits of the next token, float32 `[slots, vocabulary_size]`."""
        return self.decoder.logits(self.hidden)

    def step(self, tokens: Tensor) -> None:
        """One decode step with `tokens`, int64 `[slots]`. The tokens of free slots have no effect."""
        self.hidden = self.decoder.step(tokens, self.lengths)
        for group, _ in self.running():
            for slot in self.slots_of(group):
                self.lengths[slot] += 1
