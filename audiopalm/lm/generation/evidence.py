"""The features of a confidence: the model's own probabilities of an input and of its answer.

An input is probed by writing it down: speech by `[ASR ...]`, a text by `[MT ...]` into another language. Two
probabilities separate inputs like the training data from noise, music or open sentences: that of the written words,
and that of the input given these words (`[TTS ...]` of the transcript, `[MT ...]` back). A text in another language
than its tag names is more probable as a translation into that language, or without a tag, than under its own tag.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from audiopalm.core.gradients import inference_mode
from audiopalm.data.examples import Example
from audiopalm.lm.generation.config import DecodingConfig
from audiopalm.lm.generation.sampling import generate
from audiopalm.lm.model import Decoder
from audiopalm.lm.packed_sizes import count_sizes, output_positions
from audiopalm.lm.packing import collate
from audiopalm.lm.sequences import SequenceBuilder
from audiopalm.lm.trained import TrainedTask
from audiopalm.tasks import AUDIO, TRANSCRIPT, TRANSLATION, Task, get_task, writing_task

# Over the tokens of a text: mean and lowest log probability, mean and highest entropy.
TEXT_FEATURES = ("mean", "lowest", "entropy", "highest_entropy")
# Mean log probabilities: `back` of the input given the words of the probe, `text` of a text without a tag, `speech` of
# the units of an answer. `language` is `back` minus the largest of a text as one in another language or without a tag.
INPUT_FEATURES = {AUDIO: (*TEXT_FEATURES, "back"), TRANSCRIPT: (*TEXT_FEATURES, "back", "text", "language")}
ANSWER_FEATURES = {"asr": TEXT_FEATURES, "ast": TEXT_FEATURES, "mt": TEXT_FEATURES, "tts": (*TEXT_FEATURES, "speech")}
WRITING = DecodingConfig(text_tokens=60)  # greedy
BATCH = 32


@dataclass(frozen=True)
class Probe:
    """The two tasks that probe an input.

    write: writes the input down. back: makes the input from these words again. target: the language of the words if
    the input is a text, None if it is speech. others: the further languages that the model translates such words into.
    """

    write: Task
    back: Task
    target: str | None
    others: tuple[str, ...] = ()

    @classmethod
    def choose(cls, kind: str, source: str, target: str | None, trained: Collection[TrainedTask]) -> "Probe | None":
        """The probe of an input (`kind` is its field) in `source`; None if the model was not trained on its tasks.

        A text is translated into `target` if possible, else into the first language with training in both directions.
        """
        if kind == AUDIO:
            known = {TrainedTask("asr", source, None), TrainedTask("tts", source, None)} <= set(trained)
            return cls(get_task("asr"), get_task("tts"), None) if known else None
        both = sorted(task.target for task in trained if task.task == "mt" and task.source == source
                      and task.target is not None and TrainedTask("mt", task.target, source) in trained)
        if not both:
            return None
        words = target if target is not None and target in both else both[0]
        others = sorted(task.target for task in trained if task.task == "mt" and task.source == words
                        and task.target is not None and task.target != source)
        return cls(get_task("mt"), get_task("mt"), words, tuple(others))


@inference_mode
def token_scores(model: Decoder, builder: SequenceBuilder, task: Task,
                 examples: Sequence[Example]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Log probability and entropy of each output token of the examples, end tokens included, float32 `[T]` each.

    On a CPU every sequence has a pass of its own, which is as fast as a padded batch, and whose result does not depend
    on the other sequences, bit for bit.
    """
    size = 1 if model.embedding.weight.device.type == "cpu" else BATCH
    sequences = [builder.sequence(task, example) for example in examples]
    order = sorted(range(len(sequences)), key=lambda index: len(sequences[index].ids))
    by_index: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for start in range(0, len(order), size):
        chosen = order[start:start + size]
        batch = collate([[sequences[index]] for index in chosen], len(sequences[chosen[-1]].ids))
        sizes = count_sizes(batch.segments, batch.targets)
        ids, segments, positions, targets = (tensor.to(model.embedding.weight.device) for tensor in (
            batch.ids, batch.segments, batch.positions, batch.targets))
        outputs, truth = output_positions(targets, sizes)
        states = model.hidden(ids, positions, model.attention_in(segments, sizes)).flatten(0, 1)
        log_probabilities = model.logits(states.index_select(0, outputs)).float().log_softmax(dim=-1)
        of_truth = log_probabilities.gather(1, truth.clamp(min=0)[:, None])[:, 0]
        of_all = -(log_probabilities.exp() * log_probabilities).sum(dim=-1)
        scores, entropies, rows = (values[:sizes.outputs].cpu().numpy() for values in (
            of_truth, of_all, outputs // targets.shape[1]))
        for row, index in enumerate(chosen):
            by_index[index] = scores[rows == row], entropies[rows == row]
    return [by_index[index] for index in range(len(sequences))]


def of_texts(model: Decoder, builder: SequenceBuilder, task: Task, examples: Sequence[Example]) -> np.ndarray:
    """`TEXT_FEATURES` of the output of each example, float64 `[N, 4]`."""
    return np.array([(scores.mean(), scores.min(), entropies.mean(), entropies.max())
                     for scores, entropies in token_scores(model, builder, task, examples)], dtype=np.float64)


def write(model: Decoder, builder: SequenceBuilder, task: Task, examples: Sequence[Example]) -> list[str]:
    """The greedy answer of a task that writes one text."""
    prompts = [builder.prompt(task, example) for example in examples]
    answers = generate(model, prompts, task, builder.vocabulary, WRITING, batch_size=BATCH)
    return [" ".join(builder.tokenizer.decode(list(answer.parts[0])).split()) for answer in answers]


def with_text(example: Example, field: str, text: str) -> Example:
    """`example` with the text `text` as its field `field`."""
    return Example(example.utterance, example.source, example.target, {**example.fields, field: text})


def of_inputs(model: Decoder, builder: SequenceBuilder, kind: str, probe: Probe, examples: Sequence[Example],
              written: Sequence[str] | None = None) -> tuple[np.ndarray, list[str]]:
    """`INPUT_FEATURES[kind]` of each input, float64 `[N, F]`, and the texts that the probe has written.

    examples: all have the probe `probe`. written: the texts of the probe, if the answers contain them.
    """
    field = probe.write.outputs[0].field
    inputs = [Example(example.utterance, example.source, probe.target, {kind: example.fields[kind]})
              for example in examples]
    texts = list(written) if written is not None else write(model, builder, probe.write, inputs)
    own = of_texts(model, builder, probe.write, [with_text(*pair) for pair in
                                                 zip(inputs, [field] * len(inputs), texts, strict=True)])
    if probe.target is None:
        returns = [Example("", example.source, None, {TRANSCRIPT: text, kind: example.fields[kind]})
                   for example, text in zip(inputs, texts, strict=True)]
        return np.hstack([own, _means(model, builder, probe.back, returns)]), texts
    languages = [[example.source, *probe.others] for example in inputs]
    returns = [Example("", probe.target, language, {TRANSCRIPT: text, TRANSLATION: example.fields[kind]})
               for example, text, tried in zip(inputs, texts, languages, strict=True) for language in tried]
    backs = _means(model, builder, probe.back, returns).reshape(len(inputs), -1)
    free = _means(model, builder, get_task("lm"), inputs)
    rival = np.hstack([backs[:, 1:], free]).max(axis=1, keepdims=True)
    return np.hstack([own, backs[:, :1], free, backs[:, :1] - rival]), texts


def _means(model: Decoder, builder: SequenceBuilder, task: Task, examples: Sequence[Example]) -> np.ndarray:
    """Mean log probability of the output of each example, float64 `[N, 1]`."""
    return np.array([[scores.mean()] for scores, _ in token_scores(model, builder, task, examples)], dtype=np.float64)


def answer_task(task: Task) -> Task:
    """The elementary task that writes the words of an answer of `task`: AST for S2ST, and ASR of the speech for TTS."""
    last = task.outputs[-1]
    return get_task("asr") if task.input == last.text_field else writing_task(task.input, last.text_field)


def of_answers(model: Decoder, builder: SequenceBuilder, task: Task, examples: Sequence[Example],
               parts: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """`ANSWER_FEATURES` of each answer, float64 `[N, F]`, for its last text as the output of `answer_task`.

    parts: ids of the parts of each answer, int64 in the joint vocabulary. An answer without text, as of S2ST alone, is
    written by `answer_task` first. The text of TTS is the input, as the transcript of the answer.
    """
    elementary = answer_task(task)
    field = elementary.outputs[0].field
    if task.input == TRANSCRIPT and elementary.input == AUDIO:  # TTS: the model recognises its own speech
        spoken = [Example("", example.source, None, {AUDIO: answer[-1] - builder.vocabulary.text_size,
                                                     TRANSCRIPT: example.fields[TRANSCRIPT]})
                  for example, answer in zip(examples, parts, strict=True)]
        return np.hstack([of_texts(model, builder, elementary, spoken), _means(model, builder, task, spoken)])
    numbers = [number for number, output in enumerate(task.outputs) if output.field == field]
    if numbers:
        texts = [" ".join(builder.tokenizer.decode(list(answer[numbers[0]])).split()) for answer in parts]
    else:
        texts = write(model, builder, elementary, examples)
    return of_texts(model, builder, elementary, [with_text(example, field, text)
                                                 for example, text in zip(examples, texts, strict=True)])
