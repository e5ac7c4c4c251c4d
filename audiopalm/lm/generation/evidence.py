"""What the model's own probabilities say about an input and its answer: the features of a confidence.

An input is probed by writing it down: speech by `[ASR ...]`, a text by `[MT ...]` into another language. How probable
the words are to the model, and how probable the input is when it is made from these words again (`[TTS ...]` of the
transcript, `[MT ...]` back), separates what the model was trained on from noise, music or open sentences.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from audiopalm.data.examples import Example
from audiopalm.lm.generation.config import DecodingConfig
from audiopalm.lm.generation.sampling import generate
from audiopalm.lm.model import Decoder
from audiopalm.lm.packed_sizes import count_sizes, output_positions
from audiopalm.lm.packing import collate
from audiopalm.lm.sequences import SequenceBuilder
from audiopalm.lm.trained import TrainedTask
from audiopalm.tasks import AUDIO, TRANSCRIPT, TRANSLATION, Task, get_task, writing_task

# Of the tokens of a text: mean and lowest log probability, mean and highest entropy.
OF_A_TEXT = ("mean", "lowest", "entropy", "highest_entropy")
INPUT_FEATURES = {AUDIO: (*OF_A_TEXT, "back"), TRANSCRIPT: (*OF_A_TEXT, "back", "text")}
WRITING = DecodingConfig(text_tokens=60)  # greedy
BATCH = 32


@dataclass(frozen=True)
class Probe:
    """The two tasks of an input: the one that writes it down, and the one that makes the input from the words again."""

    write: Task
    back: Task
    target: str | None

    @classmethod
    def choose(cls, kind: str, source: str, target: str | None, trained: Collection[TrainedTask]) -> "Probe | None":
        """The probe of an input (`kind` is its field) in `source`; None where the model was not trained for one.

        A text is translated into `target` if possible, else into the first language of which the model knows both ways.
        """
        if kind == AUDIO:
            known = {TrainedTask("asr", source, None), TrainedTask("tts", source, None)} <= set(trained)
            return cls(get_task("asr"), get_task("tts"), None) if known else None
        both = sorted(one.target for one in trained if one.task == "mt" and one.source == source
                      and TrainedTask("mt", one.target, source) in trained)
        return cls(get_task("mt"), get_task("mt"), target if target in both else both[0]) if both else None


@torch.inference_mode()
def token_scores(model: Decoder, builder: SequenceBuilder, task: Task,
                 examples: Sequence[Example]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Log probability and entropy of each output token (end tokens included) of the examples, float32 `[T]` each."""
    sequences = [builder.sequence(task, example) for example in examples]
    order = sorted(range(len(sequences)), key=lambda index: len(sequences[index].ids))
    found: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for start in range(0, len(order), BATCH):
        chosen = order[start:start + BATCH]
        batch = collate([[sequences[index]] for index in chosen], len(sequences[chosen[-1]].ids))
        sizes = count_sizes(batch.segments, batch.targets)
        ids, segments, positions, targets = (tensor.to(model.embedding.weight.device) for tensor in (
            batch.ids, batch.segments, batch.positions, batch.targets))
        places, truth = output_positions(targets, sizes)
        states = model.hidden(ids, positions, model.attention_in(segments, sizes)).flatten(0, 1)
        log_probabilities = model.logits(states.index_select(0, places)).float().log_softmax(dim=-1)
        found_scores = log_probabilities.gather(1, truth.clamp(min=0)[:, None])[:, 0]
        found_entropies = -(log_probabilities.exp() * log_probabilities).sum(dim=-1)
        scores, entropies, rows = (one[:sizes.outputs].cpu().numpy() for one in (
            found_scores, found_entropies, places // targets.shape[1]))
        for row, index in enumerate(chosen):
            found[index] = scores[rows == row], entropies[rows == row]
    return [found[index] for index in range(len(sequences))]


def of_texts(model: Decoder, builder: SequenceBuilder, task: Task, examples: Sequence[Example]) -> np.ndarray:
    """`OF_A_TEXT` of the output of each example, float64 `[N, 4]`."""
    return np.array([(scores.mean(), scores.min(), entropies.mean(), entropies.max())
                     for scores, entropies in token_scores(model, builder, task, examples)], dtype=np.float64)


def write(model: Decoder, builder: SequenceBuilder, task: Task, examples: Sequence[Example]) -> list[str]:
    """The greedy answer of a task that writes one text."""
    prompts = [builder.prompt(task, example) for example in examples]
    answers = generate(model, prompts, [example.utterance for example in examples], task, builder.vocabulary, WRITING,
                       batch_size=BATCH)
    return [" ".join(builder.tokenizer.decode(list(answer.parts[0])).split()) for answer in answers]


def with_text(example: Example, field: str, text: str) -> Example:
    return Example(example.utterance, example.source, example.target, {**example.fields, field: text})


def of_inputs(model: Decoder, builder: SequenceBuilder, kind: str, probe: Probe, examples: Sequence[Example],
              written: Sequence[str] | None = None) -> tuple[np.ndarray, list[str]]:
    """`INPUT_FEATURES[kind]` of each input, float64 `[N, F]`, and what the probe has written.

    examples: of one source language, or of several with the same probe. written: the probe's text where the answer has
    it already.
    """
    field = probe.write.outputs[0].field
    inputs = [Example(one.utterance, one.source, probe.target, {kind: one.fields[kind]}) for one in examples]
    texts = list(written) if written is not None else write(model, builder, probe.write, inputs)
    own = of_texts(model, builder, probe.write, [with_text(*pair) for pair in
                                                 zip(inputs, [field] * len(inputs), texts, strict=True)])
    if kind == AUDIO:
        returns = [Example("", one.source, None, {TRANSCRIPT: text, AUDIO: one.fields[AUDIO]})
                   for one, text in zip(inputs, texts, strict=True)]
    else:
        returns = [Example("", probe.target, one.source, {TRANSCRIPT: text, TRANSLATION: one.fields[TRANSCRIPT]})
                   for one, text in zip(inputs, texts, strict=True)]
    columns = [own, _means(model, builder, probe.back, returns)]
    if kind == TRANSCRIPT:
        columns.append(_means(model, builder, get_task("lm"), inputs))
    return np.hstack(columns), texts


def _means(model: Decoder, builder: SequenceBuilder, task: Task, examples: Sequence[Example]) -> np.ndarray:
    """Mean log probability of the output of each example, float64 `[N, 1]`."""
    return np.array([[scores.mean()] for scores, _ in token_scores(model, builder, task, examples)], dtype=np.float64)


def answer_task(task: Task) -> Task:
    """The elementary task whose words an answer of `task` stands for: AST for S2ST, MT, ASR; for TTS the ASR of what
    was spoken."""
    last = task.outputs[-1]
    return get_task("asr") if task.input == last.text_field else writing_task(task.input, last.text_field)


def of_answers(model: Decoder, builder: SequenceBuilder, task: Task, examples: Sequence[Example],
               parts: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """`OF_A_TEXT` of each answer, float64 `[N, 4]`: of its last text as the answer of `answer_task`.

    parts: ids of the parts of each answer, in the joint vocabulary. The words of S2ST alone are written anew.
    """
    elementary = answer_task(task)
    field = elementary.outputs[0].field
    if task.input == TRANSCRIPT and elementary.input == AUDIO:  # TTS: how well the model recognises what it says
        spoken = [Example("", one.source, None, {AUDIO: answer[-1] - builder.vocabulary.text_size,
                                                 TRANSCRIPT: one.fields[TRANSCRIPT]})
                  for one, answer in zip(examples, parts, strict=True)]
        return of_texts(model, builder, elementary, spoken)
    numbers = [number for number, output in enumerate(task.outputs) if output.field == field]
    if numbers:
        texts = [" ".join(builder.tokenizer.decode(list(answer[numbers[0]])).split()) for answer in parts]
    else:
        texts = write(model, builder, elementary, examples)
    return of_texts(model, builder, elementary, [with_text(one, field, text)
                                                 for one, text in zip(examples, texts, strict=True)])
