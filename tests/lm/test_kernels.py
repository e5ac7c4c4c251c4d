"""The CPU kernels of a decode step."""

import os
import subprocess
import sys

PROGRAM = """
import numpy as np
from audiopalm.lm.generation.cpu.kernels import attend_step
random = np.random.default_rng(0)
def draw(*shape): return random.standard_normal(shape).astype(np.float32)
out = np.empty((4, 32), np.float32)
attend_step(draw(4, 8, 8), 4, draw(4, 8), draw(4, 8), draw(8, 64, 8), draw(8, 64, 8), np.array([9, 30, 5, 0]), 64,
            np.float32(0.35), np.float32(0), 3, out)
print(out.tobytes().hex())
"""


def test_kernels_from_the_cache_of_numba_give_the_same_bits(tmp_path):
    """The first process compiles and fills numba's cache, the second one loads the code."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    first, second = (subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True,
                                    check=True).stdout for _ in range(2))
    assert any(tmp_path.rglob("*.nbc"))
    assert first == second
