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

    Raises AudioPaLMError for a missing file, and for a file that is not such a model.
    """

    suffix = "_onnx"

    def __init__(self, file: str | Path):
        from onnxruntime import InferenceSession, SessionOptions

        options = SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        try:
            self.session = InferenceSession(str(require(file)), options, providers=["CPUExecutionProvider"])
        except AudioPaLMError:
            raise
        except Exception as error:  # onnxruntime's errors have no common class
            raise AudioPaLMError(f"{file} is not an ONNX model: {str(error).splitlines()[0]}") from None
        inputs, outputs = self.session.get_inputs(), self.session.get_outputs()
        if len(inputs) != 1 or len(inputs[0].shape) != 3 or inputs[0].shape[-1] not in (BANDS, None):
            raise AudioPaLMError(f"{file} is not a speaker encoder of {BANDS} filterbanks: its inputs are "
                                 + ", ".join(f"{each.name} {each.shape}" for each in inputs))
        if not isinstance(outputs[0].shape[-1], int):
            raise AudioPaLMError(f"{file} is not a speaker encoder: its output {outputs[0].name} has no fixed size")
        self.size = outputs[0].shape[-1]
        self.signature = f"{Path(file).name} {sha256(file):.8}"

    def embed(self, samples: np.ndarray) -> np.ndarray:
        if len(samples) < SHORTEST:
            return np.zeros(self.size, dtype=np.float32)
        features = filterbanks(samples)
        features -= features.mean(0)
        embedding = self.session.run(None, {self.session.get_inputs()[0].name: features[None]})[0][0]
        return (embedding / max(np.linalg.norm(embedding), 1e-9)).astype(np.float32)


def filterbanks(samples: np.ndarray) -> np.ndarray:
    """Speech `[T]` float32 at 16 kHz -> Kaldi's log filterbanks `[frames, 80]` float32, 25 ms every 10 ms, by lhotse.

    Raises AudioPaLMError if lhotse is not installed.
    """
    with torch.inference_mode():
        return _filterbank_layer()(torch.from_numpy(samples)[None])[0].numpy().copy()


@cache
def _filterbank_layer() -> torch.nn.Module:
    try:
        from lhotse.features.kaldi.layers import Wav2LogFilterBank
    except ImportError as error:
        raise AudioPaLMError(f"--speaker_encoder needs the package lhotse ({error}); run tools/setup.sh") from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that lhotse's own manifests count frames without snip_edges
        return Wav2LogFilterBank(sampling_rate=SAMPLE_RATE, num_filters=BANDS, high_freq=0.0, snip_edges=True)
