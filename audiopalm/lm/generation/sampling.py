"""Generation with a key-value cache: batched, and each row ends up as if it were alone.

The row of the task table is the grammar: while a text part is written only text ids and its end token are possible,
while an audio part is written only audio ids and its end token. The place of an answer that is finished is taken by
the next prompt.
"""

import math
import zlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from audiopalm.core.errors import AudioPaLMError
from audiopalm.lm.generation.batching import Places
from audiopalm.lm.model import Decoder
from audiopalm.tasks import Task
from audiopalm.vocabulary.joint import Vocabulary


@dataclass
class DecodingConfig:
    """Greedy at temperature 0, else sampled from the `top_k` best tokens, and of these from the most probable that
    together have a probability of `top_p`.

    With a `beam` above 1 both are searched (beam.py), and with `rescore` the model chooses between what it found by
    listening to itself (rescoring.py).
    """

    text_tokens: int = 60  # most tokens of a text part
    audio_tokens: int = 300  # most units of an audio part (25 a second)
    text_tokens_per_input: float | None = None  # and at most so many for each token of the prompt, its tag counted
    audio_tokens_per_input: float | None = None
    text_temperature: float = 0.0
    text_top_k: int = 20
    text_top_p: float = 1.0
    audio_temperature: float = 0.0
    audio_top_k: int = 20
    audio_top_p: float = 1.0
    beam: int = 1
    length_penalty: float = 1.0  # answers are compared by log probability / tokens ** length_penalty
    rescore: bool = False

    def __post_init__(self):
        for kind, (_, top_k, top_p) in (("audio", self.sampling(True)), ("text", self.sampling(False))):
            if not 0 < top_p <= 1 or top_k < 1:
                raise AudioPaLMError(f"decoding: {kind}_top_p={top_p} and {kind}_top_k={top_k}; they are above 0 to 1, "
                                     "and 1 or more")

    def sampling(self, is_audio: bool) -> tuple[float, int, float]:
        """Temperature, top_k and top_p of a part."""
        if is_audio:
            return self.audio_temperature, self.audio_top_k, self.audio_top_p
        return self.text_temperature, self.text_top_k, self.text_top_p


@dataclass
class Generated:
    """Ids of each part, int64 `[T]` in the joint vocabulary without end tokens; whether a limit cut one off; the
    model's log probability of the answer, end tokens counted."""

    parts: list[np.ndarray]
    truncated: bool
    score: float


class _Row:
    """What one row of the batch has written."""

    def __init__(self, name: str, seed: int, limits: list[int]):
        self.limits, self.parts, self.truncated, self.scores = limits, [[]], False, []
        # Noise belongs to the utterance, not to the batch it happens to be in.
        self.random = torch.Generator().manual_seed(zlib.crc32(name.encode()) + seed)

    @property
    def part(self) -> int:
        return len(self.parts) - 1

    def write(self, token: int, score: float, ends: list[int]) -> bool:
        """Whether the answer goes on behind `token`, whose log probability is `score`."""
        self.scores.append(score)
        if token != ends[self.part]:
            self.parts[-1].append(token)
        elif self.part + 1 < len(ends):
            self.parts.append([])
        else:
            return False
        return True

    def answer(self) -> Generated:
        return Generated([np.array(part, dtype=np.int64) for part in self.parts], self.truncated, sum(self.scores))


@torch.inference_mode()
def generate(model: Decoder, prompts: list[np.ndarray], names: list[str], task: Task, vocabulary: Vocabulary,
             config: DecodingConfig, seed: int = 0, batch: int = 64) -> list[Generated]:
    """Answer `prompts` (int64 `[T]` each, see SequenceBuilder.prompt), `batch` of them at a time.

    `names` seed the sampling of each row. On a CPU in float32 neither the batch nor the order changes anything.
    """
    allowed, ends = grammar(task, vocabulary)
    limits = [part_limits(task, config, len(prompt)) for prompt in prompts]
    rows = [_Row(*given) for given in zip(names, [seed] * len(names), limits, strict=True)]
    places = Places(model, prompts, most_tokens(prompts, limits), batch)
    bias = torch.zeros(allowed.shape).masked_fill_(~allowed, -torch.inf).to(places.decoder.device)
    while places.fill():
        logits = places.logits()
        going = [(place, rows[number]) for place, number in enumerate(places.numbers) if number is not None]
        parts = [0] * len(logits)
        for place, row in going:
            parts[place] = row.part
        tokens = _choose(logits + bias[parts], going, task, config).tolist()
        for place, row in going:
            if len(row.parts[-1]) >= row.limits[row.part]:
                row.truncated |= tokens[place] != ends[row.part]
                tokens[place] = ends[row.part]
        written = torch.tensor(tokens, device=logits.device)
        scores = logits.log_softmax(dim=-1).gather(1, written[:, None])[:, 0].tolist()
        for place, row in going:
            if not row.write(tokens[place], scores[place], ends):
                places.free(place)
        if any(number is not None for number in places.numbers):
            places.step(written)
    return [row.answer() for row in rows]


def grammar(task: Task, vocabulary: Vocabulary) -> tuple[Tensor, list[int]]:
    """Of each part: ids that may be in it, bool `[parts, vocabulary]`; the id that ends it."""
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
    """The most ids of each part before its end, for a prompt of so many tokens."""
    limits = {True: (config.audio_tokens, config.audio_tokens_per_input),
              False: (config.text_tokens, config.text_tokens_per_input)}
    return [most if share is None else min(most, math.ceil(share * prompt_tokens))
            for most, share in (limits[output.is_audio] for output in task.outputs)]


def most_tokens(prompts: list[np.ndarray], limits: list[list[int]]) -> int:
    """Of a prompt, its answer and the ends of its parts."""
    return max(len(prompt) + sum(one) + len(one) for prompt, one in zip(prompts, limits, strict=True))


def _choose(logits: Tensor, going: list[tuple[int, _Row]], task: Task, config: DecodingConfig) -> Tensor:
    """The next token of each row `[B]` from `[B, V]`, which is changed; sampled by the Gumbel trick."""
    for place, row in going:
        temperature, top_k, top_p = config.sampling(task.outputs[row.part].is_audio)
        if temperature > 0:
            best = logits[place].topk(min(top_k, logits.shape[1]))
            values = best.values / temperature
            shares = values.softmax(dim=0)
            values = values.masked_fill(shares.cumsum(dim=0) - shares >= top_p, -torch.inf)
            uniform = torch.rand(len(values), generator=row.random).to(logits.device)
            noisy = values - torch.log(-torch.log(uniform))
            logits[place, best.indices[noisy.argmax()]] = torch.inf
    return logits.argmax(dim=-1)
