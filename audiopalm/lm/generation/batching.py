"""Continuous batching: which prompt is answered at which places of the decoder."""

import numpy as np
import torch
from torch import Tensor

from audiopalm.lm.generation.cache import CachedDecoder
from audiopalm.lm.generation.cpu.linear import LEAST_ROWS
from audiopalm.lm.model import Decoder


class Places:
    """Groups of `width` places that answer a prompt each; a group that is free is given the next prompt.

    numbers: the prompt of each group, or None. lengths: the tokens at each place. hidden: `[places, dim]`, of the last.
    """

    def __init__(self, model: Decoder, prompts: list[np.ndarray], room: int, groups: int, width: int = 1):
        """`room` is how many tokens a prompt and its answer can have; `groups` prompts are answered at a time."""
        groups = min(groups, len(prompts))
        self.prompts, self.width = prompts, width
        self.decoder = CachedDecoder(model, groups * width, room)
        self.waiting = list(range(len(prompts)))[::-1]
        self.numbers: list[int | None] = [None] * groups
        self.lengths = [0] * self.decoder.rows
        self.hidden = torch.zeros(self.decoder.rows, model.config.dim, dtype=self.decoder.embedding.dtype,
                                  device=self.decoder.device)

    def fill(self) -> bool:
        """Give free groups their prompts. False when all prompts are answered."""
        for group, number in enumerate(self.numbers):
            if number is None and self.waiting:
                self._start(group, self.waiting.pop())
        going = [group for group, number in enumerate(self.numbers) if number is not None]
        if 0 < len(going) <= len(self.numbers) // 2 and len(self.lengths) > LEAST_ROWS:
            self._shrink(going)
        return bool(going)

    def _start(self, group: int, number: int) -> None:
        prompt = torch.from_numpy(np.asarray(self.prompts[number], dtype=np.int64))
        first, *others = rows = self.rows(group)
        self.numbers[group] = number
        self.hidden[rows] = self.decoder.prefill(first, prompt)
        if others:
            self.decoder.follow(others, [first] * len(others), 0, len(prompt))
        for row in rows:
            self.lengths[row] = len(prompt)

    def _shrink(self, going: list[int]) -> None:
        """No prompt waits: the groups that go on are enough."""
        rows = [row for group in going for row in self.rows(group)]
        self.decoder.keep(rows)
        idle = self.decoder.rows - len(rows)
        self.numbers = [self.numbers[group] for group in going]
        self.hidden = self.hidden[rows + rows[:1] * idle]
        self.lengths = [self.lengths[row] for row in rows] + [0] * idle

    def rows(self, group: int) -> list[int]:
        return list(range(group * self.width, (group + 1) * self.width))

    def free(self, group: int) -> None:
        self.numbers[group] = None
        for row in self.rows(group):
            self.lengths[row] = 0

    def logits(self) -> Tensor:
        """float32 `[places, V]` of what comes next."""
        return self.decoder.logits(self.hidden)

    def step(self, tokens: Tensor) -> None:
        """Write the next token, int64 `[places]`, at every place; at free ones it does not matter which."""
        self.hidden = self.decoder.step(tokens, self.lengths)
        for group, number in enumerate(self.numbers):
            if number is not None:
                for row in self.rows(group):
                    self.lengths[row] += 1
