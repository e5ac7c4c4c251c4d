"""Answers to a batch of examples as the decoding settings say: greedy, sampled, beam search, or beam search rescored.

Rescoring chooses among the answers of beam search the one whose speech the model itself recognises best: the answer
whose units make the expected text most probable under the prompt `[ASR <language>]`. The expected text is the input of
TTS, the translation that precedes the speech in a combined task, and for S2ST alone the model's answer to `[AST ...]`.
Rescoring finds misread numbers, for instance. It costs a beam search and one forward pass per answer.
"""

import numpy as np
import torch
import torch.nn.functional as F

from audiopalm.core.errors import AudioPaLMError
from audiopalm.data.examples import Example
from audiopalm.lm.generation.beam import beam_search
from audiopalm.lm.generation.config import DecodingConfig
from audiopalm.lm.generation.grammar import Generated
from audiopalm.lm.generation.sampling import generate
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

    Raises AudioPaLMError if rescoring has nothing to choose from.
    """
    prompts = [builder.prompt(task, example) for example in examples]
    rescore = config.rescore and task.spoken is not None  # text answers stay in the order of the beam
    if rescore and config.beam == 1:
        raise AudioPaLMError("decoding: rescore chooses between the spoken answers of a beam, and beam is 1; give "
                             "beam=8, for example")
    if config.beam == 1:
        names = [example.utterance for example in examples]
        return [[one] for one in generate(model, prompts, names, task, builder.vocabulary, config, seed, batch_size)]
    n_best = beam_search(model, prompts, task, builder.vocabulary, config, batch_size)
    if not rescore:
        return n_best
    spoken = task.outputs.index(task.spoken)
    texts = _expected_texts(model, builder, task, examples, n_best, config, seed, batch_size)
    rescored = []
    for example, text, answers in zip(examples, texts, n_best, strict=True):
        language = task.spoken.language(example.source, example.target)
        units = [answer.parts[spoken] - builder.vocabulary.text_size for answer in answers]
        scores = np.concatenate([recognition_scores(model, builder, units[first:first + batch_size], text, language)
                                 for first in range(0, len(units), batch_size)])
        rescored.append([answers[index] for index in np.argsort(-scores, kind="stable")])
    return rescored


def _expected_texts(model: Decoder, builder: SequenceBuilder, task: Task, examples: list[Example],
                    n_best: list[list[Generated]], config: DecodingConfig, seed: int, batch_size: int) -> list[str]:
    """The text that the speech of each example's answer should contain."""
    wanted = task.spoken.text_field
    if task.input == wanted:
        return [example.fields[wanted] for example in examples]
    written = [part for part, output in enumerate(task.outputs) if output.field == wanted]
    if written:
        ids = [best.parts[written[0]] for best, *_ in n_best]
    else:
        write = writing_task(task.input, wanted)
        prompts = [builder.prompt(write, example) for example in examples]
        names = [example.utterance for example in examples]
        answers = generate(model, prompts, names, write, builder.vocabulary, config, seed, batch_size)
        ids = [answer.parts[0] for answer in answers]
    return [" ".join(builder.tokenizer.decode(list(one)).split()) for one in ids]


@torch.inference_mode()
def recognition_scores(model: Decoder, builder: SequenceBuilder, units: list[np.ndarray], text: str,
                       language: str) -> np.ndarray:
    """Log probability of `text` as the transcript of each of `units` (int `[T]`) in `language`, float32 `[N]`."""
    asr = get_task("asr")
    sequences = [builder.sequence(asr, Example("", language, None, {AUDIO: one, TRANSCRIPT: text})) for one in units]
    batch = collate([[sequence] for sequence in sequences], max(len(sequence.ids) for sequence in sequences))
    sizes = count_sizes(batch.segments, batch.targets)
    ids, segments, positions, targets = (tensor.to(model.embedding.weight.device) for tensor in (
        batch.ids, batch.segments, batch.positions, batch.targets))
    chosen, truth = output_positions(targets, sizes)
    hidden = model.hidden(ids, positions, model.attention_in(segments, sizes)).flatten(0, 1).index_select(0, chosen)
    losses = F.cross_entropy(model.logits(hidden), truth, reduction="none")
    rows = chosen // targets.shape[1]
    return torch.zeros(len(units), device=losses.device).index_add_(0, rows, -losses).cpu().numpy()
