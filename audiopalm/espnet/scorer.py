"""The language model as a scorer of ESPnet's beam search, and a beam search for one prompt.

Hypotheses begin with the prompt. The grammar and the length limits of parts are those of
audiopalm/lm/generation/grammar.py.
"""

from typing import Any

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
    """Log probabilities of the next id, among the ids that the grammar of `task` allows.

    Instead of an encoder's output, the search gets a tensor with the length of the prompt, float `[prompt, 1]`. Every
    step computes whole hypotheses without a KV cache, because ESPnet's search cannot carry ours.
    """

    def __init__(self, model: Decoder, task: Task, vocabulary: Vocabulary, config: DecodingConfig,
                 prompt_tokens: int) -> None:
        self.model, self.newline = model, vocabulary.newline
        self.allowed, self.ends = grammar(task, vocabulary)
        self.limits = part_limits(task, config, prompt_tokens)

    def score(self, y: Tensor, state: None, x: Tensor) -> tuple[Tensor, None]:
        """`y` int64 `[T]` -> log probabilities float32 `[V]`."""
        scores, _ = self.batch_score(y[None], [state], x[None])
        return scores[0], None

    @torch.no_grad()
    def batch_score(self, ys: Tensor, states: list[None], xs: Tensor) -> tuple[Tensor, list[None]]:
        """Prompts with their answers so far, `ys` int64 `[B, T]` -> log probabilities float32 `[B, V]`."""
        batch, length = ys.shape
        positions = torch.arange(length, device=ys.device).expand(batch, length)
        causal = torch.ones(length, length, dtype=torch.bool, device=ys.device).tril().expand(batch, 1, length, length)
        logits = self.model.logits(self.model.hidden(ys, positions, causal)[:, -1])
        allowed = torch.stack([self.next_ids(answer) for answer in ys[:, xs.shape[1]:].tolist()]).to(ys.device)
        return logits.masked_fill(~allowed, -torch.inf).log_softmax(dim=-1), states

    def next_ids(self, answer: list[int]) -> Tensor:
        """The ids that may follow those of an answer, bool `[V]`."""
        parts = split(answer, self.newline, len(self.limits))
        part = len(parts) - 1
        if len(parts[part]) < self.limits[part]:
            return self.allowed[part]
        end = torch.zeros_like(self.allowed[part])
        end[self.ends[part]] = True
        return end


def split(answer: list[int], newline: int, num_parts: int) -> list[list[int]]:
    """The parts of an answer, which has no <eos>. Every part except the last ends with a newline."""
    parts: list[list[int]] = [[]]
    for token in answer:
        if token == newline and len(parts) < num_parts:
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


class _Search(BatchBeamSearch):
    """Ends when no running hypothesis can become one of the best `beam_size`: log probabilities only decrease.

    ESPnet's own end detection compares lengths as if hypotheses had no prompt.
    """

    def post_process(self, i: int, maxlen: int, minlen: int, maxlenratio: float, running_hyps: Any,
                     ended_hyps: list[Any]) -> Any:
        """The running hypotheses that may still become one of the best."""
        running = super().post_process(i, maxlen, minlen, maxlenratio, running_hyps, ended_hyps)
        scores = sorted((float(hypothesis.score) for hypothesis in ended_hyps), reverse=True)
        worst = scores[self.beam_size - 1] if len(scores) >= self.beam_size else -torch.inf
        return self._batch_select(running, torch.nonzero(running.score > worst).view(-1))


def beam_search(model: Decoder, prompt: np.ndarray, task: Task, vocabulary: Vocabulary, config: DecodingConfig,
                beam_size: int) -> list[tuple[float, Generated]]:
    """At most `beam_size` answers to `prompt` (int64 `[T]`) with their log probabilities, the best first."""
    model.eval()
    scorer = AudioPaLMScorer(model, task, vocabulary, config, len(prompt))
    search = _Search({"lm": scorer}, {"lm": 1.0}, beam_size, vocabulary.size, vocabulary.eos, vocabulary.eos,
                     hyp_primer=prompt.tolist())
    encoded = torch.zeros(len(prompt), 1, device=model.embedding.weight.device)
    max_tokens = sum(scorer.limits) + len(scorer.limits)
    # A negative ratio is a number of tokens. The search appends <eos> at the last token; all answers end before it.
    hypotheses = search(encoded, maxlenratio=-(max_tokens + 1))
    answers = []
    for hypothesis in hypotheses[:beam_size]:
        if not torch.isfinite(hypothesis.score):  # a forbidden answer: the beam is wider than the allowed answers
            continue
        parts = split(hypothesis.yseq.tolist()[len(prompt):-1], vocabulary.newline, len(scorer.limits))
        truncated = any(len(part) >= limit for part, limit in zip(parts, scorer.limits, strict=True))
        answers.append((float(hypothesis.score),
                        Generated([np.array(part, dtype=np.int64) for part in parts], truncated,
                                  float(hypothesis.score))))
    return answers
