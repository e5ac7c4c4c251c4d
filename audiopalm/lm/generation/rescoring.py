"""Answers to a batch of examples by greedy decoding, sampling, beam search or rescored beam search.

Rescoring chooses the answer of beam search whose speech the model itself recognises best: the answer whose units make
the expected text most probable under the prompt `[ASR <language>]`. The expected text is the input of TTS, the
translation that precedes the speech in a combined task, and for S2ST alone the model's answer to `[AST ...]`.
Rescoring finds misread numbers, for instance. It costs a beam search and one forward pass per answer.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.gradients import inference_mode
from audiopalm.data.examples import Example
from audiopalm.lm.generation.beam import beam_search
from audiopalm.lm.generation.config import DecodingConfig
from audiopalm.lm.generation.grammar import Generated
from audiopalm.lm.generation.sampling import generate, sampling_seeds
from audiopalm.lm.model import Decoder
from audiopalm.lm.packed_sizes import count_sizes, output_positions
from audiopalm.lm.packing import collate
from audiopalm.lm.sequences import SequenceBuilder
from audiopalm.tasks import AUDIO, TRANSCRIPT, Task, get_task, writing_task


def decode_batch(model: Decoder, builder: SequenceBuilder, task: Task, examples: list[Example], config: DecodingConfig,
                 seed: int = 0) -> list[Generated]:
    """The best answer to each example. Raises AudioPaLMError if rescoring has nothing to choose from."""
    return [best for best, *_ in decode_n_best(model, builder, task, examples, config, seed)]


def decode_n_best(model: Decoder, builder: SequenceBuilder, task: Task, examples: list[Example], config: DecodingConfig,
                  seed: int = 0, batch_size: int = 64) -> list[list[Generated]]:
    """At most `config.beam` answers to each example, the best first, `batch_size` sequences at a time.

    With `config.true_parts` the first parts of each answer are those of the example, with the score 0. Raises
    AudioPaLMError if rescoring has nothing to choose from, and for true parts that an example does not have.
    """
    seeds = sampling_seeds((example.utterance for example in examples), seed)
    if config.true_parts:
        return _after_true_parts(model, builder, task, examples, config, seeds, batch_size)
    spoken = task.spoken if config.rescore else None  # text answers stay in the order of the beam
    if spoken is not None and config.beam == 1:
        raise AudioPaLMError("decoding: rescore chooses between the spoken answers of a beam, and beam is 1; give "
                             "beam=8, for example")

    def prompts_of(task: Task) -> list[np.ndarray]:
        return [builder.prompt(task, example) for example in examples]

    def answers_to(task: Task) -> list[Generated]:
        return generate(model, prompts_of(task), task, builder.vocabulary, config, seeds, batch_size)

    if config.beam == 1:
        return [[answer] for answer in answers_to(task)]
    n_best = beam_search(model, prompts_of(task), task, builder.vocabulary, config, batch_size)
    if spoken is None:
        return n_best
    part = task.outputs.index(spoken)
    texts = _expected_texts(builder, task, spoken.text_field, examples, n_best, answers_to)
    rescored = []
    for example, text, answers in zip(examples, texts, n_best, strict=True):
        language = spoken.language(example.source, example.target)
        units = [answer.parts[part] - builder.vocabulary.text_size for answer in answers]
        scores = np.concatenate([recognition_scores(model, builder, units[first:first + batch_size], text, language)
                                 for first in range(0, len(units), batch_size)])
        rescored.append([answers[index] for index in np.argsort(-scores, kind="stable")])
    return rescored


def _after_true_parts(model: Decoder, builder: SequenceBuilder, task: Task, examples: list[Example],
                      config: DecodingConfig, seeds: Sequence[int], batch_size: int) -> list[list[Generated]]:
    """Answers whose first `config.true_parts` parts are not generated: they follow the prompt as the model's own would.

    Errors that the model makes in these parts cannot carry over into the next parts.
    """
    given, vocabulary = config.true_parts, builder.vocabulary
    if given >= len(task.outputs) or config.rescore:
        raise AudioPaLMError(f"decoding: true_parts {given} leaves no part of {task.name!r} to decode, or stands with "
                             "rescore, which it excludes")
    known, prompts = [], []
    for example in examples:
        if lacking := [output.field for output in task.outputs[:given] if output.field not in example.fields]:
            raise AudioPaLMError(f"decoding: true_parts needs the {lacking[0]} of {example.utterance}, which is not "
                                 "given")
        parts = [builder.value(output.field, example) for output in task.outputs[:given]]
        known.append([np.asarray(part, dtype=np.int64) for part in parts])
        prompts.append(np.concatenate([builder.prompt(task, example),
                                       *(np.append(part, vocabulary.newline) for part in parts)]))
    rest = replace(task, outputs=task.outputs[given:])
    n_best = ([[answer] for answer in generate(model, prompts, rest, vocabulary, config, seeds, batch_size)]
              if config.beam == 1 else beam_search(model, prompts, rest, vocabulary, config, batch_size))
    return [[replace(answer, parts=[*parts, *answer.parts], part_scores=None if answer.part_scores is None else
                     [0.0] * given + answer.part_scores) for answer in answers]
            for parts, answers in zip(known, n_best, strict=True)]


def _expected_texts(builder: SequenceBuilder, task: Task, field: str, examples: list[Example],
                    n_best: list[list[Generated]], answers_to: Callable[[Task], list[Generated]]) -> list[str]:
    """The text that the speech of each example's answer should contain; `field` is its field."""
    if task.input == field:
        return [str(example.fields[field]) for example in examples]
    written = [part for part, output in enumerate(task.outputs) if output.field == field]
    if written:
        ids = [best.parts[written[0]] for best, *_ in n_best]
    else:
        ids = [answer.parts[0] for answer in answers_to(writing_task(task.input, field))]
    return [" ".join(builder.tokenizer.decode(list(text)).split()) for text in ids]


@inference_mode
def recognition_scores(model: Decoder, builder: SequenceBuilder, units: list[np.ndarray], text: str,
                       language: str) -> np.ndarray:
    """Log probability of `text` as the transcript of each of `units`, float32 `[N]`.

    units: int64 `[T]` each, ids of the audio tokenizer. language: the code of the text's language.
    """
    asr = get_task("asr")
    sequences = [builder.sequence(asr, Example("", language, None, {AUDIO: ids, TRANSCRIPT: text})) for ids in units]
    batch = collate([[sequence] for sequence in sequences], max(len(sequence.ids) for sequence in sequences))
    sizes = count_sizes(batch.segments, batch.targets)
    ids, segments, positions, targets = (tensor.to(model.embedding.weight.device) for tensor in (
        batch.ids, batch.segments, batch.positions, batch.targets))
    outputs, truth = output_positions(targets, sizes)
    hidden = model.hidden(ids, positions, model.attention_in(segments, sizes)).flatten(0, 1).index_select(0, outputs)
    losses = F.cross_entropy(model.logits(hidden), truth, reduction="none")
    rows = outputs // targets.shape[1]
    return torch.zeros(len(units), device=losses.device).index_add_(0, rows, -losses).cpu().numpy()
