"""Stage 10: decode every task of the configuration on each set; a folder for each task and language pair.

A folder gets the texts as Kaldi tables named by part, the units as `units.scp`, all hypotheses in ESPnet's layout
(`1best_recog/{text,token_int,score}`, `2best_recog/...`), and meta.json last. A rerun leaves folders with meta.json as
they are. In the other folders it decodes only the missing shards, so that an interrupted decode resumes.
"""

import hashlib
import logging
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from audiopalm.core.config import ranged
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
from audiopalm.stages.decode_shards import Shard, ShardAnswer
from audiopalm.stages.jobs import Launcher, LazyItems, Result, dealt, run_jobs
from audiopalm.tasks import AUDIO, Task, decode_name, get_task
from audiopalm.vocabulary.joint import Vocabulary, load_vocabulary
from audiopalm.vocabulary.text import TextTokenizer

NO_ROWS = np.zeros(0, np.int32)
SHARD_BATCHES = 4  # batches in a shard; a killed job loses at most this many
PARTS = " | "  # separates the texts of a combined answer in ESPnet's `text`


@dataclass
class DecodeEntry:
    """A task to decode, by default in all language pairs that the set allows and the model was trained on.

    `sources`, `targets` (language codes), `sets` (names) and `most` restrict it.
    """

    task: str
    sources: list[str] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)
    sets: list[str] = field(default_factory=list)
    most: int | None = ranged(None, low=1)  # maximum number of utterances per language pair, the first by id
    decoding: DecodingConfig | None = None  # settings of this task instead of the common ones
    untrained: bool = False  # whether to decode language pairs that the model was not trained on (zero-shot)


@dataclass
class DecodeConfig:
    """The configuration of stage 10: the tasks, and the settings of those that have none of their own."""

    tasks: list[DecodeEntry]
    decoding: DecodingConfig = field(default_factory=DecodingConfig)
    # Rows that are decoded at a time. Beam search has `beam` rows for each utterance.
    batch_size: int = ranged(64, low=1, high=10_000)


@dataclass(frozen=True, eq=False)
class Job:
    """A task in one language pair, and its utterances: sorted rows of the set, int32."""

    task: Task
    source: str
    target: str | None
    rows: np.ndarray
    decoding: DecodingConfig

    @property
    def name(self) -> str:
        """The name of the decode's folder."""
        return decode_name(self.task, self.source, self.target)

    @property
    def trained_task(self) -> TrainedTask:
        return TrainedTask(self.task.name, self.source, self.target)


def plan(config: DecodeConfig, examples: ExampleSet, set_name: str, trained: Collection[TrainedTask]) -> list[Job]:
    """The jobs of a set: tasks and language pairs with inputs and references that the model was trained on.

    Raises AudioPaLMError for unknown tasks and languages, for languages that an entry names and the model was not
    trained on, for two entries with the same task and languages, and if there is no job.
    """
    jobs: list[Job] = []
    skipped: list[str] = []
    for entry in config.tasks:
        if entry.sets and set_name not in entry.sets:
            continue
        task = get_task(entry.task)
        in_order({*entry.sources, *entry.targets})
        possible = []
        for source in entry.sources or examples.languages:
            targets: Sequence[str | None] = [None]
            if task.translates:
                targets = entry.targets or examples.languages
            for target in targets:
                rows = examples.rows(task.scored_fields(), source, target) if target != source else NO_ROWS
                if len(rows):
                    possible.append(Job(task, source, target, rows[:entry.most], entry.decoding or config.decoding))
        known = [job for job in possible if entry.untrained or job.trained_task in trained]
        _refuse_untrained(entry, possible, known)
        if twice := sorted({job.name for job in known} & {job.name for job in jobs}):
            raise AudioPaLMError(f"two entries of the configuration decode {', '.join(twice)} of {set_name}; give each "
                                 "its own languages or sets")
        jobs += known
        skipped += [job.name for job in possible if job not in known]
    if skipped:
        logging.info("%s: left out, because the model was not trained on them: %s", set_name,
                     ", ".join(sorted(set(skipped))))
    if not jobs:
        raise AudioPaLMError(f"nothing to decode: no utterance of {examples.data_dir} fits a task of the configuration "
                             "that the model was trained on")
    return jobs


def _refuse_untrained(entry: DecodeEntry, possible: list[Job], known: list[Job]) -> None:
    """Raise AudioPaLMError for an untrained pair whose languages are all named in the entry, and for a named language
    without any trained pair."""
    for job in possible:
        named = [language for language, names in ((job.source, entry.sources), (job.target, entry.targets)) if names]
        all_named = len(named) == (2 if job.task.translates else 1)
        same = [other for other in known if all(language in (other.source, other.target) for language in named)]
        if named and job not in known and (all_named or not same):
            raise AudioPaLMError(f"the model was not trained on {job.task.tag_text(job.source, job.target)}, which the "
                                 "configuration of stage 10 (decode) names; remove it there, or ask for it with "
                                 "`untrained: true`")


@dataclass(frozen=True)
class DecodedSet:
    """One set of stage 10: its data directory, its folder of tokens, and the folder for its decodes.

    For a set with texts only, the folder of tokens does not exist.
    """

    data_dir: Path
    tokens: Path
    output: Path


def decode_sets(sets: list[DecodedSet], lm: Path, vocabulary_dir: Path, config: DecodeConfig, seed: int,
                launcher: Launcher) -> None:
    """Decode every task of `config` on each of `sets`, by the jobs of `launcher`; finished folders stay as they are.

    lm: folder of stage 8. Raises AudioPaLMError for missing inputs, for a vocabulary that is not the model's, as `plan`
    does, and if a job fails.
    """
    vocabulary, tokenizer = load_vocabulary(vocabulary_dir)
    model = describe(lm, vocabulary, "stage 8 (finetune)")
    trained = read_trained(lm)
    folders = []
    for decoded_set in sets:
        examples = read_set(decoded_set.data_dir, decoded_set.tokens)
        planned = {}
        for job in plan(config, examples, decoded_set.data_dir.name, trained):
            meta = {"task": job.task.name, "source": job.source, "target": job.target,
                    "tag": job.task.tag_text(job.source, job.target),
                    "decoding": job.decoding.record() | {"seed": seed}, "set": decoded_set.data_dir.name, **model}
            folder = Folder(decoded_set.output / job.name, meta, job, examples, config.batch_size)
            planned[job.name] = folder.meta
            if not folder.is_finished():
                folders.append(folder)
        write_record(decoded_set.output, planned)
    paths = [str(path) for decoded_set in sets for path in (decoded_set.data_dir, decoded_set.tokens)]
    decode(folders, launcher, ["--lm", str(lm), "--vocabulary", str(vocabulary_dir), "--sets", *paths,
                               "--batch_size", str(config.batch_size)], vocabulary, tokenizer)


def input_fingerprint(job: Job, examples: ExampleSet) -> str:
    """SHA-256 of the utterance ids of a job and of the inputs that the model reads."""
    digest = hashlib.sha256()
    for row in job.rows.tolist():
        example = examples.example_at(row, {job.task.input}, job.target)
        value = example.fields.get(job.task.input, "")
        content = value.encode() if isinstance(value, str) else np.asarray(value, dtype="<i4").tobytes()
        digest.update(f"{example.utterance}\n{len(content)}\n".encode() + content)
    return digest.hexdigest()


class Folder:
    """The folder of a decode, that is, of a task in one language pair: its settings, its shards, its tables.

    The utterances of a shard follow each other. Their boundaries depend on the batch size, not on the number of jobs.
    """

    def __init__(self, path: Path, meta: dict, job: Job, examples: ExampleSet, batch_size: int) -> None:
        self.path, self.job, self.examples = path, job, examples
        self.shard_size = SHARD_BATCHES * max(batch_size // job.decoding.beam, 1)
        self.meta = meta | {"input_sha256": input_fingerprint(job, examples)}

    def is_finished(self) -> bool:
        """Whether the folder has a complete decode of the same inputs by the same model and settings."""
        if not (self.path / "meta.json").exists():
            return False
        finished = read_json(self.path / "meta.json")
        if any(finished.get(key) != value for key, value in self.meta.items()):
            return False
        logging.info("%s is finished", self.path)
        return True

    def clear(self) -> None:
        """Remove all files of an earlier decode and its speech, except the shards, which state their own settings."""
        (self.path / "meta.json").unlink(missing_ok=True)  # removed first: without it the folder is not finished
        for path in self.path.iterdir() if self.path.exists() else ():
            if not path.is_dir():
                path.unlink()
            elif path.name != "shards":
                shutil.rmtree(path)

    @property
    def shard_numbers(self) -> range:
        return range(-(-len(self.job.rows) // self.shard_size))

    def shard_rows(self, number: int) -> np.ndarray:
        """The rows of a shard."""
        return self.job.rows[number * self.shard_size:(number + 1) * self.shard_size]

    def shard(self, number: int) -> Shard:
        """A shard with its ids; only some of them are in memory at a time."""
        return Shard(str(self.path / "shards" / f"{number}.json"), str(self.examples.data_dir), self.meta,
                     self.examples.ids(self.shard_rows(number)))

    def finish(self, vocabulary: Vocabulary, tokenizer: TextTokenizer) -> None:
        """Write all tables from the shards, then meta.json, and remove the shards. One shard is in memory at a time."""
        task, names = self.job.task, self.examples.ids(self.job.rows)
        truncated, units_seen, seconds = 0, 0, 0.0
        with (table_writers(self.path) as write, atomic_path(self.path / "units.ark", final=False) as partial,
              GrowingArchive(partial, names) as archive):
            for number in self.shard_numbers:
                decoded = self.shard(number).read()
                seconds += decoded.seconds
                for row, (name, answers) in zip(self.shard_rows(number).tolist(), decoded.answers.items(), strict=True):
                    best = answers[0]
                    truncated += best.truncated
                    units_seen += self.examples.count_units(row) if task.input == AUDIO else 0
                    for part, output in zip(best.parts, task.outputs, strict=True):
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
        # Both the audio that is read and the audio that is written count.
        audio = units_seen / self.examples.meta["units_rate"] if units_seen else 0.0
        write_json(self.path / "meta.json", self.meta | {"count": len(names), "truncated": truncated,
                                                         "audio_seconds": round(audio, 2)})
        shutil.rmtree(self.path / "shards")
        logging.info("%s: %d utterances, %d truncated; %.0f s of audio in %.1f s of work, %.0f a second",
                     self.path, len(names), truncated, audio, seconds, audio / max(seconds, 1e-9))

    def write_answer(self, write: Callable[[str, str, str], None], rank: int, name: str, answer: ShardAnswer,
                     tokenizer: TextTokenizer, vocabulary: Vocabulary) -> None:
        """Write a hypothesis of the n best in the layout of ESPnet's inference; `rank` counts from 0.

        In `token_int`, newline tokens separate the parts of a combined answer.
        """
        folder = f"{rank + 1}best_recog"
        texts = [words(tokenizer, part) for part, output in zip(answer.parts, self.job.task.outputs, strict=True)
                 if not output.is_audio]
        if texts:
            write(f"{folder}/text", name, PARTS.join(texts))
        between = f" {vocabulary.newline} "
        write(f"{folder}/token_int", name, between.join(" ".join(map(str, part)) for part in answer.parts))
        write(f"{folder}/score", name, str(answer.score))


def words(tokenizer: TextTokenizer, ids: Iterable[int]) -> str:
    """The text of ids, with single spaces between its words."""
    return " ".join(tokenizer.decode([int(token) for token in ids]).split())


def decode(folders: list[Folder], launcher: Launcher, arguments: list[str], vocabulary: Vocabulary,
           tokenizer: TextTokenizer) -> None:
    """Decode all folders in one run of the launcher, then write the tables of each folder."""
    began = time.monotonic()
    for folder in folders:
        folder.clear()
    missing = [(folder, number) for folder in folders for number in folder.shard_numbers
               if not folder.shard(number).is_done()]
    shards = LazyItems(dealt(missing, launcher.number), lambda place: place[0].shard(place[1]))
    for _ in run_jobs(launcher, "decode_shards", arguments, shards, Result, "shards"):
        pass  # the product of a shard is the file that it writes
    for folder in folders:
        folder.finish(vocabulary, tokenizer)
    logging.info("decoded %d shards, %.0f s", len(missing), time.monotonic() - began)
