"""Speaker encoders: speech -> a vector that represents the voice.

`Resemblyzer` is installed. `OnnxSpeakerEncoder` runs a model that others exported, as WeSpeaker and 3D-Speaker publish
them: Kaldi's filterbanks go in, an embedding comes out. egs/mini/local/get_campplus.py gets one.
"""

import logging
import warnings
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from audiopalm.core.compiling import compiling_alone
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import require, sha256
from audiopalm.data.audio import SAMPLE_RATE

BANDS = 80  # of the filterbanks that ONNX speaker encoders take
SHORTEST = SAMPLE_RATE // 10  # samples; less speech has no embedding


class SpeakerEncoder(Protocol):
    """What `Voices` needs of an encoder.

    suffix: the end of the names of the metrics that it measures. size: of its embeddings.
    """

    suffix: str
    signature: str
    size: int

    def embed(self, samples: np.ndarray) -> np.ndarray:
        """Speech `[T]` float32 at 16 kHz -> `[size]` float32 of unit length, or zeros if there is too little speech."""
        ...


class Resemblyzer:
    """GE2E of the package Resemblyzer. Raises AudioPaLMError at the first use if it is not installed."""

    suffix = ""
    signature = "resemblyzer 0.1.4 GE2E"
    size = 256

    @cached_property
    def _package(self) -> tuple[Any, Any]:
        """The loaded encoder, and the function that removes silence."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # scipy.ndimage.morphology
            try:
                with compiling_alone():  # it imports librosa
                    from resemblyzer import VoiceEncoder, preprocess_wav
            except ImportError as error:
                raise AudioPaLMError(f"voices need the package Resemblyzer ({error}); run tools/setup.sh") from None
        logging.info("loading the voice encoder")
        return VoiceEncoder("cpu", verbose=False), preprocess_wav

    def embed(self, samples: np.ndarray) -> np.ndarray:
        encoder, preprocess = self._package
        speech = preprocess(samples)
        if len(speech) == 0:  # the voice activity detector has removed all samples
            return np.zeros(self.size, dtype=np.float32)
        return encoder.embed_utterance(speech).astype(np.float32)


class OnnxSpeakerEncoder:
    """A speaker encoder in ONNX: log filterbanks `[1, frames, 80]`, mean subtracted -> `[1, size]`.

    Raises AudioPaLMError for a missing file, and for a file that is not such a model, which a trial shows.
    """

    suffix = "_onnx"

    def __init__(self, file: str | Path):
        self.file = require(file)
        try:
            from onnxruntime import InferenceSession, SessionOptions
        except ImportError as error:
            raise AudioPaLMError(f"--speaker_encoder needs onnxruntime ({error}); run tools/setup.sh") from None
        options = SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        try:
            self.session = InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
            trials = [self._run(np.zeros((frames, BANDS), dtype=np.float32)) for frames in (100, 150)]
        except Exception as error:  # onnxruntime's errors have no common class
            raise AudioPaLMError(f"{file} is not a speaker encoder in ONNX that takes {BANDS} filterbanks: "
                                 f"{str(error).splitlines()[0]}") from None
        shapes = [trial.shape for trial in trials]
        if shapes[0] != shapes[1] or len(shapes[0]) != 2 or shapes[0][0] != 1:
            raise AudioPaLMError(f"{file} is no speaker encoder: 100 and 150 frames give {shapes[0]} and {shapes[1]}, "
                                 "not one embedding each")
        self.size = shapes[0][1]
        self.signature = f"{Path(file).name} {sha256(file):.8}"

    def _run(self, features: np.ndarray) -> np.ndarray:
        return self.session.run(None, {self.session.get_inputs()[0].name: features[None]})[0]

    def embed(self, samples: np.ndarray) -> np.ndarray:
        """As `SpeakerEncoder.embed`. Raises AudioPaLMError if the model gives no finite numbers."""
        if len(samples) < SHORTEST:
            return np.zeros(self.size, dtype=np.float32)
        features = filterbanks(samples)
        embedding = self._run(features - features.mean(0))[0].astype(np.float32)
        if not np.isfinite(embedding).all():
            raise AudioPaLMError(f"{self.file} gives an embedding that is not finite, for {len(samples)} samples")
        return embedding / max(np.linalg.norm(embedding), np.float32(1e-9))


def filterbanks(samples: np.ndarray) -> np.ndarray:
    """Speech `[T]` float32 at 16 kHz -> Kaldi's log filterbanks `[frames, 80]` float32, 25 ms every 10 ms, by lhotse.

    Raises AudioPaLMError if lhotse is not installed.
    """
    with torch.inference_mode():
        return _filterbank_layer()(torch.from_numpy(samples)[None])[0].numpy()


@cache
def _filterbank_layer() -> torch.nn.Module:
    try:
        from lhotse.features.kaldi.layers import Wav2LogFilterBank
    except ImportError as error:
        raise AudioPaLMError(f"--speaker_encoder needs the package lhotse ({error}); run tools/setup.sh") from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that lhotse's own manifests count frames without snip_edges
        return Wav2LogFilterBank(sampling_rate=SAMPLE_RATE, num_filters=BANDS, high_freq=0.0, snip_edges=True)
