"""The task mixture: the order of (task, language pair, utterance), reproducible from the seed alone.

Batches are planned from lengths and then read. A chunk is CHUNK_BATCHES batches: chunk c draws its examples with the
generator seeded by (seed, c) and packs them by their lengths, without reading any. Batch n therefore depends on the
seed, n and the data alone, and a process that needs it reads only its examples. docs/data.md lists the settings that
change the order.
"""

import itertools
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from audiopalm.core.config import ranged
from audiopalm.core.errors import AudioPaLMError
from audiopalm.data.example_set import ExampleSet
from audiopalm.languages import language_name
from audiopalm.lm.lengths import FieldLengths
from audiopalm.lm.packing import PackedBatch, collate, pack_rows
from audiopalm.lm.sequences import Sequence, SequenceBuilder
from audiopalm.lm.trained import TrainedTask
from audiopalm.tasks import AUDIO, Task, decode_name, get_task

CHUNK_BATCHES = 64  # batches whose examples are drawn and packed together
SPEECH_HOURS = 2 ** 32  # beside the seed for the draw of recordings; no chunk has this number
DRAW = 256  # at least this many examples are drawn at a time


@dataclass
class MixtureEntry:
    """A task with its share of the examples.

    sources, targets: language codes. speakers: the speakers of the source. corpora: the corpora that egs/joint
    combines; their utterances are named `<corpus>-...`. An empty list stands for all. The language pairs share the
    weight evenly, or with a `temperature` T in proportion to n^(1/T) for pairs of n utterances: T = 1 is by size, and
    a larger T is more even.
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
    """One task in one language pair. rows: int32 `[N]`, the rows of the example set that have all its fields."""

    task: Task
    source: str
    target: str | None
    rows: np.ndarray
    weight: float


def expand(entries: list[MixtureEntry], examples: ExampleSet) -> list[Cell]:
    """Entries -> cells. The language pairs of an entry share its weight.

    Raises AudioPaLMError for an entry without utterances and for an empty mixture.
    """
    cells: list[Cell] = []
    for entry in entries:
        task = get_task(entry.task)
        for code in [*entry.sources, *entry.targets]:
            language_name(code)
        speaks = task.spoken is not None and task.spoken.field == AUDIO
        pairs: list[tuple[str, str | None, np.ndarray]] = []
        targets: list[str | None] = [*(entry.targets or examples.languages)] if task.translates else [None]
        for source in entry.sources or examples.languages:
            for target in targets:
                if target != source:
                    rows = examples.select(examples.rows(task.fields(), source, target, speaks), entry.speakers,
                                           entry.corpora)
                    pairs += [(source, target, rows)] if len(rows) else []
        if not pairs:
            raise AudioPaLMError(f"mixture: no utterance of {examples.data_dir} has {sorted(task.fields())} for task "
                                 f"{entry.task!r}, sources {entry.sources or 'all'}, targets {entry.targets or 'all'}, "
                                 f"speakers {entry.speakers or 'all'}, corpora {entry.corpora or 'all'}")
        power = 1 / entry.temperature if entry.temperature else 0.0
        sizes = [len(rows) ** power for _, _, rows in pairs]
        cells += [Cell(task, source, target, rows, entry.weight * size / sum(sizes))
                  for (source, target, rows), size in zip(pairs, sizes, strict=True)]
    if not cells:
        raise AudioPaLMError("mixture: it is empty; name at least one task")
    return cells


def limit_speech(cells: list[Cell], examples: ExampleSet, hours: float, seed: int) -> list[Cell]:
    """The cells, limited to `hours` hours of the recordings that they read or speak. Other cells stay unchanged.

    The seed orders the recordings, and the first ones are taken. So a smaller number of hours is a part of a larger
    number with the same seed. Raises AudioPaLMError for more hours than there are, and where a cell would have no
    utterance left.
    """
    spoken = [cell for cell in cells if cell.task.hears_or_speaks]
    if not spoken:
        raise AudioPaLMError("speech_hours limits recordings, but no task of the mixture reads or speaks any")
    known = np.unique(np.concatenate([cell.rows for cell in spoken]))
    rows = np.random.default_rng([seed, SPEECH_HOURS]).permutation(known)
    ordered = np.argsort(rows)
    units = np.empty(len(rows), np.int64)
    units[ordered] = np.concatenate([part.counts("units", local)
                                     for _, part, local in examples.split(rows[ordered])])
    total = np.cumsum(units) / examples.meta["units_rate"] / 3600
    if total[-1] < hours:
        raise AudioPaLMError(f"speech_hours asks for {hours} hours, the tasks of the mixture have {total[-1]:.2f}")
    taken = rows[:np.searchsorted(total, hours) + 1]
    limited = [replace(cell, rows=cell.rows[np.isin(cell.rows, taken)]) if cell.task.hears_or_speaks else cell
               for cell in cells]
    for cell in limited:
        if not len(cell.rows):
            raise AudioPaLMError(f"speech_hours: {hours} hours hold no utterance of "
                                 f"{decode_name(cell.task, cell.source, cell.target)}")
    return limited


def trained_tasks(cells: list[Cell]) -> list[TrainedTask]:
    """The tasks and languages of the cells, for config.json of the model that is trained on them."""
    return [TrainedTask(cell.task.name, cell.source, cell.target) for cell in cells]


@dataclass(frozen=True)
class Drawable:
    """The rows of the example set that fit into a packed row, cell after cell.

    rows, lengths: `[N]`, the rows and their tokens. sizes, begins, shares: `[cells]`, the number of rows of each cell,
    the index of its first row, and its share of the examples. mean: the expected length of a drawn example.
    """

    rows: np.ndarray
    lengths: np.ndarray
    sizes: np.ndarray
    begins: np.ndarray
    shares: np.ndarray
    mean: float


@dataclass(frozen=True)
class Plan:
    """The examples of a chunk. cell, row, length: `[N]`. packed: the indices of the examples in each packed row."""

    chunk: int
    cell: np.ndarray
    row: np.ndarray
    length: np.ndarray
    packed: list[list[int]]


class Mixture:
    """An endless stream of packed batches, each of `rows` rows. Sequences longer than a row are left out and named."""

    def __init__(self, entries: list[MixtureEntry], examples: ExampleSet, builder: SequenceBuilder, row_length: int,
                 rows: int, seed: int, speech_hours: float | None = None):
        self.cells, self.examples, self.builder = expand(entries, examples), examples, builder
        if speech_hours is not None:
            self.cells = limit_speech(self.cells, examples, speech_hours, seed)
        self.row_length, self.rows, self.seed = row_length, rows, seed
        self.lengths = FieldLengths(examples, builder.vocabulary, builder.tokenizer)
        self._plan: Plan | None = None

    def prepare(self) -> None:
        """Compute `drawable`. Workers that are started afterwards share its memory."""
        _ = self.drawable

    @cached_property
    def drawable(self) -> Drawable:
        """The rows that examples are drawn from."""
        narrow = np.uint16 if self.row_length < 2 ** 16 else np.int32
        rows, lengths = [], []
        for cell in self.cells:
            length = self.cell_lengths(cell)
            fits = length <= self.row_length
            rows.append(cell.rows[fits])
            lengths.append(length[fits].astype(narrow))
            if not fits.all():
                logging.warning("left out %d of %d utterances of %s, which are longer than a row of %d tokens; %s has "
                                "%d", np.sum(~fits), len(fits), decode_name(cell.task, cell.source, cell.target),
                                self.row_length, self.examples.id(cell.rows[length.argmax()]), length.max())
        sizes = np.array([len(fitting) for fitting in rows])
        if not sizes.any():
            raise AudioPaLMError(f"mixture: no sequence fits into rows of {self.row_length} tokens; raise row_length")
        weights = np.array([cell.weight for cell in self.cells]) * (sizes > 0)
        means = np.array([length.mean() if len(length) else 0.0 for length in lengths])
        shares = weights / weights.sum()
        return Drawable(np.concatenate(rows), np.concatenate(lengths), sizes,
                        np.concatenate([[0], np.cumsum(sizes)[:-1]]), shares, float(shares @ means))

    @property
    def drawn_cells(self) -> list[Cell]:
        """The cells with a sequence that fits into a row; no batch contains the others."""
        return [cell for cell, size in zip(self.cells, self.drawable.sizes, strict=True) if size]

    def cell_lengths(self, cell: Cell) -> np.ndarray:
        """The number of tokens of each row of a cell as a sequence, int64 `[N]`."""
        return self.builder.lengths(cell.task, cell.source, cell.target,
                                    lambda field: self.lengths.count(field, cell.target, cell.rows))

    def batches(self, first: int = 0) -> Iterator[PackedBatch]:
        """All batches from number `first` on."""
        return map(self.batch, itertools.count(first))

    def batch(self, number: int) -> PackedBatch:
        """Batch `number`. Only its own examples are read. Raises AudioPaLMError if their lengths are not as indexed."""
        chunk, index = divmod(number, CHUNK_BATCHES)
        plan = self._plan if self._plan is not None and self._plan.chunk == chunk else self.plan(chunk)
        self._plan = plan
        rows = plan.packed[index * self.rows:(index + 1) * self.rows]
        return collate([[self._read(plan, index) for index in row] for row in rows], self.row_length)

    def plan(self, chunk: int) -> Plan:
        """Draw examples until they fill the rows of the chunk, and pack them by their lengths.

        Packing leaves gaps, so that it returns at least as many rows as the chunk has; a random choice is used.
        """
        drawable = self.drawable
        random = np.random.default_rng([self.seed, chunk])
        wanted = CHUNK_BATCHES * self.rows
        cells, indices, total = [], [], 0
        while total <= wanted * self.row_length:
            number = max(DRAW, int((wanted * self.row_length - total) / drawable.mean * 1.02))
            cell = random.choice(len(self.cells), size=number, p=drawable.shares)
            index = drawable.begins[cell] + random.integers(drawable.sizes[cell])
            cells.append(cell)
            indices.append(index)
            total += int(drawable.lengths[index].sum(dtype=np.int64))
        cell, index = np.concatenate(cells), np.concatenate(indices)
        length = drawable.lengths[index].astype(np.int64)
        taken = int(np.searchsorted(np.cumsum(length), wanted * self.row_length, side="right"))
        packed = pack_rows(length[:taken], self.row_length)
        random.shuffle(packed)
        return Plan(chunk, cell[:taken], drawable.rows[index[:taken]], length[:taken], packed[:wanted])

    def _read(self, plan: Plan, index: int) -> Sequence:
        sequence = self.sequence(self.cells[plan.cell[index]], plan.row[index])
        if len(sequence.ids) != plan.length[index]:
            raise AudioPaLMError(f"{self.examples.data_dir}: {sequence.utterance} has {len(sequence.ids)} tokens, its "
                                 f"index states {plan.length[index]}; run audiopalm.bin.make_index again")
        return sequence

    def sequence(self, cell: Cell, row: int) -> Sequence:
        """Row `row` of the example set as a sequence of the cell's task."""
        return self.builder.sequence(cell.task, self.examples.example_at(row, cell.task.fields(), cell.target))

    def validation(self, per_task: int) -> dict[str, list[PackedBatch]]:
        """{task name: batches}, the same at every call.

        Each task has at most `per_task` sequences, evenly from its language pairs. A task whose sequences are all
        longer than a row is left out, with a warning.
        """
        grouped: dict[str, list[Sequence]] = {}
        for name in dict.fromkeys(cell.task.name for cell in self.cells):
            cells = [cell for cell in self.cells if cell.task.name == name]
            share = max(per_task // len(cells), 1)
            grouped[name] = [self.sequence(cell, cell.rows[index]) for cell in cells
                             for index in np.linspace(0, len(cell.rows) - 1, share).astype(int)][:per_task]
        batches = {}
        for name, sequences in grouped.items():
            sequences = [sequence for sequence in sequences if len(sequence.ids) <= self.row_length]
            if not sequences:
                logging.warning("the task %s has no dev loss: all its dev sequences are longer than a row of %d tokens",
                                name, self.row_length)
                continue
            rows = pack_rows(np.array([len(sequence.ids) for sequence in sequences]), self.row_length)
            packed = [[sequences[index] for index in row] for row in rows]
            batches[name] = [collate(packed[start:start + self.rows], self.row_length)
                             for start in range(0, len(packed), self.rows)]
        return batches
