"""The jobs of stage 10: shards of utterances to files of answers."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from audiopalm.core.config import from_dict, to_dict
from audiopalm.core.device import best_device
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import read_json, write_json
from audiopalm.data.example_set import ExampleSet, read_set
from audiopalm.lm.generation.config import DecodingConfig
from audiopalm.lm.generation.rescoring import decode_n_best
from audiopalm.lm.loading import load_decoder
from audiopalm.lm.sequences import SequenceBuilder
from audiopalm.stages.jobs import Result, work
from audiopalm.tasks import get_task
from audiopalm.vocabulary.joint import load_vocabulary


@dataclass(frozen=True)
class ShardAnswer:
    """One hypothesis for an utterance: the ids of each part, whether it was cut, and its log probability."""

    parts: list[list[int]]
    truncated: bool
    score: float


@dataclass(frozen=True)
class DecodedShard:
    """The contents of a shard's file. answers: {utterance: its hypotheses, the best first}. seconds: of work."""

    meta: dict[str, Any]
    seconds: float
    answers: dict[str, list[ShardAnswer]]


@dataclass(frozen=True)
class Shard:
    """Utterances of one set to decode into the file `path`; `meta` are the settings in meta.json of the folder."""

    path: str
    data_dir: str
    meta: dict[str, Any]
    utterances: list[str]

    def is_done(self) -> bool:
        """Whether the file exists and has these settings and utterances."""
        if not Path(self.path).exists():
            return False
        content = read_json(self.path)
        return content["meta"] == self.meta and list(content["answers"]) == self.utterances

    def read(self) -> DecodedShard:
        """The contents of the file."""
        content = read_json(self.path)
        return DecodedShard(content["meta"], content["seconds"], {
            name: [ShardAnswer(**answer) for answer in answers] for name, answers in content["answers"].items()})


class ShardDecoder:
    """Decodes shards with a language model in memory. `tokens` are the sets: {data directory: folder of tokens}."""

    def __init__(self, lm: str, vocabulary: str, tokens: dict[str, str], batch_size: int) -> None:
        table, tokenizer = load_vocabulary(vocabulary)
        self.model = load_decoder(lm, table, "stage 8 (finetune)").to(best_device())
        self.builder = SequenceBuilder(table, tokenizer)
        self.tokens, self.batch_size = tokens, batch_size
        self.sets: dict[str, ExampleSet] = {}

    def __call__(self, shard: Shard) -> Result:
        """Write the DecodedShard of a shard.

        An error is returned as a result, so that the stage reports that of any job.
        """
        data, meta, began = shard.data_dir, shard.meta, time.monotonic()
        if data not in self.sets:
            self.sets[data] = read_set(data, self.tokens[data])
        task = get_task(meta["task"])
        settings = {key: value for key, value in meta["decoding"].items() if key != "seed"}
        given = task.outputs[:settings.get("true_parts", 0)]
        fields = {task.input, *(output.field for output in given)}
        examples = [self.sets[data].example(name, fields, meta["target"]) for name in shard.utterances]
        # Sorted by length, so that the prompts of a batch have similar lengths.
        examples.sort(key=lambda example: (len(self.builder.prompt(task, example)), example.utterance))
        try:
            n_best = decode_n_best(self.model, self.builder, task, examples, from_dict(DecodingConfig, settings, data),
                                   meta["decoding"]["seed"], self.batch_size)
        except AudioPaLMError as error:
            return Result(str(error))
        answers = {example.utterance: [
            ShardAnswer([part.tolist() for part in answer.parts], answer.truncated, answer.score) for answer in ranked]
            for example, ranked in zip(examples, n_best, strict=True)}
        write_json(shard.path, to_dict(DecodedShard(meta, time.monotonic() - began, {
            name: answers[name] for name in shard.utterances})))
        return Result()


def decode_shards(todo: Path, done: Path, lm: str, vocabulary: str, tokens: dict[str, str], batch_size: int) -> None:
    """Decode the shards of a job, on one core or a GPU."""
    torch.set_num_threads(1)
    work(todo, done, Shard, ShardDecoder(lm, vocabulary, tokens, batch_size))
