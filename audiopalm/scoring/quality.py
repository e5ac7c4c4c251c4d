"""How clean speech sounds, without a reference: DNSMOS (speechmos 0.0.1.1, MIT), overall quality from 1 to 5.

It was made for noise suppression. It ranks some robotic synthesisers above people: read it as noise and artefacts, not
as naturalness.
"""

from functools import cache

import numpy as np

from audiopalm.core.errors import AudioPaLMError
from audiopalm.data.audio import SAMPLE_RATE

SIGNATURE = "speechmos 0.0.1.1 DNSMOS OVRL"


@cache
def _scorer():
    try:
        from speechmos import dnsmos
    except ImportError:
        raise AudioPaLMError("DNSMOS needs the packages speechmos and onnxruntime; run tools/setup.sh") from None
    return dnsmos


def dnsmos(samples: np.ndarray) -> float:
    """The overall score of `[T]` at 16 kHz; what is shorter than its window of 9 s is repeated by it."""
    # It refuses samples outside [-1, 1], which a codec may write by a hair.
    return float(_scorer().run(np.clip(samples, -1, 1), SAMPLE_RATE)["ovrl_mos"])
