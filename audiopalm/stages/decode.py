"""Stage 10: decode every task of the configuration on each set; a folder for each task and language pair.

A folder gets the texts as Kaldi tables named by part, the units as `units.scp`, all answers in ESPnet's layout
(`1best_recog/{text,token_int,score}` and so on), and meta.json last. Folders with meta.json are left alone, and of the
others the shards that are whole, so a stopped decode goes on where it was.
"""

import hashlib
import logging
import shutil
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from audiopalm.core.config import ranged, to_dict
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import atomic_path, read_json, write_json
from audiopalm.data.datadir import table_writers
from audiopalm.data.example_set import ExampleSet, read_set
from audiopalm.data.growing_archive import GrowingArchive
from audiopalm.languages import in_order
from audiopalm.lm.generation.config import DecodingConfig
from audiopalm.lm.loading import describe
from audiopalm.lm.trained import TrainedTask, read_trained
from audiopalm.stages.decode_record import write_record
from audiopalm.stages.decode_shards import Shard
from audiopalm.stages.jobs import Launcher, Result, dealt, run_jobs
from audiopalm.tasks import AUDIO, Task, decode_name, get_task
from audiopalm.vocabulary.joint import Vocabulary, load_vocabulary
from audiopalm.vocabulary.text import TextTokenizer

SHARD_BATCHES = 4  # batches in a shard: what a kill loses at most, per job
PARTS = " | "  # between the texts of a combined answer, in ESPnet's `text`


@dataclass
class DecodeEntry:
    """A task to decode: all that the set allows and the model was trained on, unless `sources`, `targets`, `sets` or
    `most` say fewer.
    """

    task: str
    sources: list[str] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)
    sets: list[str] = field(default_factory=list)
    most: int | None = ranged(None, low=1)  # utterances of a language pair, the first by id
    decoding: DecodingConfig | None = None  # its own settings instead of the common ones
    untrained: bool = False  # also what the model was never trained on: zero-shot


@dataclass
class DecodeConfig:
    tasks: list[DecodeEntry]
    decoding: DecodingConfig = field(default_factory=DecodingConfig)
    # rows that are decoded at a time; a search has `beam` of them for each utterance
    batch_size: int = ranged(64, low=1, high=10_000)


@dataclass(frozen=True)
class Job:
    task: Task
    source: str
    target: str | None
    utterances: list[str]
    decoding: DecodingConfig

    @property
    def name(self) -> str:
        """The folder of the decode."""
        return decode_name(self.task, self.source, self.target)

    @property
    def trained_task(self) -> TrainedTask:
        return TrainedTask(self.task.name, self.source, self.target)


def plan(config: DecodeConfig, examples: ExampleSet, set_name: str, trained: Collection[TrainedTask]) -> list[Job]:
    """The tasks and languages for which the set has the input and a reference, and which the model was trained on.

    Raises AudioPaLMError for unknown tasks and languages, for languages that an entry names and the model was not
    trained on, and where nothing is to be decoded.
    """
    jobs, skipped = [], []
    for entry in config.tasks:
        if entry.sets and set_name not in entry.sets:
            continue
        task = get_task(entry.task)
        in_order({*entry.sources, *entry.targets})
        possible = []
        for source in entry.sources or examples.languages:
            for target in (entry.targets or examples.languages) if task.translates else [None]:
                utterances = examples.utterances(task.scored_fields(), source, target) if target != source else []
                if utterances:
                    possible.append(Job(task, source, target, utterances[:entry.most],
                                        entry.decoding or config.decoding))
        known = [job for job in possible if entry.untrained or job.trained_task in trained]
        _refuse_untrained(entry, possible, known)
        jobs += known
        skipped += [job.name for job in possible if job not in known]
    if skipped:
        logging.info("%s: left out, for the model was not trained on them: %s", set_name,
                     ", ".join(sorted(set(skipped))))
    if not jobs:
        raise AudioPaLMError(f"nothing to decode: no utterance of {examples.data_dir} fits a task of the configuration "
                             "that the model was trained on")
    return jobs


def _refuse_untrained(entry: DecodeEntry, possible: list[Job], known: list[Job]) -> None:
    """Raise AudioPaLMError for an untrained pair whose languages are all named, and for a named language of which
    nothing was trained."""
    for job in possible:
        named = [language for language, names in ((job.source, entry.sources), (job.target, entry.targets)) if names]
        whole = len(named) == (2 if job.task.translates else 1)
        same = [one for one in known if all(language in (one.source, one.target) for language in named)]
        if named and job not in known and (whole or not same):
            raise AudioPaLMError(f"the model was not trained on {job.task.tag_text(job.source, job.target)}, which the "
                                 "configuration of stage 10 (decode) names; remove it there, or ask for it with "
                                 "`untrained: true`")


@dataclass(frozen=True)
class DecodedSet:
    """One set of stage 10: its data directory, its tokens, and the folder that gets its decodes.

    A set of texts alone has no tokens.
    """

    data_dir: Path
    tokens: Path
    output: Path


def decode_sets(sets: list[DecodedSet], lm: Path, vocabulary_dir: Path, config: DecodeConfig, seed: int,
                launcher: Launcher) -> None:
    """Decode every task of `config` on each of `sets`, by the jobs of `launcher`; finished folders are left alone.

    Raises AudioPaLMError for missing inputs, for a vocabulary that is not the model's, and where a job fails.
    """
    vocabulary, tokenizer = load_vocabulary(vocabulary_dir)
    model = describe(lm, vocabulary, "stage 8 (finetune)")
    trained = read_trained(lm)
    folders = []
    for one in sets:
        examples = read_set(one.data_dir, one.tokens)
        planned = {}
        for job in plan(config, examples, one.data_dir.name, trained):
            meta = {"task": job.task.name, "source": job.source, "target": job.target,
                    "tag": job.task.tag_text(job.source, job.target),
                    "decoding": to_dict(job.decoding) | {"seed": seed}, "set": one.data_dir.name, **model}
            folder = Folder(one.output / job.name, meta, job, examples)
            planned[job.name] = folder.meta
            if not folder.is_finished():
                folders.append(folder)
        write_record(one.output, planned)
    paths = [str(path) for one in sets for path in (one.data_dir, one.tokens)]
    decode(folders, launcher, ["--lm", str(lm), "--vocabulary", str(vocabulary_dir), "--sets", *paths,
                               "--batch_size", str(config.batch_size)], config.batch_size, vocabulary, tokenizer)


def input_fingerprint(job: Job, examples: ExampleSet) -> str:
    """SHA-256 of the utterances of a job and of what the model reads of each."""
    digest = hashlib.sha256()
    for utterance in job.utterances:
        value = examples.example(utterance, {job.task.input}, job.target).fields.get(job.task.input, "")
        content = value.encode() if isinstance(value, str) else np.asarray(value, dtype="<i4").tobytes()
        digest.update(f"{utterance}\n{len(content)}\n".encode() + content)
    return digest.hexdigest()


class Folder:
    """The decode of a task in one language pair: its settings, its shards, its tables."""

    def __init__(self, path: Path, meta: dict, job: Job, examples: ExampleSet):
        self.path, self.job, self.examples = path, job, examples
        self.meta = meta | {"input_sha256": input_fingerprint(job, examples)}

    def is_finished(self) -> bool:
        """Whether the folder holds a whole decode of the same inputs by the same model and settings."""
        if not (self.path / "meta.json").exists():
            return False
        found = read_json(self.path / "meta.json")
        if any(found.get(key) != value for key, value in self.meta.items()):
            return False
        logging.info("%s is finished", self.path)
        return True

    def clear(self) -> None:
        """Remove all that an earlier decode, its speech included, has left; shards stay, and say what they are of."""
        (self.path / "meta.json").unlink(missing_ok=True)  # first: without it the folder counts as not finished
        for path in self.path.iterdir() if self.path.exists() else ():
            if not path.is_dir():
                path.unlink()
            elif path.name != "shards":
                shutil.rmtree(path)

    def shards(self, batch_size: int) -> list[Shard]:
        """The utterances in shards, whose boundaries do not depend on the number of jobs."""
        size = SHARD_BATCHES * max(batch_size // self.job.decoding.beam, 1)
        names = self.job.utterances
        return [Shard(str(self.path / "shards" / f"{number}.json"), str(self.examples.data_dir), self.meta,
                      names[start:start + size])
                for number, start in enumerate(range(0, len(names), size))]

    def finish(self, shards: list[Shard], vocabulary: Vocabulary, tokenizer: TextTokenizer) -> None:
        """Write all tables from the shards, of which one is in memory at a time, then meta.json; remove the shards."""
        task, names = self.job.task, self.job.utterances
        truncated, units_seen, seconds = 0, 0, 0.0
        with (table_writers(self.path) as write, atomic_path(self.path / "units.ark", final=False) as partial,
              GrowingArchive(partial, names) as archive):
            for shard in shards:
                content = read_json(shard.path)
                seconds += content["seconds"]
                for name, answers in content["answers"].items():
                    best = answers[0]
                    truncated += best["truncated"]
                    units_seen += self.examples.count_units(name) if task.input == AUDIO else 0
                    for part, output in zip(best["parts"], task.outputs, strict=True):
                        ids = np.array(part, dtype=np.int32)
                        if output.is_audio:
                            archive.append(ids - vocabulary.text_size)
                            units_seen += len(ids)
                        else:
                            write(output.part, name, words(tokenizer, ids))
                    for rank, answer in enumerate(answers):
                        self.write_answer(write, rank, name, answer, tokenizer, vocabulary)
            if any(output.is_audio for output in task.outputs):
                for name, entry in zip(names, archive.finish(self.path / "units.ark"), strict=True):
                    write("units.scp", name, entry)
        # Audio counts where it is read and where it is written.
        audio = units_seen / self.examples.meta["units_rate"] if units_seen else 0.0
        write_json(self.path / "meta.json", self.meta | {"count": len(names), "truncated": truncated,
                                                         "audio_seconds": round(audio, 2)})
        shutil.rmtree(self.path / "shards")
        logging.info("%s: %d utterances, %d truncated; %.0f s of audio in %.1f s of work, %.0f a second",
                     self.path, len(names), truncated, audio, seconds, audio / max(seconds, 1e-9))

    def write_answer(self, write: Callable[[str, str, str], None], rank: int, name: str, answer: dict[str, Any],
                     tokenizer: TextTokenizer, vocabulary: Vocabulary) -> None:
        """Write a hypothesis of the n best in the layout of ESPnet's inference. `token_int` has the newlines between
        the parts of a combined answer."""
        folder = f"{rank + 1}best_recog"
        texts = [words(tokenizer, part) for part, output in zip(answer["parts"], self.job.task.outputs, strict=True)
                 if not output.is_audio]
        if texts:
            write(f"{folder}/text", name, PARTS.join(texts))
        between = f" {vocabulary.newline} "
        write(f"{folder}/token_int", name, between.join(" ".join(map(str, part)) for part in answer["parts"]))
        write(f"{folder}/score", name, str(answer["score"]))


def words(tokenizer: TextTokenizer, ids: Iterable[int]) -> str:
    return " ".join(tokenizer.decode([int(one) for one in ids]).split())


def decode(folders: list[Folder], launcher: Launcher, arguments: list[str], batch_size: int, vocabulary: Vocabulary,
           tokenizer: TextTokenizer) -> None:
    """Decode all folders by the same jobs, then write the tables of each."""
    began = time.monotonic()
    planned = []
    for folder in folders:
        folder.clear()
        planned.append((folder, folder.shards(batch_size)))
    missing = [shard for _, shards in planned for shard in shards if shard.read() is None]
    for _ in run_jobs(launcher, "decode_shards", arguments, dealt(missing, launcher.number), Result, "shards"):
        pass  # the work of a shard is the file that it leaves
    for folder, shards in planned:
        folder.finish(shards, vocabulary, tokenizer)
    logging.info("decoded %d shards, %.0f s", len(missing), time.monotonic() - began)
