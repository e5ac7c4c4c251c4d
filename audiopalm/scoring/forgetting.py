"""What finetuning has forgotten: texts and their translation by the text LM of stage 7 and by the model of stage 8.

Both models, `text_lm` and `model`, have rows of two figures: `text_loss`, the mean loss of a set's sentences as texts
(nats a token, its end included), and `mt_bleu`, BLEU of the translation of some of them into English, greedily. The
joint model divides its probability over audio ids as well, which the loss includes.
"""

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.gradients import inference_mode
from audiopalm.data.example_set import ExampleSet
from audiopalm.data.speakers import spread
from audiopalm.lm.generation.config import DecodingConfig
from audiopalm.lm.generation.rescoring import decode_batch
from audiopalm.lm.initial import joint_lm
from audiopalm.lm.loading import describe
from audiopalm.lm.model import Decoder
from audiopalm.lm.packed_sizes import count_sizes
from audiopalm.lm.packing import collate
from audiopalm.lm.sequences import SequenceBuilder
from audiopalm.lm.storage import load_model
from audiopalm.scoring.metrics import bootstrap, score
from audiopalm.scoring.results import MODEL_DIGITS, ResultRow
from audiopalm.scoring.text import get_normaliser
from audiopalm.tasks import TRANSCRIPT, TRANSLATION, Task, get_task
from audiopalm.vocabulary.joint import load_vocabulary

BEFORE, AFTER = "text_lm", "model"
TARGET = "en"
DECODING = DecodingConfig(text_tokens=60)
MADE_BY = "stages 7 and 8 (textlm, finetune)"
SIGNATURE = "nats a token, end included"


@dataclass(frozen=True)
class Models:
    """The folders of stages 6 to 8."""

    vocabulary: Path
    text_lm: Path
    lm: Path


def forgetting_rows(models: Models, data_dir: Path, most: int, recipe: str, seed: int, code: str,
                    translations: str = "basic") -> list[ResultRow]:
    """The rows of one set, with `most` translations from each language.

    Raises AudioPaLMError for missing models, for models of another vocabulary, and for a set without texts.
    """
    for folder, stage in ((models.vocabulary, "6 (vocabulary)"), (models.text_lm, "7 (textlm)"),
                          (models.lm, "8 (finetune)")):
        if not folder.exists():
            raise AudioPaLMError(f"--forgetting reads {folder}, which does not exist; run stage {stage} first")
    vocabulary, tokenizer = load_vocabulary(models.vocabulary)
    builder, examples = SequenceBuilder(vocabulary, tokenizer), ExampleSet(data_dir)
    rows = []
    for system, folder in ((BEFORE, models.text_lm), (AFTER, models.lm)):
        # The loss is of the text LM as it is. For translations it gets audio rows, which are never chosen.
        reader = load_model(folder, vocabulary, MADE_BY).eval()
        translator = joint_lm(folder, vocabulary, 0.0, "zero").make().eval()
        named = describe(folder, vocabulary, MADE_BY)["model_sha256"]
        made = {"recipe": recipe, "set": data_dir.name, "part": None, "system": system, "seed": seed, "judge": None,
                "tag": "", "model": str(named)[:MODEL_DIGITS], "vocabulary": vocabulary.layout_hash[:MODEL_DIGITS],
                "decode": None, "code": code}
        for language in examples.languages:
            rows += [ResultRow(**made | measured) for measured in (
                *_losses(reader, builder, examples, language),
                *_translations(translator, builder, examples, language, most, translations))]
        logging.info("%s: texts and %d translations a language by %s", data_dir.name, most, folder)
    return rows


def _losses(model: Decoder, builder: SequenceBuilder, examples: ExampleSet, language: str) -> Iterator[dict[str, Any]]:
    """The values of the row of text_loss in a language; none if the set has no text in it."""
    task, names = get_task("lm"), examples.utterances({TRANSCRIPT}, language, None)
    if names:
        losses = np.array([_loss(model, builder, task, examples, name) for name in names])
        low, high = bootstrap(losses, lambda total: float(total[0] / total[1]))
        yield {"task": task.name, "source": language, "target": None, "metric": "text_loss",
               "value": round(float(losses[:, 0].sum() / losses[:, 1].sum()), 5), "low": round(low, 5),
               "high": round(high, 5), "n": len(names), "signature": SIGNATURE, "normaliser": None, "decoding": None,
               "ids": _hash(names)}


@inference_mode
def _loss(model: Decoder, builder: SequenceBuilder, task: Task, examples: ExampleSet, name: str) -> tuple[float, int]:
    """The summed loss of a text and its tokens."""
    sequence = builder.sequence(task, examples.example(name, {TRANSCRIPT}, None))
    batch = collate([[sequence]], len(sequence.ids))
    loss, count = model(batch.ids, batch.segments, batch.positions, batch.targets,
                        count_sizes(batch.segments, batch.targets))
    return float(loss), int(count)


def _translations(model: Decoder, builder: SequenceBuilder, examples: ExampleSet, language: str, most: int,
                  translations: str) -> Iterator[dict[str, Any]]:
    """The values of the row of mt_bleu from a language; none into the same language and without translations."""
    task = get_task("mt")
    known = [] if language == TARGET else examples.utterances({TRANSCRIPT, TRANSLATION}, language, TARGET)
    names = spread(known, most) if known else []
    if names:
        chosen = [examples.example(name, {TRANSCRIPT, TRANSLATION}, TARGET) for name in names]
        normalise = get_normaliser(translations, TARGET)
        answers = decode_batch(model, builder, task, chosen, DECODING)
        texts = [normalise(builder.tokenizer.decode([int(token) for token in answer.parts[0]])) for answer in answers]
        references = [normalise(str(example.fields[TRANSLATION])) for example in chosen]
        if empty := [name for name, reference in zip(names, references, strict=True) if not reference]:
            logging.warning("mt_bleu from %s: %d references are empty after normalisation and left out: %s", language,
                            len(empty), ", ".join(empty))
            kept = [index for index, reference in enumerate(references) if reference]
            names, references, texts = ([values[index] for index in kept] for values in (names, references, texts))
        if not names:
            return
        found = score("bleu", references, texts, TARGET)
        yield {"task": task.name, "source": language, "target": TARGET, "metric": "mt_bleu",
               "value": round(found.value, 5), "low": round(found.low, 5), "high": round(found.high, 5), "n": found.n,
               "signature": found.signature + ("" if translations == "basic" else f"|texts:{translations}"),
               "normaliser": None, "decoding": None, "ids": _hash(names)}


def _hash(names: list[str]) -> str:
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]

