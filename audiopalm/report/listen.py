"""Examples of the page: utterances of every decode with their audio, references and hypotheses, as JSON values."""

import base64
import io
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import soundfile

from audiopalm.data.audio import SAMPLE_RATE, read_audio
from audiopalm.data.audio_archive import audio_exists
from audiopalm.languages import language_name
from audiopalm.scoring.decodes import Decode, TestSet
from audiopalm.scoring.metrics import BY_CHARACTER
from audiopalm.scoring.results import ResultRow, select
from audiopalm.scoring.score_set import scored_texts
from audiopalm.tasks import AUDIO, Output

PEAKS = 120  # columns of a waveform
Texts = dict[str, tuple[Mapping[str, str], Mapping[str, str]]]  # {system: (references, hypotheses)}, normalised
KINDS = {"equal": "=", "substitute": "s", "delete": "d", "insert": "i"}


class Sounds:
    """The recordings of the page, each once: MP3, which every browser plays, and the outline of the waveform."""

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []
        self._numbers: dict[str, int] = {}

    def add(self, file: str | None) -> int | None:
        """The index of the recording in `entries`; None for no file and, with a warning, for a missing file."""
        if file is None:
            return None
        if file not in self._numbers:
            if not audio_exists(file):
                logging.warning("audio %s does not exist; the page is made without it", file)
                return None
            self._numbers[file] = len(self.entries)
            self.entries.append(_sound(read_audio(file)))
        return self._numbers[file]


def _sound(samples: np.ndarray) -> dict[str, Any]:
    coded = io.BytesIO()
    soundfile.write(coded, samples, SAMPLE_RATE, format="MP3", subtype="MPEG_LAYER_III")
    columns = np.array_split(np.abs(samples), PEAKS)
    peaks = np.array([column.max() if len(column) else 0 for column in columns])
    return {"mp3": base64.b64encode(coded.getvalue()).decode(), "seconds": round(len(samples) / SAMPLE_RATE, 2),
            "peaks": [round(100 * float(peak)) for peak in peaks / max(peaks.max(), 1e-3)]}


def examples(test_set: TestSet, rows: list[ResultRow], score_dir: Path, most: int,
             sounds: Sounds) -> list[dict[str, Any]]:
    """At most `most` utterances of each decode. `rows` are the scores; their texts are in `score_dir`."""
    shown_examples = []
    for decode in test_set.decodes:
        parts = [(output, _texts(rows, score_dir, decode, output)) for output in decode.task.outputs]
        tables = {output.part: decode.hypotheses(output) for output in decode.task.outputs}
        for name in _alternate_speakers(list(next(iter(tables.values()))), test_set.table("utt2spk"))[:most]:
            shown = [_part(test_set, decode, output, texts, tables[output.part][name], name, sounds)
                     for output, texts in parts]
            source = sounds.add(test_set.table("wav.scp")[name]) if decode.task.input == AUDIO else None
            errors = [part["error"] for part in shown if part["error"] is not None]
            shown_examples.append({
                "id": name, "task": decode.task.name, "tag": decode.meta["tag"], "source": decode.source,
                "languages": " to ".join(map(language_name, filter(None, (decode.source, decode.target)))),
                "text": test_set.table("text").get(name, ""), "sound": source, "parts": shown,
                "error": max(errors, default=None)})
    return shown_examples


def _alternate_speakers(names: list[str], speakers: Mapping[str, str]) -> list[str]:
    """The utterances sorted so that the speakers alternate."""
    count: dict[str, int] = {}
    rank: dict[str, int] = {}  # of an utterance among those of its speaker
    for name in sorted(names, key=str.encode):
        rank[name] = count[speakers[name]] = count.get(speakers[name], -1) + 1
    return sorted(names, key=lambda name: (rank[name], name.encode()))


def _texts(rows: list[ResultRow], score_dir: Path, decode: Decode, output: Output) -> Texts:
    """The texts of a part as they were scored, by the first judge if there are several."""
    texts: Texts = {}
    same = {key: decode.meta[key] for key in ("set", "task", "source", "target")}
    for row in select(rows, **same, part=output.part):
        if row.normaliser and row.system not in texts:
            texts[row.system] = scored_texts(score_dir, row)
    return texts


def _aligned(texts: Texts, system: str, name: str, language: str) -> tuple[list[list[str]], float] | None:
    """The aligned texts of an utterance; None where it was not scored."""
    if system not in texts or name not in texts[system][0]:
        return None
    references, hypotheses = texts[system]
    return align(references[name], hypotheses[name], language)


def _part(test_set: TestSet, decode: Decode, output: Output, texts: Texts, answer: str, name: str,
          sounds: Sounds) -> dict[str, Any]:
    """One part of the answer to the utterance `name`; `answer` is its text, or the path of its speech."""
    language = decode.language(output)
    part: dict[str, Any] = {"part": output.part, "words": [], "error": None}
    if aligned := _aligned(texts, "model", name, language):
        part["words"], part["error"] = aligned
    if output.is_audio:
        true_aligned = _aligned(texts, "true_audio", name, language)
        part |= {"sound": sounds.add(answer), "true_sound": sounds.add(test_set.true_audio(decode, output).get(name)),
                 "true_words": true_aligned[0] if true_aligned else []}
    elif not part["words"]:
        part["plain"] = answer
    return part


def align(reference: str, hypothesis: str, language: str) -> tuple[list[list[str]], float]:
    """[[kind, reference words, hypothesis words], ...] with kind `=`, `s`, `d` or `i`, and the error rate, a fraction.

    Languages without spaces are aligned by characters.
    """
    if language in BY_CHARACTER:
        reference, hypothesis = (" ".join(text.replace(" ", "")) for text in (reference, hypothesis))
    aligned = jiwer.process_words(reference, hypothesis)
    left, right = aligned.references[0], aligned.hypotheses[0]
    words = [[KINDS[chunk.type], " ".join(left[chunk.ref_start_idx:chunk.ref_end_idx]),
              " ".join(right[chunk.hyp_start_idx:chunk.hyp_end_idx])] for chunk in aligned.alignments[0]]
    return words, round(aligned.wer, 3)
