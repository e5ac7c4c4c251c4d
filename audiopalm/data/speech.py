"""Recordings with their texts, and batches of them, for the training of audio tokenizers."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from audiopalm.core.errors import AudioPaLMError
from audiopalm.data.audio import SAMPLE_RATE
from audiopalm.data.audio_archive import audio_info
from audiopalm.data.columns import read_columns
from audiopalm.data.datadir import languages_of
from audiopalm.data.index import Index, file_state, open_one

AUDIO_INDEX = "audio_index.arrow"
HEADER_READERS = 8  # threads: the file system of a cluster is slow, but serves many requests at a time


@dataclass(frozen=True)
class Speech:
    """A recording: its file, its text (which may be empty) and its length in samples at 16 kHz."""

    path: str
    text: str
    samples: int


class SpeechList(Sequence[Speech]):
    """The recordings of an index; the path and the text of a recording are read when it is asked for.

    samples: int64 `[N]`, their lengths.
    """

    def __init__(self, index: Index, rows: np.ndarray | None = None):
        self._index = index
        self._rows = np.arange(index.rows, dtype=np.int32) if rows is None else rows
        self._files: dict[str, int] = {}
        self.samples = index.numbers("samples") if rows is None else index.numbers("samples")[rows]

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, key: int) -> Speech: ...

    @overload
    def __getitem__(self, key: slice) -> "SpeechList": ...

    def __getitem__(self, key: int | slice) -> "Speech | SpeechList":
        if isinstance(key, slice):
            return SpeechList(self._index, self._rows[key])
        row = int(self._rows[key])
        return Speech(self._index.table.column("path")[row].as_py(), self._text(row), int(self.samples[key]))

    def where(self, wanted: np.ndarray) -> "SpeechList":
        """The recordings for which `wanted`, bool `[N]`, is true."""
        return SpeechList(self._index, self._rows[wanted])

    @property
    def has_text(self) -> np.ndarray:
        """bool `[N]`: whether a recording has a text."""
        return self._index.numbers("text:size")[self._rows] > 0

    @cached_property
    def cumulated(self) -> np.ndarray:
        """The cumulative fractions of the recordings in all speech, float64 `[N]`; the last is 1."""
        cumulated = np.cumsum(self.samples / self.samples.sum())
        return cumulated / cumulated[-1]

    def characters(self) -> str:
        """All characters of the texts, sorted."""
        characters: set[str] = set()
        for row in self._rows[self.has_text]:
            characters.update(self._text(int(row)))
        return "".join(sorted(characters))

    def _text(self, row: int) -> str:
        size = int(self._index.numbers("text:size")[row])
        if size <= 0:
            return ""
        name = self._index.meta["texts"][self._index.numbers("text:table")[row]]
        if name not in self._files:
            self._files[name] = os.open(self._index.path.parent / name, os.O_RDONLY | os.O_CLOEXEC)
        return os.pread(self._files[name], size, int(self._index.numbers("text:offset")[row])).decode().strip()


def open_speech(directory: str | Path) -> SpeechList:
    """As `list_speech`, for trainings: the index is a file beside the tables, `audio_index.arrow`, which the first
    training writes. Raises AudioPaLMError as `list_speech` does, and where the file is older than the tables."""
    return SpeechList(open_one(Path(directory) / AUDIO_INDEX, lambda: make_audio_index(Path(directory)),
                               _tables(Path(directory)), f"remove {Path(directory) / AUDIO_INDEX}"))


def list_speech(directory: str | Path) -> SpeechList:
    """Every audio file of a data directory once, with its text, which is empty for a spoken translation without a text.

    Files come from `wav.scp` and `text`, then from `wav.scp.<language>` and `text.<language>`, in the order of the ids.
    The names of the files would not be a stable order, because they depend on when the sources were written.

    Raises AudioPaLMError if an utterance has no text, a recording is not at 16 kHz, or there is no recording.
    """
    return SpeechList(make_audio_index(Path(directory)))


def make_audio_index(directory: Path) -> Index:
    """The recordings of a data directory as columns: path, samples, and the position of the text."""
    paths: list[pa.LargeStringArray] = []
    places: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []  # number of the table, offset, size of each text
    texts: list[str] = []  # names of the tables
    for suffix in ["", *(f".{language}" for language in languages_of(directory, "wav.scp"))]:
        wavs = read_columns(directory / f"wav.scp{suffix}", "stage 2 (audio)", lambda ids, values: [values])
        table = directory / f"text{suffix}"
        offset, size = np.full(len(wavs.ids), -1), np.zeros(len(wavs.ids), dtype=np.int32)
        if table.exists() or not suffix:  # spoken translations may lack texts
            text = read_columns(table, "stage 2 (audio)", ids=wavs.ids)
            at = text.at(wavs.ids)
            at = np.arange(len(wavs.ids)) if at is None else at
            if not suffix and (at < 0).any():
                missing = wavs.ids[int(np.flatnonzero(at < 0)[0])].as_py()
                raise AudioPaLMError(f"{table} has no line for {missing!r}")
            offset[at >= 0], size[at >= 0] = text.offset[at[at >= 0]], text.size[at[at >= 0]]
        paths.append(wavs.converted[0])
        places.append((np.full(len(offset), len(texts), dtype=np.int8), offset, size))
        texts.append(table.name)
    unique = pc.dictionary_encode(pa.concat_arrays(paths))
    if not len(unique):
        raise AudioPaLMError(f"{directory}/wav.scp is empty")
    _, first = np.unique(unique.indices.to_numpy(), return_index=True)
    numbers, offset, size = (np.concatenate(parts)[first] for parts in zip(*places, strict=True))
    with ThreadPoolExecutor(HEADER_READERS) as pool:
        samples = np.fromiter(pool.map(lambda path: count_samples(path.as_py()), unique.dictionary), np.int64,
                              len(first))
    columns = {"path": unique.dictionary, "samples": samples, "text:table": numbers, "text:offset": offset,
               "text:size": size}
    meta = {"tables": {name: file_state(directory / name) for name in _tables(directory)}, "texts": texts}
    return Index(directory / AUDIO_INDEX, pa.table(columns), meta)


def _tables(directory: Path) -> list[str]:
    wavs = ["wav.scp", *(f"wav.scp.{language}" for language in languages_of(directory, "wav.scp"))]
    texts = [name.replace("wav.scp", "text", 1) for name in wavs]
    return [*wavs, *(name for name in texts if (directory / name).exists())]


def count_samples(path: str) -> int:
    """The length of a 16 kHz recording in samples, as its header states it. AudioPaLMError for another rate."""
    samples, rate = audio_info(path)
    if rate != SAMPLE_RATE:
        raise AudioPaLMError(f"audio {path} is at {rate} Hz; stage 2 (audio) makes {SAMPLE_RATE} Hz files")
    return samples


def length_batches(lengths: np.ndarray, max_samples: int, seed: int) -> Iterator[np.ndarray]:
    """Endless batches of indices of recordings with similar lengths, in an order that `seed` determines.

    lengths: int64 `[N]`, in samples. A batch has at most `max_samples`, padding included, or is a single recording.
    """
    epoch = 0
    while True:
        random = np.random.default_rng([seed, epoch])
        # Lengths are perturbed by 10 %, so that the batches differ from epoch to epoch.
        order = np.argsort(lengths * random.uniform(0.9, 1.1, len(lengths)), kind="stable")
        begins, longest = [0], 0
        for place, length in enumerate(lengths[order].tolist()):
            longest = max(longest, length)
            if place > begins[-1] and longest * (place - begins[-1] + 1) > max_samples:
                begins.append(place)
                longest = length
        begins.append(len(order))
        for number in random.permutation(len(begins) - 1):
            yield order[begins[number]:begins[number + 1]]
        epoch += 1
