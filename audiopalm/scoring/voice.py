"""Whose voice is it: Resemblyzer's GE2E embeddings of whole utterances, cached by the content of the audio file."""

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import atomic_path
from audiopalm.core.progress import progress
from audiopalm.data.audio import read_audio
from audiopalm.data.audio_archive import hash_audio

SIZE = 256
SAVE_EVERY = 100  # files between two writes of the cache


class Voices:
    """Embeddings [256] of unit length; of silence, and of what is too quiet to have a voice, all zeros."""

    signature = "resemblyzer 0.1.4 GE2E"

    def __init__(self, cache_dir: str | Path):
        self.path = Path(cache_dir) / "embeddings.safetensors"
        self.known = load_file(self.path) if self.path.exists() else {}
        self._encoder = None

    def embed(self, files: Mapping[str, str]) -> dict[str, np.ndarray]:
        """{utterance: audio path} -> {utterance: [256]}."""
        hashes = {utterance: hash_audio(file) for utterance, file in files.items()}
        missing = {digest: files[utterance] for utterance, digest in hashes.items() if digest not in self.known}
        for count, digest in enumerate(progress(missing, len(missing), "embedding voices"), start=1):
            self.known[digest] = self._one(missing[digest])
            if count % SAVE_EVERY == 0 or count == len(missing):
                with atomic_path(self.path) as temporary:
                    save_file(self.known, temporary)
        return {utterance: self.known[digest] for utterance, digest in hashes.items()}

    def _one(self, file: str) -> np.ndarray:
        samples = read_audio(file)
        if not samples.any():
            return np.zeros(SIZE, dtype=np.float32)
        if self._encoder is None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # scipy.ndimage.morphology
                try:
                    from resemblyzer import VoiceEncoder, preprocess_wav
                except ImportError as error:
                    raise AudioPaLMError(f"voices need the package Resemblyzer ({error}); run tools/setup.sh") from None
            logging.info("loading the voice encoder")
            self._encoder, self._preprocess = VoiceEncoder("cpu", verbose=False), preprocess_wav
        speech = self._preprocess(samples)
        if len(speech) == 0:  # the voice activity detector kept nothing
            return np.zeros(SIZE, dtype=np.float32)
        return self._encoder.embed_utterance(speech).astype(np.float32)


def cosines(left: Mapping[str, np.ndarray], right: Mapping[str, np.ndarray]) -> dict[str, float | None]:
    """{utterance: cosine, or None where one side is silent} for the utterances of both."""
    found = {}
    for utterance in left:
        if utterance in right:
            silent = not left[utterance].any() or not right[utterance].any()
            found[utterance] = None if silent else float(left[utterance] @ right[utterance])
    return found


def wins(own: Mapping[str, float | None], other: Mapping[str, float | None]) -> dict[str, float]:
    """{utterance: 1.0 if the output is closer to its own speaker than to the other}; a silent output is a loss."""
    return {utterance: float(own[utterance] is not None and other[utterance] is not None
                             and own[utterance] > other[utterance])
            for utterance in own if utterance in other}
