"""Acoustic consistency: does the output sound as if it had been recorded where its prompt was.

AudioPaLM and SoundStorm compare learned embeddings of prompt and output, whose model is not published; figures here
cannot be compared with theirs. Of each of 80 log-mel bands it takes the mean, the deviation and the 10th percentile
(the noise beneath the speech) over a whole recording, without its loudness; standardises these by true recordings of
the set, so that recordings of unlike conditions have a cosine of about 0; and compares by cosine. Equipment, room and
noise are in it, and the timbre of the voice.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from audiopalm.data.audio import read_audio
from audiopalm.data.mel import LogMel

MOST_RECORDINGS = 100  # of the set, evenly spread, to standardise by


def statistics(samples: np.ndarray, mel: LogMel) -> np.ndarray:
    """`[T]` at 16 kHz -> `[3 * bands]` float32; all zeros for silence."""
    if not samples.any():
        return np.zeros(3 * mel.filters.shape[1], dtype=np.float32)
    with torch.inference_mode():
        bands = mel(torch.from_numpy(samples)[None])[0].numpy()
    bands = bands - bands.mean()
    return np.concatenate([bands.mean(0), bands.std(0), np.percentile(bands, 10, axis=0)]).astype(np.float32)


class Conditions:
    """Acoustic conditions `[240]` of unit length, standardised by the recordings of one set; of silence all zeros."""

    signature = "log-mel statistics 80 x (mean, deviation, 10th percentile), standardised by the set"

    def __init__(self, recordings: Sequence[str]):
        self.mel, self.known = LogMel(80, n_fft=512, hop=160), {}
        chosen = sorted(recordings)[::-(-len(recordings) // MOST_RECORDINGS)]
        rows = np.stack([self._statistics(file) for file in chosen])
        self.mean, self.scale = rows.mean(0), rows.std(0) + 1e-3

    def _statistics(self, file: str) -> np.ndarray:
        if file not in self.known:
            self.known[file] = statistics(read_audio(file), self.mel)
        return self.known[file]

    def embed(self, files: Mapping[str, str]) -> dict[str, np.ndarray]:
        """{utterance: audio path} -> {utterance: [240]}."""
        found = {}
        for utterance, file in files.items():
            row = self._statistics(file)
            standard = (row - self.mean) / self.scale * row.any()
            found[utterance] = standard / max(np.linalg.norm(standard), 1e-9)
        return found
