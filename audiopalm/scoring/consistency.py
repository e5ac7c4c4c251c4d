"""Acoustic consistency: does the output sound as if it was recorded under the same conditions as its prompt?

The measure here is the cosine of two vectors. A vector holds the mean, the standard deviation and the 10th percentile
(the noise floor) of each of 80 log-mel bands over a whole recording, after its mean level is subtracted. The vectors
are standardised by true recordings of the set, so that recordings of unlike conditions have a cosine of about 0. They
depend on equipment, room and noise, and also on the timbre of the voice.

AudioPaLM and SoundStorm compare learned embeddings by a model that is not published. The figures here cannot be
compared with theirs.
"""

from collections.abc import Mapping

import numpy as np
import torch

from audiopalm.data.audio import read_audio
from audiopalm.data.mel import LogMel

MOST_RECORDINGS = 100  # of the set, evenly spaced; the vectors are standardised by them


def statistics(samples: np.ndarray, mel: LogMel) -> np.ndarray:
    """Samples `[T]` float32 at 16 kHz -> `[3 * bands]` float32; all zeros for silence."""
    if not samples.any():
        return np.zeros(3 * mel.filters.shape[1], dtype=np.float32)
    with torch.inference_mode():
        bands = mel(torch.from_numpy(samples)[None])[0].numpy()
    bands = bands - bands.mean()
    return np.concatenate([bands.mean(0), bands.std(0), np.percentile(bands, 10, axis=0)]).astype(np.float32)


class Conditions:
    """Vectors `[240]` of unit length that describe acoustic conditions; all zeros for silence.

    recordings: {utterance: path of its true recording} of a set. The ids of the utterances choose the recordings that
    the vectors are standardised by, because the names of files depend on the folder of the repository.
    """

    metric = "acoustic_consistency"
    signature = "log-mel statistics 80 x (mean, deviation, 10th percentile), standardised by utterances of the set"

    def __init__(self, recordings: Mapping[str, str]) -> None:
        self.mel = LogMel(80, n_fft=512, hop=160)
        self.known: dict[str, np.ndarray] = {}  # statistics by path
        chosen = sorted(recordings, key=str.encode)[::-(-len(recordings) // MOST_RECORDINGS)]
        rows = np.stack([self._statistics(recordings[utterance]) for utterance in chosen])
        self.mean, self.scale = rows.mean(0), rows.std(0) + 1e-3

    def _statistics(self, file: str) -> np.ndarray:
        if file not in self.known:
            self.known[file] = statistics(read_audio(file), self.mel)
        return self.known[file]

    def embed(self, files: Mapping[str, str]) -> dict[str, np.ndarray]:
        """{utterance: audio path} -> {utterance: [240]}."""
        vectors = {}
        for utterance, file in files.items():
            row = self._statistics(file)
            standard = (row - self.mean) / self.scale * row.any()
            vectors[utterance] = standard / max(np.linalg.norm(standard), 1e-9)
        return vectors
