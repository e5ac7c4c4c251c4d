"""The task mixture: which (task, language pair, utterance) comes next, reproducibly from the seed alone.

The stream is made of chunks. Chunk c draws its examples with the generator seeded by (seed, c), packs them into rows
and shuffles the rows, so a resumed run needs to know only how many batches it has used.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from torch.utils.data import IterableDataset, get_worker_info

from audiopalm.core.config import ranged
from audiopalm.core.errors import AudioPaLMError
from audiopalm.data.examples import ExampleSet
from audiopalm.languages import language_name
from audiopalm.lm.packing import PackedBatch, collate, pack_rows
from audiopalm.lm.sequences import Sequence, SequenceBuilder
from audiopalm.lm.trained import TrainedTask
from audiopalm.tasks import AUDIO, Task, get_task

CHUNK = 2048  # examples drawn, packed and shuffled together


@dataclass
class MixtureEntry:
    """A task with its share of the examples.

    `sources` and `targets` are language codes, `speakers` who speaks the source, `corpora` of those that egs/joint puts
    together, whose utterances are named `<corpus>-...`; empty for all there are. Its language pairs share the weight
    evenly, or with a `temperature` T in proportion to n^(1/T) for pairs of n utterances (1: by size; the larger T, the
    more even).
    """

    task: str
    weight: float = ranged(1.0, above=0)
    sources: list[str] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)
    speakers: list[str] = field(default_factory=list)
    corpora: list[str] = field(default_factory=list)
    temperature: float | None = ranged(None, above=0)


@dataclass(frozen=True)
class Cell:
    """One task in one language pair and the utterances that can serve it."""

    task: Task
    source: str
    target: str | None
    utterances: list[str]
    weight: float


def expand(entries: list[MixtureEntry], examples: ExampleSet) -> list[Cell]:
    """Entries -> cells: an entry's weight is shared by its language pairs. Raises when nothing can serve it."""
    cells: list[Cell] = []
    for entry in entries:
        task = get_task(entry.task)
        for code in [*entry.sources, *entry.targets]:
            language_name(code)
        speaks = task.spoken is not None and task.spoken.field == AUDIO
        found = []
        for source in entry.sources or examples.languages:
            for target in (entry.targets or examples.languages) if task.translates else [None]:
                if target != source:
                    utterances = [utterance for utterance in examples.utterances(task.fields(), source, target, speaks)
                                  if (not entry.speakers or examples.speaker[utterance] in entry.speakers)
                                  and (not entry.corpora or utterance.partition("-")[0] in entry.corpora)]
                    found += [(source, target, utterances)] if utterances else []
        if not found:
            raise AudioPaLMError(f"mixture: no utterance of {examples.data_dir} has {sorted(task.fields())} for task "
                                 f"{entry.task!r}, sources {entry.sources or 'all'}, targets {entry.targets or 'all'}, "
                                 f"speakers {entry.speakers or 'all'}, corpora {entry.corpora or 'all'}")
        power = 1 / entry.temperature if entry.temperature else 0.0
        sizes = [len(utterances) ** power for _, _, utterances in found]
        cells += [Cell(task, source, target, utterances, entry.weight * size / sum(sizes))
                  for (source, target, utterances), size in zip(found, sizes, strict=True)]
    if not cells:
        raise AudioPaLMError("mixture: it is empty; name at least one task")
    return cells


def trained_tasks(cells: list[Cell]) -> list[TrainedTask]:
    """The tasks and languages of the cells, for config.json of the model that is trained on them."""
    return [TrainedTask(cell.task.name, cell.source, cell.target) for cell in cells]


class Mixture:
    """An endless stream of packed batches. Sequences longer than a row are left out, counted and named."""

    def __init__(self, entries: list[MixtureEntry], examples: ExampleSet, builder: SequenceBuilder, row_length: int,
                 rows: int, seed: int):
        self.cells, self.examples, self.builder = expand(entries, examples), examples, builder
        self.row_length, self.rows, self.seed = row_length, rows, seed
        self.too_long: set[str] = set()
        weights = np.array([cell.weight for cell in self.cells])
        self.shares = weights / weights.sum()

    def batches(self, skip: int = 0, chunk: tuple[int, int] = (0, 0)) -> Iterator[PackedBatch]:
        """Batches from the `skip`-th on.

        `chunk` of any batch before that one (`PackedBatch.chunk`) saves drawing what comes before it once more.
        """
        number, seen = chunk
        while True:
            rows = self._rows(number)
            groups = [rows[start:start + self.rows] for start in range(0, len(rows), self.rows)]
            for group in groups[max(skip - seen, 0):]:
                yield collate(group, self.row_length, (number, seen))
            seen += len(groups)
            number += 1

    def _rows(self, chunk: int) -> list[list[Sequence]]:
        random = np.random.default_rng([self.seed, chunk])
        sequences = []
        for number in random.choice(len(self.cells), size=CHUNK, p=self.shares):
            cell = self.cells[number]
            utterance = cell.utterances[random.integers(len(cell.utterances))]
            sequence = self.sequence(cell, utterance)
            if len(sequence.ids) <= self.row_length:
                sequences.append(sequence)
            elif utterance not in self.too_long:
                self.too_long.add(utterance)
                logging.warning("left out %s (%s): %d tokens are more than a row of %d; %d utterances so far",
                                utterance, cell.task.name, len(sequence.ids), self.row_length, len(self.too_long))
        if not sequences:
            raise AudioPaLMError(f"mixture: no sequence fits into rows of {self.row_length} tokens; raise row_length")
        rows = pack_rows([len(sequence.ids) for sequence in sequences], self.row_length)
        random.shuffle(rows)
        return [[sequences[index] for index in row] for row in rows]

    def sequence(self, cell: Cell, utterance: str) -> Sequence:
        return self.builder.sequence(cell.task, self.examples.example(utterance, cell.task.fields(), cell.target))

    def validation(self, per_task: int) -> dict[str, list[PackedBatch]]:
        """{task name: batches of at most `per_task` sequences}, evenly from its language pairs, always the same.

        A task whose sequences are all longer than a row is left out, with a warning.
        """
        grouped: dict[str, list[Sequence]] = {}
        for name in dict.fromkeys(cell.task.name for cell in self.cells):
            cells = [cell for cell in self.cells if cell.task.name == name]
            share = max(per_task // len(cells), 1)
            grouped[name] = [self.sequence(cell, cell.utterances[index]) for cell in cells
                             for index in np.linspace(0, len(cell.utterances) - 1, share).astype(int)][:per_task]
        batches = {}
        for name, sequences in grouped.items():
            sequences = [sequence for sequence in sequences if len(sequence.ids) <= self.row_length]
            if not sequences:
                logging.warning("the task %s has no dev loss: all its dev sequences are longer than a row of %d tokens",
                                name, self.row_length)
                continue
            rows = pack_rows([len(sequence.ids) for sequence in sequences], self.row_length)
            packed = [[sequences[index] for index in row] for row in rows]
            batches[name] = [collate(packed[start:start + self.rows], self.row_length)
                             for start in range(0, len(packed), self.rows)]
        return batches


class Share(IterableDataset):
    """The batches of one of `world_size` processes that take turns with those of a mixture, from the `skip`-th on.

    In a DataLoader its workers take turns once more: in which order batches come does not depend on how many there are.
    """

    def __init__(self, mixture: Mixture, skip: int, chunk: tuple[int, int], rank: int, world_size: int):
        self.mixture, self.skip, self.chunk, self.rank, self.world_size = mixture, skip, chunk, rank, world_size

    def __iter__(self) -> Iterator[PackedBatch]:
        worker = get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        if number > 0:  # all of them see the same sequences: one is enough to name those that are too long
            logging.disable(logging.WARNING)
        return islice(self.mixture.batches(self.skip, self.chunk), self.rank + self.world_size * number, None,
                      self.world_size * workers)
