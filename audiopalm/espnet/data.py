"""Batches for ESPnet's Trainer: from our task mixture, or of one task read by ESPnet's own dataset."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audiopalm.core.errors import AudioPaLMError
from audiopalm.data.examples import Example
from audiopalm.espnet.imports import AbsIterFactory, AbsPreprocessor
from audiopalm.lm.mixture import Mixture
from audiopalm.lm.packing import PackedBatch, collate
from audiopalm.lm.sequences import Sequence, SequenceBuilder
from audiopalm.tasks import Task
from audiopalm.training.batches import load_ahead

LANGUAGE = "utt2lang"  # the name of the data with the language of each utterance

Batch = tuple[list[str], dict[str, Any]]  # utterances, and the arguments of ESPnetAudioPaLMModel.forward


def tensors(batch: PackedBatch) -> dict[str, Tensor]:
    """The tensors of a batch by the arguments of ESPnetAudioPaLMModel.forward; int64 `[rows, T]` each."""
    return {"ids": batch.ids, "segments": batch.segments, "positions": batch.positions, "targets": batch.targets}


class MixtureIterFactory(AbsIterFactory):
    """The endless mixture, cut into epochs of `iterations` batches per rank.

    Rank r gets the batches r, r + world_size, r + 2 * world_size, ...
    """

    def __init__(self, mixture: Mixture, iterations: int, workers: int, rank: int, world_size: int) -> None:
        self.mixture, self.iterations, self.workers = mixture, iterations, workers
        self.rank, self.world_size = rank, world_size

    def build_iter(self, epoch: int, shuffle: bool | None = None) -> Iterator[Batch]:
        """The batches of `epoch`, counted from 1; they do not depend on epochs that were built earlier."""
        self.mixture.prepare()
        epoch_batches = self.iterations * self.world_size
        numbers = range((epoch - 1) * epoch_batches + self.rank, epoch * epoch_batches, self.world_size)
        for batch in load_ahead(self.mixture.batch, numbers, self.workers):
            yield batch.utterances, tensors(batch)


class ValidationIterFactory(AbsIterFactory):
    """The same batches in every epoch, {task: batches} of `Mixture.validation`."""

    def __init__(self, batches: dict[str, list[PackedBatch]]) -> None:
        self.batches = batches

    def build_iter(self, epoch: int, shuffle: bool | None = None) -> Iterator[Batch]:
        """The batches of all tasks; each states its task."""
        for task, group in self.batches.items():
            for batch in group:
                yield batch.utterances, {**tensors(batch), "task": task}


class TaskPreprocessor(AbsPreprocessor):
    """The data of ESPnet's readers for an utterance -> `ids` and `is_output`, int64 `[T]`, of one task.

    The data are named like the fields of audiopalm/tasks.py (`audio`: units, `transcript`, ...), and `utt2lang`. Raises
    AudioPaLMError if a field is missing.
    """

    def __init__(self, train: bool, builder: SequenceBuilder, task: Task, target: str | None) -> None:
        super().__init__(train)
        self.builder, self.task, self.target = builder, task, target

    def __call__(self, uid: str, data: dict[str, Any]) -> dict[str, np.ndarray]:
        for name in (*sorted(self.task.fields()), LANGUAGE):
            if name not in data:
                raise AudioPaLMError(f"task {self.task.name!r} needs data of the name {name!r}, there are "
                                     f"{', '.join(data)}: give PATH,{name},TYPE")
        example = Example(uid, data[LANGUAGE], self.target, {name: data[name] for name in self.task.fields()})
        sequence = self.builder.sequence(self.task, example)
        return {"ids": sequence.ids, "is_output": sequence.is_output.astype(np.int64)}


def collate_sequences(data: list[tuple[str, dict[str, np.ndarray]]]) -> Batch:
    """Collate results of TaskPreprocessor: one sequence per row, padded to the longest sequence."""
    rows = [[Sequence(uid, item["ids"], item["is_output"].astype(bool))] for uid, item in data]
    lengths = torch.tensor([len(item["ids"]) for _, item in data])
    batch = collate(rows, int(lengths.max()))
    return batch.utterances, {**tensors(batch), "ids_lengths": lengths}
