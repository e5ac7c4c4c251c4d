"""Stage 10: decode every task of the configuration on one set; a folder for each task and language pair.

Finished folders are left alone, so a stopped decode goes on where it was.
"""

import argparse
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from audiopalm.bin.common import progress, run
from audiopalm.config import load_config, to_dict
from audiopalm.data.archive import write_ark
from audiopalm.data.datadir import write_table
from audiopalm.data.examples import ExampleSet
from audiopalm.data.files import read_json, sha256, write_json
from audiopalm.errors import AudioPaLMError
from audiopalm.lm.decoding import decode_batch
from audiopalm.lm.files import load_model
from audiopalm.lm.generation import DecodingConfig, Generated
from audiopalm.lm.model import Decoder
from audiopalm.lm.sequences import SequenceBuilder
from audiopalm.tasks import Task, decode_name, get_task
from audiopalm.tokenizers.vocabulary import Vocabulary, load_vocabulary


@dataclass
class DecodeEntry:
    """A task to decode: all that the set allows, unless `sources`, `targets`, `sets` or `most` say fewer."""

    task: str
    sources: list[str] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)
    sets: list[str] = field(default_factory=list)
    most: int | None = None  # utterances of a language pair, the first by id
    decoding: DecodingConfig | None = None  # its own settings instead of the common ones


@dataclass
class DecodeConfig:
    tasks: list[DecodeEntry]
    decoding: DecodingConfig = field(default_factory=DecodingConfig)
    batch_size: int = 64


@dataclass(frozen=True)
class Job:
    task: Task
    source: str
    target: str | None
    utterances: list[str]
    decoding: DecodingConfig


def plan(config: DecodeConfig, examples: ExampleSet, set_name: str) -> list[Job]:
    """The task and language pairs for which the set has the input and a reference."""
    jobs = []
    for entry in config.tasks:
        if entry.sets and set_name not in entry.sets:
            continue
        task = get_task(entry.task)
        needed = {task.input} | ({"translation"} if task.translates else set())
        for source in entry.sources or examples.languages:
            for target in (entry.targets or examples.languages) if task.translates else [None]:
                utterances = examples.utterances(needed, source, target) if target != source else []
                if utterances:
                    jobs.append(Job(task, source, target, utterances[:entry.most], entry.decoding or config.decoding))
    if not jobs:
        raise AudioPaLMError(f"nothing to decode: no utterance of {examples.data_dir} fits a task of the configuration")
    return jobs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lm", required=True, help="directory of stage 8")
    parser.add_argument("--vocabulary", required=True, help="directory of stage 6")
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--tokens", required=True, help="tokens of --data_dir (stage 5)")
    parser.add_argument("--config", required=True, help="YAML of DecodeConfig: tasks, decoding, batch_size")
    parser.add_argument("--output", required=True, help="directory of the set, for example exp/decode/test")
    parser.add_argument("--seed", type=int, default=0, help="of sampling; greedy decoding does not use it")
    parser.add_argument("overrides", nargs="*", help="key=value, for example batch_size=16")
    args = parser.parse_args()
    config = load_config(DecodeConfig, args.config, args.overrides)
    vocabulary, tokenizer = load_vocabulary(args.vocabulary)
    model = load_model(args.lm, vocabulary, "stage 8 (finetune)")
    examples = ExampleSet(args.data_dir, args.tokens)
    builder = SequenceBuilder(vocabulary, tokenizer)
    settings = {"set": Path(args.data_dir).name, "model_sha256": sha256(Path(args.lm) / "model.safetensors"),
                "model_seed": read_json(Path(args.lm) / "config.json")["seed"],
                "vocabulary_hash": vocabulary.layout_hash}
    jobs = plan(config, examples, settings["set"])
    for job in progress(jobs, len(jobs), f"decoding {args.output}"):
        decode(job, Path(args.output), settings, model, vocabulary, builder, examples, config, args.seed)


def decode(job: Job, output: Path, settings: dict, model: Decoder, vocabulary: Vocabulary, builder: SequenceBuilder,
           examples: ExampleSet, config: DecodeConfig, seed: int) -> None:
    """One task in one language pair: text parts as Kaldi tables named by part, units as ark/scp, meta.json last."""
    folder = output / decode_name(job.task, job.source, job.target)
    meta = {"task": job.task.name, "source": job.source, "target": job.target,
            "tag": job.task.tag_text(job.source, job.target),
            "decoding": to_dict(job.decoding) | {"seed": seed}, **settings}
    if (folder / "meta.json").exists():
        found = read_json(folder / "meta.json")
        if all(found.get(key) == value for key, value in meta.items()):
            logging.info("%s is finished", folder)
            return
        (folder / "meta.json").unlink()
    start = time.monotonic()
    answers = dict(_answers(job, model, vocabulary, builder, examples, config, seed))
    for part, row in enumerate(job.task.outputs):
        if row.is_audio:
            units = {name: answer.parts[part] - vocabulary.text_size for name, answer in answers.items()}
            write_table(folder / "units.scp", write_ark(folder / "units.ark", units))
        else:
            write_table(folder / row.part, {name: " ".join(builder.tokenizer.decode(list(answer.parts[part])).split())
                                            for name, answer in answers.items()})
    meta |= {"count": len(answers), "truncated": sum(answer.truncated for answer in answers.values()),
             "seconds": round(time.monotonic() - start, 2)}
    write_json(folder / "meta.json", meta)
    logging.info("%s: %d utterances, %d cut at the limit, %.1f s", folder, meta["count"], meta["truncated"],
                 meta["seconds"])


def _answers(job: Job, model: Decoder, vocabulary: Vocabulary, builder: SequenceBuilder, examples: ExampleSet,
             config: DecodeConfig, seed: int) -> Iterator[tuple[str, Generated]]:
    """(utterance, answer); prompts of like length share a batch."""
    chosen = {name: examples.example(name, {job.task.input}, job.target) for name in job.utterances}
    names = sorted(chosen, key=lambda name: (len(builder.prompt(job.task, chosen[name])), name))
    size = max(config.batch_size // job.decoding.beam, 1)
    for start in range(0, len(names), size):
        batch = names[start:start + size]
        yield from zip(batch, decode_batch(model, builder, job.task, [chosen[name] for name in batch], job.decoding,
                                           seed), strict=True)


if __name__ == "__main__":
    run(main)
