"""Answers to a batch of examples, as the decoding settings say: greedy, sampled, searched, or searched and rescored.

Rescoring asks of each of the answers that beam search has found whether the model itself recognises what it has said:
the answer whose units make the text most probable under `[ASR English]` is taken. The text is the one to be spoken:
the input of TTS, the translation that stands before the speech in a combined answer, and for S2ST alone what the model
answers to `[AST ...]`. So a number that is read wrongly is noticed, at the price of a beam and a pass over each answer.
"""

import numpy as np
import torch
import torch.nn.functional as F

from audiopalm.core.errors import AudioPaLMError
from audiopalm.data.examples import Example
from audiopalm.lm.generation.beam import beam_search
from audiopalm.lm.generation.sampling import DecodingConfig, Generated, generate
from audiopalm.lm.model import Decoder, packed_mask
from audiopalm.lm.packing import IGNORED, collate
from audiopalm.lm.sequences import SequenceBuilder
from audiopalm.tasks import AUDIO, TRANSCRIPT, Task, get_task, writing_task


def decode_batch(model: Decoder, builder: SequenceBuilder, task: Task, examples: list[Example], config: DecodingConfig,
                 seed: int = 0) -> list[Generated]:
    """The best answer to each example. Raises AudioPaLMError for a rescoring that has nothing to choose from."""
    return [best for best, *_ in decode_n_best(model, builder, task, examples, config, seed)]


def decode_n_best(model: Decoder, builder: SequenceBuilder, task: Task, examples: list[Example], config: DecodingConfig,
                  seed: int = 0, batch: int = 64) -> list[list[Generated]]:
    """At most `config.beam` answers to each example, the best first, `batch` rows at a time.

    Raises AudioPaLMError for a rescoring that has nothing to choose from.
    """
    prompts = [builder.prompt(task, example) for example in examples]
    if config.beam == 1 and not config.rescore:
        names = [example.utterance for example in examples]
        return [[one] for one in generate(model, prompts, names, task, builder.vocabulary, config, seed, batch)]
    found = beam_search(model, prompts, task, builder.vocabulary, config, batch)
    if not config.rescore:
        return found
    if task.spoken is None or config.beam == 1:
        raise AudioPaLMError(f"decoding: rescore chooses between the spoken answers of a beam; task {task.name!r} with "
                             f"beam={config.beam} has none to choose from")
    spoken = task.outputs.index(task.spoken)
    texts = _spoken_texts(model, builder, task, examples, found, config, seed)
    ordered = []
    for example, text, answers in zip(examples, texts, found, strict=True):
        language = task.spoken.language(example.source, example.target)
        units = [answer.parts[spoken] - builder.vocabulary.text_size for answer in answers]
        scores = recognition_scores(model, builder, units, text, language)
        ordered.append([answers[place] for place in np.argsort(-scores, kind="stable")])
    return ordered


def _spoken_texts(model: Decoder, builder: SequenceBuilder, task: Task, examples: list[Example],
                  found: list[list[Generated]], config: DecodingConfig, seed: int) -> list[str]:
    """What the speech of each answer should say."""
    wanted = task.spoken.text_field
    if task.input == wanted:
        return [example.fields[wanted] for example in examples]
    written = [number for number, output in enumerate(task.outputs) if output.field == wanted]
    if written:
        ids = [best.parts[written[0]] for best, *_ in found]
    else:
        write = writing_task(task.input, wanted)
        prompts = [builder.prompt(write, example) for example in examples]
        names = [example.utterance for example in examples]
        answers = generate(model, prompts, names, write, builder.vocabulary, config, seed)
        ids = [answer.parts[0] for answer in answers]
    return [" ".join(builder.tokenizer.decode(list(one)).split()) for one in ids]


@torch.inference_mode()
def recognition_scores(model: Decoder, builder: SequenceBuilder, units: list[np.ndarray], text: str,
                       language: str) -> np.ndarray:
    """Log probability float32 `[N]` of `text` as the transcript of each of `units` (int `[T]`) in `language`."""
    recognise = get_task("asr")
    sequences = [builder.sequence(recognise, Example("", language, None, {AUDIO: one, TRANSCRIPT: text}))
                 for one in units]
    batch = collate([[sequence] for sequence in sequences], max(len(sequence.ids) for sequence in sequences))
    ids, segments, positions, targets = (tensor.to(model.embedding.weight.device) for tensor in (
        batch.ids, batch.segments, batch.positions, batch.targets))
    wanted = targets != IGNORED
    hidden = model.hidden(ids, positions, packed_mask(segments))[wanted]
    losses = F.cross_entropy(model.logits(hidden), targets[wanted], reduction="none")
    return torch.zeros(len(units), device=losses.device).index_add_(0, wanted.nonzero()[:, 0], -losses).cpu().numpy()
