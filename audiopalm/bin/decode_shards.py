"""The jobs of stage 10: shards of utterances to files of answers."""

import argparse
import time
from pathlib import Path

import torch

from audiopalm.bin.common import run
from audiopalm.bin.jobs import add_worker_options, work
from audiopalm.config import from_dict
from audiopalm.data.examples import ExampleSet
from audiopalm.data.files import read_json, write_json
from audiopalm.device import best_device
from audiopalm.errors import AudioPaLMError
from audiopalm.lm.decoding import decode_n_best
from audiopalm.lm.generation import DecodingConfig
from audiopalm.lm.loading import load_decoder
from audiopalm.lm.sequences import SequenceBuilder
from audiopalm.tasks import get_task
from audiopalm.tokenizers.vocabulary import load_vocabulary


def read_shard(item: dict) -> dict | None:
    """What the file of a shard holds, unless it is not there or of other settings or utterances."""
    if not Path(item["path"]).exists():
        return None
    content = read_json(item["path"])
    return content if content["meta"] == item["meta"] and list(content["answers"]) == item["utterances"] else None


class Worker:
    def __init__(self, arguments: argparse.Namespace):
        vocabulary, tokenizer = load_vocabulary(arguments.vocabulary)
        self.model = load_decoder(arguments.lm, vocabulary, "stage 8 (finetune)").to(best_device())
        self.builder = SequenceBuilder(vocabulary, tokenizer)
        self.tokens = dict(zip(arguments.sets[::2], arguments.sets[1::2], strict=True))
        self.sets: dict[str, ExampleSet] = {}
        self.batch_size = arguments.batch_size

    def __call__(self, item: dict) -> dict:
        """Write {meta, seconds, answers: {utterance: [{parts, truncated, score}, ...]}}, the best answer first."""
        data, meta, began = item["data_dir"], item["meta"], time.monotonic()
        if data not in self.sets:
            self.sets[data] = ExampleSet(data, self.tokens[data])
        task = get_task(meta["task"])
        settings = {key: value for key, value in meta["decoding"].items() if key != "seed"}
        examples = [self.sets[data].example(name, {task.input}, meta["target"]) for name in item["utterances"]]
        # Prompts of like length look at like numbers of keys.
        examples.sort(key=lambda example: (len(self.builder.prompt(task, example)), example.utterance))
        try:
            found = decode_n_best(self.model, self.builder, task, examples, from_dict(DecodingConfig, settings, data),
                                  meta["decoding"]["seed"], self.batch_size)
        except AudioPaLMError as error:
            return {"error": str(error)}
        answers = {example.utterance: [
            {"parts": [part.tolist() for part in answer.parts], "truncated": answer.truncated, "score": answer.score}
            for answer in answers] for example, answers in zip(examples, found, strict=True)}
        write_json(item["path"], {"meta": meta, "seconds": time.monotonic() - began,
                                  "answers": {name: answers[name] for name in item["utterances"]}})
        return {"error": ""}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lm", required=True, help="directory of stage 8")
    parser.add_argument("--vocabulary", required=True, help="directory of stage 6")
    parser.add_argument("--sets", nargs="+", required=True, help="data directory and tokens of one set after another")
    parser.add_argument("--batch_size", type=int, required=True)
    add_worker_options(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # a job has one core
    work(arguments.todo, arguments.done, Worker(arguments))


if __name__ == "__main__":
    run(main)
