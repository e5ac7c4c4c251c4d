"""Recordings with their texts, and batches of them, for the training of audio tokenizers."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from audiopalm.core.errors import AudioPaLMError
from audiopalm.data.audio import SAMPLE_RATE
from audiopalm.data.audio_archive import audio_info
from audiopalm.data.datadir import languages_of, read_table


@dataclass(frozen=True)
class Speech:
    """A recording: its file, its text (may be empty) and its length in samples at 16 kHz."""

    path: str
    text: str
    samples: int


def list_speech(directory: str | Path) -> list[Speech]:
    """Every audio file of a data directory once, with its text. A spoken translation without a text has an empty one.

    Files come from `wav.scp` and `text`, then from `wav.scp.<language>` and `text.<language>`, in the order of these
    tables. The names of files would be no stable order, because they depend on when the sources were written.

    Raises AudioPaLMError if an utterance has no text, a recording is not at 16 kHz, or there is no recording.
    """
    texts: dict[str, str] = {}
    for suffix in ["", *(f".{language}" for language in languages_of(directory, "wav.scp"))]:
        table = Path(directory) / f"text{suffix}"
        # Simultaneous interpretation may lack a text.
        text = read_table(table, "stage 2 (audio)") if table.exists() or not suffix else {}
        for utterance, path in read_table(Path(directory) / f"wav.scp{suffix}", "stage 2 (audio)").items():
            if utterance not in text and not suffix:
                raise AudioPaLMError(f"{table} has no line for {utterance!r}")
            texts.setdefault(path, text.get(utterance, ""))
    if not texts:
        raise AudioPaLMError(f"{directory}/wav.scp is empty")
    return [Speech(path, text, count_samples(path)) for path, text in texts.items()]


def count_samples(path: str) -> int:
    """The length of a 16 kHz recording in samples, as stated in its header."""
    samples, rate = audio_info(path)
    if rate != SAMPLE_RATE:
        raise AudioPaLMError(f"audio {path} is at {rate} Hz; stage 2 (audio) makes {SAMPLE_RATE} Hz files")
    return samples


def length_batches(lengths: list[int], max_samples: int, seed: int) -> Iterator[list[int]]:
    """Endless batches of indices of similar lengths, at most `max_samples` with padding, in an order set by `seed`."""
    epoch = 0
    while True:
        random = np.random.default_rng([seed, epoch])
        # Lengths are perturbed by 10 %, so that the batches differ from epoch to epoch.
        order = np.argsort(np.asarray(lengths) * random.uniform(0.9, 1.1, len(lengths)), kind="stable")
        batches: list[list[int]] = [[]]
        longest = 0
        for index in order.tolist():
            longest = max(longest, lengths[index])
            if batches[-1] and longest * (len(batches[-1]) + 1) > max_samples:
                batches.append([])
                longest = lengths[index]
            batches[-1].append(index)
        for position in random.permutation(len(batches)):
            yield batches[position]
        epoch += 1
