"""Generation with a key-value cache: batched, and each row ends up as if it were alone.

The row of the task table is the grammar: while a text part is written only text ids and its end token are possible,
while an audio part is written only audio ids and its end token.
"""

import zlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from audiopalm.lm.model import Decoder, KeyValueCache
from audiopalm.tasks import Task
from audiopalm.tokenizers.vocabulary import Vocabulary


@dataclass
class DecodingConfig:
    """Text is greedy. Audio is greedy at temperature 0, else sampled from its `top_k` best tokens.

    With a `beam` above 1 both are searched (audiopalm/lm/beam.py), and with `rescore` the model chooses between what it
    found by listening to itself (audiopalm/lm/decoding.py).
    """

    text_tokens: int = 60  # most tokens of a text part
    audio_tokens: int = 300  # most units of an audio part (25 a second)
    audio_temperature: float = 0.0
    audio_top_k: int = 20
    beam: int = 1
    length_penalty: float = 1.0  # answers are compared by log probability / tokens ** length_penalty
    rescore: bool = False


@dataclass
class Generated:
    """Ids of each part, int64 `[T]` in the joint vocabulary without end tokens; whether a limit cut one off."""

    parts: list[np.ndarray]
    truncated: bool


class _Row:
    """What one row of the batch has written."""

    def __init__(self, number: int, name: str, seed: int):
        self.number, self.parts, self.truncated = number, [[]], False
        # Noise belongs to the utterance, not to the batch it happens to be in.
        self.random = torch.Generator().manual_seed(zlib.crc32(name.encode()) + seed)

    @property
    def part(self) -> int:
        return len(self.parts) - 1


@torch.inference_mode()
def generate(model: Decoder, prompts: list[np.ndarray], names: list[str], task: Task, vocabulary: Vocabulary,
             config: DecodingConfig, seed: int = 0) -> list[Generated]:
    """Answer `prompts` (int64 `[T]` each, see SequenceBuilder.prompt); `names` seed the sampling of each row."""
    model.eval()
    device = model.embedding.weight.device
    allowed, ends, limits = grammar(task, vocabulary, config)
    allowed = allowed.to(device)
    cache, hidden, position = prefill(model, prompts, sum(limits) + len(limits))
    rows = [_Row(number, name, seed) for number, name in enumerate(names)]
    finished: list[_Row] = []
    while rows:
        logits = model.logits(hidden[:, -1])
        logits = logits.masked_fill(~allowed[[row.part for row in rows]], -torch.inf)
        tokens = _choose(logits, rows, task, config)
        alive = []
        for index, row in enumerate(rows):
            token = ends[row.part] if len(row.parts[-1]) >= limits[row.part] else int(tokens[index])
            row.truncated |= token != int(tokens[index])
            tokens[index] = token
            if token != ends[row.part]:
                row.parts[-1].append(token)
            elif row.part + 1 < len(limits):
                row.parts.append([])
            else:
                finished.append(row)
                continue
            alive.append(index)
        if len(alive) < len(rows):
            rows = [rows[index] for index in alive]
            keep = torch.tensor(alive, dtype=torch.long, device=device)
            tokens, position = tokens[keep], position[keep]
            cache.keep(keep)
        if rows:
            position = position + 1
            mask = cache.visible[:, None, None, :cache.length + 1]
            hidden = model.hidden(tokens[:, None], position, mask, cache)
    finished.sort(key=lambda row: row.number)
    return [Generated([np.array(part, dtype=np.int64) for part in row.parts], row.truncated) for row in finished]


def prefill(model: Decoder, prompts: list[np.ndarray], room: int) -> tuple[KeyValueCache, Tensor, Tensor]:
    """A cache that holds the prompts and has `room` for more tokens, the last hidden states `[B, T, dim]` and positions
    `[B, 1]`. Prompts are padded on the left, so that every row writes at the same place of the cache."""
    device, longest = model.embedding.weight.device, max(len(prompt) for prompt in prompts)
    ids = torch.zeros(len(prompts), longest, dtype=torch.long)
    visible = torch.ones(len(prompts), longest + room, dtype=torch.bool)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt):] = torch.from_numpy(np.asarray(prompt, dtype=np.int64))
        visible[row, :longest - len(prompt)] = False
    ids, visible = ids.to(device), visible.to(device)
    cache = KeyValueCache(model.config, visible, model.embedding.weight.dtype)
    positions = (visible[:, :longest].cumsum(dim=1) - 1).clamp(min=0)
    causal = torch.ones(longest, longest, dtype=torch.bool, device=device).tril()
    alone = torch.eye(longest, dtype=torch.bool, device=device)  # padding sees itself: a row of nothing is not a number
    hidden = model.hidden(ids, positions, ((visible[:, None, :longest] & causal) | alone)[:, None], cache)
    return cache, hidden, positions[:, -1:]


def grammar(task: Task, vocabulary: Vocabulary, config: DecodingConfig) -> tuple[Tensor, list[int], list[int]]:
    """Of each part: ids that may be in it, bool `[parts, vocabulary]`; the id that ends it; most ids before that."""
    limits = [config.audio_tokens if output.is_audio else config.text_tokens for output in task.outputs]
    ends = [vocabulary.newline] * (len(limits) - 1) + [vocabulary.eos]
    allowed = torch.zeros(len(task.outputs), vocabulary.size, dtype=torch.bool)
    for part, output in enumerate(task.outputs):
        if output.is_audio:
            allowed[part, vocabulary.text_size:] = True
        else:
            allowed[part, :vocabulary.text_size] = True
            allowed[part, [vocabulary.newline, vocabulary.eos]] = False
        allowed[part, ends[part]] = True
    return allowed, ends, limits


def _choose(logits: Tensor, rows: list[_Row], task: Task, config: DecodingConfig) -> Tensor:
    """The next token of each row `[B]` from `[B, V]`; audio may be sampled, by the Gumbel trick."""
    if config.audio_temperature > 0:
        for index, row in enumerate(rows):
            if task.outputs[row.part].is_audio:
                best = logits[index].topk(config.audio_top_k)
                uniform = torch.rand(config.audio_top_k, generator=row.random).to(logits.device)
                noisy = best.values / config.audio_temperature - torch.log(-torch.log(uniform))
                logits[index, best.indices[noisy.argmax()]] = torch.inf
    return logits.argmax(dim=-1)
