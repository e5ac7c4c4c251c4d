"""Speaker embeddings of whole utterances by Resemblyzer's GE2E, cached by the content of the audio file."""

import logging
import warnings
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from audiopalm.core.compiling import compiling_alone
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import atomic_path
from audiopalm.core.progress import progress
from audiopalm.data.audio import read_audio
from audiopalm.data.audio_archive import hash_audio

SIZE = 256
SAVE_EVERY = 100  # files between two writes of the cache


class Voices:
    """Speaker embeddings `[256]` float32 of unit length; all zeros for silence and for speech that is too quiet."""

    signature = "resemblyzer 0.1.4 GE2E"

    def __init__(self, cache_dir: str | Path) -> None:
        self.path = Path(cache_dir) / "embeddings.safetensors"
        self.known: dict[str, np.ndarray] = load_file(self.path) if self.path.exists() else {}

    def embed(self, files: Mapping[str, str]) -> dict[str, np.ndarray]:
        """{utterance: audio path} -> {utterance: [256]}.

        Raises AudioPaLMError for unreadable audio, and if Resemblyzer is not installed.
        """
        hashes = {utterance: hash_audio(file) for utterance, file in files.items()}
        missing = {digest: files[utterance] for utterance, digest in hashes.items() if digest not in self.known}
        for count, digest in enumerate(progress(missing, len(missing), "embedding voices"), start=1):
            self.known[digest] = embed_file(missing[digest])
            if count % SAVE_EVERY == 0 or count == len(missing):
                with atomic_path(self.path) as temporary:
                    save_file(self.known, temporary)
        return {utterance: self.known[digest] for utterance, digest in hashes.items()}


@cache
def _encoder() -> Callable[[np.ndarray], np.ndarray]:
    """A function from speech `[T]` float32 at 16 kHz to its embedding `[256]` float32."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # scipy.ndimage.morphology
        try:
            with compiling_alone():  # it imports librosa
                from resemblyzer import VoiceEncoder, preprocess_wav
        except ImportError as error:
            raise AudioPaLMError(f"voices need the package Resemblyzer ({error}); run tools/setup.sh") from None
    logging.info("loading the voice encoder")
    encoder = VoiceEncoder("cpu", verbose=False)

    def embed(samples: np.ndarray) -> np.ndarray:
        speech = preprocess_wav(samples)
        if len(speech) == 0:  # the voice activity detector has removed all samples
            return np.zeros(SIZE, dtype=np.float32)
        return encoder.embed_utterance(speech).astype(np.float32)

    return embed


def embed_file(file: str) -> np.ndarray:
    """The embedding `[256]` float32 of an audio file."""
    samples = read_audio(file)
    return _encoder()(samples) if samples.any() else np.zeros(SIZE, dtype=np.float32)


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
