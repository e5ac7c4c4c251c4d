"""The grammar of answers: the allowed ids, the end token and the maximum length of each part, by the task's outputs.

A text part consists of text ids, an audio part of audio ids. Every part ends with a newline, the last with <eos>.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from audiopalm.lm.generation.config import DecodingConfig
from audiopalm.tasks import Task
from audiopalm.vocabulary.joint import Vocabulary


@dataclass
class Generated:
    """An answer of the model.

    parts: int64 `[T]` each, ids in the joint vocabulary without end tokens. truncated: whether a length limit
    ended a part. score: the log probability of the answer, end tokens included. part_scores: the log probability of
    each part, end token included; None if the search does not return it.
    """

    parts: list[np.ndarray]
    truncated: bool
    score: float
    part_scores: list[float] | None = None

    def mean_scores(self) -> list[float] | None:
        """The mean log probability of the tokens of each part, end token included; None without `part_scores`."""
        if self.part_scores is None:
            return None
        return [score / (len(ids) + 1) for score, ids in zip(self.part_scores, self.parts, strict=True)]


def grammar(task: Task, vocabulary: Vocabulary) -> tuple[Tensor, list[int]]:
    """Allowed ids, bool `[parts, vocabulary]`, and the end token of each part."""
    ends = [vocabulary.newline] * (len(task.outputs) - 1) + [vocabulary.eos]
    allowed = torch.zeros(len(task.outputs), vocabulary.size, dtype=torch.bool)
    for part, output in enumerate(task.outputs):
        if output.is_audio:
            allowed[part, vocabulary.text_size:] = True
        else:
            allowed[part, :vocabulary.text_size] = True
            allowed[part, [vocabulary.newline, vocabulary.eos]] = False
        allowed[part, ends[part]] = True
    return allowed, ends


def part_limits(task: Task, config: DecodingConfig, prompt_tokens: int) -> list[int]:
    """The maximum length of each part, without end token, for a prompt of `prompt_tokens` tokens."""
    limits = {True: (config.audio_tokens, config.audio_tokens_per_input),
              False: (config.text_tokens, config.text_tokens_per_input)}
    return [tokens if per_input is None else min(tokens, math.ceil(per_input * prompt_tokens))
            for tokens, per_input in (limits[output.is_audio] for output in task.outputs)]


def required_capacity(prompts: list[np.ndarray], limits: list[list[int]]) -> int:
    """The maximum number of tokens of a prompt, its answer and the end tokens of its parts."""
    return max(len(prompt) + sum(parts) + len(parts) for prompt, parts in zip(prompts, limits, strict=True))
