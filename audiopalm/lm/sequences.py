"""From an example to a sequence of token ids (tag, input, newline, outputs) and the positions that have loss."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from audiopalm.data.examples import Example
from audiopalm.tasks import Task
from audiopalm.vocabulary.joint import Vocabulary
from audiopalm.vocabulary.text import TextTokenizer

CACHED_TEXTS = 4096  # not all texts: a corpus may have millions


@dataclass(frozen=True)
class Sequence:
    """ids: int64 `[T]`. is_output: bool `[T]`, True where the token belongs to an output. utterance: for messages."""

    utterance: str
    ids: np.ndarray
    is_output: np.ndarray


class SequenceBuilder:
    """Builds sequences as the rows of audiopalm/tasks.py describe. Recent texts are cached."""

    def __init__(self, vocabulary: Vocabulary, tokenizer: TextTokenizer):
        self.vocabulary, self.tokenizer = vocabulary, tokenizer
        self._encoded: dict[str, np.ndarray] = {}

    def text(self, text: str) -> np.ndarray:
        """Ids of a text, int64 `[T]`."""
        if text not in self._encoded:
            if len(self._encoded) >= CACHED_TEXTS:
                self._encoded.clear()
            self._encoded[text] = np.array(self.tokenizer.encode(text), dtype=np.int64)
        return self._encoded[text]

    def value(self, field: str, example: Example) -> np.ndarray:
        """Ids of one field of an example in the joint vocabulary, int64 `[T]`."""
        value = example.fields[field]
        return self.text(value) if isinstance(value, str) else value.astype(np.int64) + self.vocabulary.text_size

    def prompt(self, task: Task, example: Example) -> np.ndarray:
        """Tag, input and a newline, int64 `[T]`.

        A task without a tag (the text LM) has the prompt <eos>, which begins a document.
        """
        if not task.tag:
            return np.array([self.vocabulary.eos])
        tag = self.text(task.tag_text(example.source, example.target))
        return np.concatenate([tag, self.value(task.input, example), [self.vocabulary.newline]])

    def sequence(self, task: Task, example: Example) -> Sequence:
        """Prompt and outputs. Every output ends with a newline, except the last, which ends with <eos>."""
        prompt = self.prompt(task, example)
        parts = [prompt]
        for number, output in enumerate(task.outputs, start=1):
            end = self.vocabulary.eos if number == len(task.outputs) else self.vocabulary.newline
            parts += [self.value(output.field, example), np.array([end])]
        ids = np.concatenate(parts).astype(np.int64)
        is_output = np.arange(len(ids)) >= len(prompt)
        return Sequence(example.utterance, ids, is_output)

    def lengths(self, task: Task, source: str, target: str | None, count: Callable[[str], np.ndarray]) -> np.ndarray:
        """The lengths of `sequence` for N examples, int64 `[N]`.

        count: returns the number of tokens of a field in each example, int64 `[N]`.
        """
        length = sum((count(output.field) + 1 for output in task.outputs), np.zeros(1, dtype=np.int64))
        if not task.tag:
            return length + 1
        return length + len(self.text(task.tag_text(source, target))) + count(task.input) + 1
