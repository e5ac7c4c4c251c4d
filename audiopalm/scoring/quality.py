"""How clean speech sounds, without a reference: DNSMOS (speechmos 0.0.1.1, MIT), overall quality from 1 to 5.

DNSMOS was made for noise suppression. It ranks some robotic synthesisers above people, so it measures noise and
artefacts, not naturalness.
"""

from functools import cache
from types import ModuleType

import numpy as np

from audiopalm.core.errors import AudioPaLMError
from audiopalm.data.audio import SAMPLE_RATE

SIGNATURE = "speechmos 0.0.1.1 DNSMOS OVRL"


@cache
def _scorer() -> ModuleType:
    try:
        from speechmos import dnsmos
    except ImportError:
        raise AudioPaLMError("DNSMOS needs the packages speechmos and onnxruntime; run tools/setup.sh") from None
    return dnsmos


def dnsmos(samples: np.ndarray) -> float:
    """The overall score of speech `[T]` at 16 kHz. DNSMOS repeats speech that is shorter than its window of 9 s.

    Raises AudioPaLMError if its packages are not installed.
    """
    # DNSMOS refuses samples outside [-1, 1]; the output of a codec may exceed this range slightly.
    return float(_scorer().run(np.clip(samples, -1, 1), SAMPLE_RATE)["ovrl_mos"])
