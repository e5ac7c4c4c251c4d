"""Attention maps of the language model for a few decodes, recomputed by the model."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from audiopalm.data.datadir import read_table
from audiopalm.data.example_set import ExampleSet
from audiopalm.lm.attention_maps import attention_maps
from audiopalm.lm.loading import describe, load_decoder
from audiopalm.lm.sequences import SequenceBuilder
from audiopalm.report.plots import heat_map
from audiopalm.scoring.decodes import Decode, TestSet
from audiopalm.tasks import TASKS
from audiopalm.vocabulary.joint import load_vocabulary

MADE_BY = "stage 8 (finetune)"


@dataclass(frozen=True)
class AttentionOptions:
    """The folders of the model that has decoded, of its vocabulary, and of the tokens (stage 5) of all sets."""

    lm: Path
    vocabulary: Path
    tokens: Path


def attention_pictures(test_set: TestSet, options: AttentionOptions) -> dict[str, str]:
    """{title: picture} for the first utterance of the first decode of each task.

    A picture shows the attention from every token of the answer to every token of the input, averaged over the heads of
    one layer. The layer is the one whose largest attention per answer token is highest on average. Tasks with several
    parts and tasks with texts only are left out. The result is empty if no decode has its tokens, or if the model in
    `options` is not the one that has decoded.
    """
    decodes: dict[str, Decode] = {}
    for decode in test_set.decodes:
        shown = decode.task.hears_or_speaks and len(decode.task.outputs) == 1
        if shown and (decode.folder / "1best_recog" / "token_int").exists():
            decodes.setdefault(decode.task.name, decode)
    if not decodes:
        return {}
    vocabulary, tokenizer = load_vocabulary(options.vocabulary)
    model_sha256 = describe(options.lm, vocabulary, MADE_BY)["model_sha256"]
    if any(decode.meta["model_sha256"] != model_sha256 for decode in decodes.values()):
        logging.warning("%s is not the model that has decoded: its attention is not drawn", options.lm)
        return {}
    model = load_decoder(options.lm, vocabulary, MADE_BY)
    builder = SequenceBuilder(vocabulary, tokenizer)
    examples = ExampleSet(test_set.data_dir, options.tokens / test_set.name)
    pictures = {}
    for task in sorted(decodes, key=list(TASKS).index):
        decode = decodes[task]
        answers = {name: [int(token) for token in ids.split()] for name, ids in
                   read_table(decode.folder / "1best_recog" / "token_int").items() if ids}
        if not answers:
            continue
        utterance = min(answers, key=str.encode)
        answer = answers[utterance]
        example = examples.example(utterance, {decode.task.input}, decode.target)
        input_ids = builder.value(decode.task.input, example)
        prompt = builder.prompt(decode.task, example)
        read = np.concatenate([prompt, answer[:-1]]).astype(np.int64)
        maps = attention_maps(model, torch.from_numpy(read))
        # The row of the previous token predicts a token. The newline after the input is not shown.
        attention = maps[:, len(prompt) - 1:, len(prompt) - 1 - len(input_ids):len(prompt) - 1]
        layer = int(attention.max(dim=2).values.mean(dim=1).argmax())
        tag = decode.task.tag_text(decode.source, decode.target)
        title = f"{tag}: attention of layer {layer + 1}\n{utterance}"
        # The axis of speech shows seconds, the axis of a text its tokens.
        across, upwards = (examples.meta["units_rate"] if ids[0] >= vocabulary.text_size else
                           [tokenizer.decode([int(token)]) for token in ids] for ids in (input_ids, answer))
        pictures[title] = heat_map(attention[layer].numpy(), title, across, upwards)
    return pictures
