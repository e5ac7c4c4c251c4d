"""One recording to audio units and back to speech, by the models of a pack."""

import time
from pathlib import Path

import numpy as np

from audiopalm.acoustic.base import PROMPT_UNITS
from audiopalm.acoustic.registry import load_acoustic
from audiopalm.codec.registry import load_codec
from audiopalm.core.device import best_device
from audiopalm.core.manifest import check_manifest
from audiopalm.data.audio import SAMPLE_RATE, write_audio
from audiopalm.stages.synthesize import check_codec, check_units
from audiopalm.units.encoder import HOP
from audiopalm.units.registry import UnitTokenizer


def resynthesize(samples: np.ndarray, voice: np.ndarray, output: Path, model: Path, seed: int,
                 overrides: list[str]) -> str:
    """Write the speech of `samples` in the voice of the first 3 s of `voice`; returns a line with length and speed.

    samples, voice: `[T]` float32 at 16 kHz. model: a folder with units/, acoustic/ and codec/. overrides: settings of
    generation, KEY=VALUE. Raises AudioPaLMError for missing models and for models that do not fit each other.
    """
    check_manifest(model)
    device = best_device()
    acoustic = load_acoustic(model / "acoustic", device, overrides)
    check_units(acoustic, model / "units")
    check_codec(acoustic, model / "codec")
    tokenizer, codec = UnitTokenizer.load(model / "units", device), load_codec(model / "codec", device)
    voice = voice[:PROMPT_UNITS * HOP]
    began = time.monotonic()
    codes = acoustic.generate(tokenizer.encode([samples]), tokenizer.encode([voice]), codec.encode([voice]), seed)
    spoken = codec.decode(codes)[0]
    took = time.monotonic() - began
    write_audio(output, spoken)
    seconds = len(spoken) / SAMPLE_RATE
    return f"{output}: {seconds:.2f} s, real-time factor {took / seconds:.3f}"
