"""The language model as a scorer of ESPnet's beam search, and that search over one answer.

Hypotheses begin with the prompt. The grammar is that of audiopalm/lm/generation/sampling.py: a part has ids of
its kind only, and ends at its limit at the latest.
"""

import numpy as np
import torch
from torch import Tensor

from audiopalm.espnet.imports import BatchBeamSearch, BatchScorerInterface
from audiopalm.lm.generation.config import DecodingConfig
from audiopalm.lm.generation.grammar import Generated, grammar, part_limits
from audiopalm.lm.model import Decoder
from audiopalm.tasks import Task
from audiopalm.vocabulary.joint import Vocabulary


class AudioPaLMScorer(BatchScorerInterface):
    """Log probabilities of the next id, among those that the grammar of `task` allows.

    In the place of an encoder's output the search has any tensor as long as the prompt, float `[prompt, 1]`. Every
    step computes the whole hypothesis: ESPnet's hypotheses are of one length, but have no room for a cache of ours.
    """

    def __init__(self, model: Decoder, task: Task, vocabulary: Vocabulary, config: DecodingConfig, prompt_tokens: int):
        self.model, self.newline = model, vocabulary.newline
        self.allowed, self.ends = grammar(task, vocabulary)
        self.limits = part_limits(task, config, prompt_tokens)

    def score(self, y: Tensor, state: None, x: Tensor) -> tuple[Tensor, None]:
        """`y` int64 `[T]` -> log probabilities float32 `[V]`."""
        scores, _ = self.batch_score(y[None], [state], x[None])
        return scores[0], None

    @torch.no_grad()
    def batch_score(self, ys: Tensor, states: list[None], xs: Tensor) -> tuple[Tensor, list[None]]:
        """`ys` int64 `[B, T]`, prompts with answers so far -> log probabilities float32 `[B, V]`."""
        batch, length = ys.shape
        positions = torch.arange(length, device=ys.device).expand(batch, length)
        causal = torch.ones(length, length, dtype=torch.bool, device=ys.device).tril().expand(batch, 1, length, length)
        logits = self.model.logits(self.model.hidden(ys, positions, causal)[:, -1])
        allowed = torch.stack([self.next_ids(answer) for answer in ys[:, xs.shape[1]:].tolist()]).to(ys.device)
        return logits.masked_fill(~allowed, -torch.inf).log_softmax(dim=-1), states

    def next_ids(self, answer: list[int]) -> Tensor:
        """bool `[V]`: what may follow the ids of an answer."""
        parts = split(answer, self.newline, len(self.limits))
        part = len(parts) - 1
        if len(parts[part]) < self.limits[part]:
            return self.allowed[part]
        end = torch.zeros_like(self.allowed[part])
        end[self.ends[part]] = True
        return end


def split(answer: list[int], newline: int, most: int) -> list[list[int]]:
    """The parts of an answer without <eos>, of which every one but the last ends with a newline."""
    parts: list[list[int]] = [[]]
    for token in answer:
        if token == newline and len(parts) < most:
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


class _Search(BatchBeamSearch):
    """Ends when no hypothesis can come among the best `beam_size` any more: log probabilities only fall.

    ESPnet's own test for the end compares lengths as if hypotheses had no prompt.
    """

    def post_process(self, i, maxlen, minlen, maxlenratio, running_hyps, ended_hyps):
        running = super().post_process(i, maxlen, minlen, maxlenratio, running_hyps, ended_hyps)
        scores = sorted((float(hypothesis.score) for hypothesis in ended_hyps), reverse=True)
        worst = scores[self.beam_size - 1] if len(scores) >= self.beam_size else -torch.inf
        return self._batch_select(running, torch.nonzero(running.score > worst).view(-1))


def beam_search(model: Decoder, prompt: np.ndarray, task: Task, vocabulary: Vocabulary, config: DecodingConfig,
                beam_size: int) -> list[tuple[float, Generated]]:
    """At most `beam_size` answers to `prompt` (int64 `[T]`) with log probabilities, the best first; none is sampled."""
    model.eval()
    scorer = AudioPaLMScorer(model, task, vocabulary, config, len(prompt))
    search = _Search({"lm": scorer}, {"lm": 1.0}, beam_size, vocabulary.size, vocabulary.eos, vocabulary.eos,
                     hyp_primer=prompt.tolist())
    encoded = torch.zeros(len(prompt), 1, device=model.embedding.weight.device)
    longest = sum(scorer.limits) + len(scorer.limits)
    # A negative ratio is a number of tokens. At the last one the search adds an <eos>: here all have theirs before.
    found = search(encoded, maxlenratio=-(longest + 1))
    answers = []
    for hypothesis in found[:beam_size]:
        if not torch.isfinite(hypothesis.score):  # forbidden: fills a beam wider than the grammar
            continue
        parts = split(hypothesis.yseq.tolist()[len(prompt):-1], vocabulary.newline, len(scorer.limits))
        truncated = any(len(part) >= limit for part, limit in zip(parts, scorer.limits, strict=True))
        answers.append((float(hypothesis.score),
                        Generated([np.array(part, dtype=np.int64) for part in parts], truncated,
                                  float(hypothesis.score))))
    return answers
