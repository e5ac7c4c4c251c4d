"""Speaker embeddings of whole utterances, cached by the content of the audio file; likeness of voices."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from audiopalm.core.files import atomic_path
from audiopalm.core.progress import progress
from audiopalm.data.audio import read_audio
from audiopalm.data.audio_archive import hash_audio
from audiopalm.scoring.speaker_encoder import SpeakerEncoder

SAVE_EVERY = 100  # files between two writes of the cache


class Voices:
    """Speaker embeddings `[size]` float32 of unit length by one encoder; zeros for silence and too little speech."""

    def __init__(self, cache_dir: str | Path, encoder: SpeakerEncoder) -> None:
        self.encoder, self.signature = encoder, encoder.signature
        self.metric, self.win_metric = f"speaker_cosine{encoder.suffix}", f"speaker_win{encoder.suffix}"
        name = hashlib.sha256(encoder.signature.encode()).hexdigest()[:8]
        self.path = Path(cache_dir) / f"embeddings_{name}.safetensors"
        self.known: dict[str, np.ndarray] = load_file(self.path) if self.path.exists() else {}

    def embed(self, files: Mapping[str, str]) -> dict[str, np.ndarray]:
        """{utterance: audio path} -> {utterance: [size]}.

        Raises AudioPaLMError for unreadable audio, and if a package of the encoder is not installed.
        """
        hashes = {utterance: hash_audio(file) for utterance, file in files.items()}
        missing = {digest: files[utterance] for utterance, digest in hashes.items() if digest not in self.known}
        for count, digest in enumerate(progress(missing, len(missing), "embedding voices"), start=1):
            self.known[digest] = self._embed_file(missing[digest])
            if count % SAVE_EVERY == 0 or count == len(missing):
                with atomic_path(self.path) as temporary:
                    save_file(self.known, temporary)
        return {utterance: self.known[digest] for utterance, digest in hashes.items()}

    def _embed_file(self, file: str) -> np.ndarray:
        samples = read_audio(file)
        return self.encoder.embed(samples) if samples.any() else np.zeros(self.encoder.size, dtype=np.float32)


def cosines(left: Mapping[str, np.ndarray], right: Mapping[str, np.ndarray]) -> dict[str, float | None]:
    """{utterance: cosine, or None if either side is silent} for the utterances of both."""
    return {utterance: float(left[utterance] @ right[utterance])
            if left[utterance].any() and right[utterance].any() else None
            for utterance in left if utterance in right}


def wins(own: Mapping[str, float | None], other: Mapping[str, float | None]) -> dict[str, float]:
    """{utterance: 1.0 if the output is closer to its own speaker than to the other, else 0.0}; silence is a loss."""
    pairs = {utterance: (near, other[utterance]) for utterance, near in own.items() if utterance in other}
    return {utterance: float(near is not None and far is not None and near > far)
            for utterance, (near, far) in pairs.items()}
