"""The jobs of stage 10: shards of utterances to files of answers."""

import time
from pathlib import Path

from audiopalm.core.config import from_dict
from audiopalm.core.device import best_device
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import read_json, write_json
from audiopalm.data.examples import ExampleSet
from audiopalm.lm.generation.config import DecodingConfig
from audiopalm.lm.generation.rescoring import decode_n_best
from audiopalm.lm.loading import load_decoder
from audiopalm.lm.sequences import SequenceBuilder
from audiopalm.tasks import get_task
from audiopalm.vocabulary.joint import load_vocabulary


def read_shard(item: dict) -> dict | None:
    """What the file of a shard holds, unless it is not there or of other settings or utterances."""
    if not Path(item["path"]).exists():
        return None
    content = read_json(item["path"])
    return content if content["meta"] == item["meta"] and list(content["answers"]) == item["utterances"] else None


class Worker:
    def __init__(self, lm: str, vocabulary: str, sets: list[str], batch_size: int):
        table, tokenizer = load_vocabulary(vocabulary)
        self.model = load_decoder(lm, table, "stage 8 (finetune)").to(best_device())
        self.builder = SequenceBuilder(table, tokenizer)
        self.tokens = dict(zip(sets[::2], sets[1::2], strict=True))
        self.sets: dict[str, ExampleSet] = {}
        self.batch_size = batch_size

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
