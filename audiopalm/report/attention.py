"""Where the language model looked while it answered: pictures of a few decodes, computed again by the model itself."""

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
from audiopalm.scoring.decodes import TestSet
from audiopalm.tasks import TASKS
from audiopalm.vocabulary.joint import load_vocabulary

MADE_BY = "stage 8 (finetune)"


@dataclass(frozen=True)
class AttentionOptions:
    """The model that has decoded, its vocabulary, and the tokens (stage 5) of all sets."""

    lm: Path
    vocabulary: Path
    tokens: Path


def attention_pictures(test_set: TestSet, options: AttentionOptions) -> dict[str, str]:
    """{title: picture}: of the first utterance of the first decode of each task, how much every token of the answer
    looked at every token of the input when it was written. Of the layers the one that looks most at single tokens,
    its heads averaged. Tasks of several parts and of texts alone are left out. Empty where no decode has kept its
    tokens."""
    decodes = {}
    for decode in test_set.decodes:
        shown = decode.task.hears_or_speaks and len(decode.task.outputs) == 1
        if shown and (decode.folder / "1best_recog" / "token_int").exists():
            decodes.setdefault(decode.task.name, decode)
    if not decodes:
        return {}
    vocabulary, tokenizer = load_vocabulary(options.vocabulary)
    found = describe(options.lm, vocabulary, MADE_BY)["model_sha256"]
    if any(decode.meta["model_sha256"] != found for decode in decodes.values()):
        logging.warning("%s is not the model that has decoded: its attention is not drawn", options.lm)
        return {}
    model = load_decoder(options.lm, vocabulary, MADE_BY)
    builder = SequenceBuilder(vocabulary, tokenizer)
    examples = ExampleSet(test_set.data_dir, options.tokens / test_set.name)
    pictures = {}
    for name in sorted(decodes, key=list(TASKS).index):
        decode = decodes[name]
        answers = {name: [int(token) for token in ids.split()] for name, ids in
                   read_table(decode.folder / "1best_recog" / "token_int").items() if ids}
        if not answers:
            continue
        utterance = min(answers, key=str.encode)
        answer = answers[utterance]
        example = examples.example(utterance, {decode.task.input}, decode.target)
        heard = builder.value(decode.task.input, example)
        prompt = builder.prompt(decode.task, example)
        read = np.concatenate([prompt, answer[:-1]]).astype(np.int64)
        maps = attention_maps(model, torch.from_numpy(read))
        # A token was written by what stood before it; the newline behind the input is not shown.
        looked = maps[:, len(prompt) - 1:, len(prompt) - 1 - len(heard):len(prompt) - 1]
        layer = int(looked.max(dim=2).values.mean(dim=1).argmax())
        tag = decode.task.tag_text(decode.source, decode.target)
        title = f"{tag}: attention of layer {layer + 1}\n{utterance}"
        # Speech has an axis of seconds, text one of its pieces.
        across, upwards = (examples.meta["units_rate"] if ids[0] >= vocabulary.text_size else
                           [tokenizer.decode([int(token)]) for token in ids] for ids in (heard, answer))
        pictures[title] = heat_map(looked[layer].numpy(), title, across, upwards)
    return pictures
