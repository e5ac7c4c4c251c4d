"""Stand-ins for absent requirements of espnet raise errors that name the missing package."""

import importlib.util
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(importlib.util.find_spec("espnet2") is None, reason="espnet is not installed")

PROGRAM = """
import sys
sys.modules["torchaudio"] = None  # as if it were absent
from audiopalm.core import optional
absent = optional.install()
sys.modules.pop("torchaudio", None)
assert "torchaudio" in absent and optional.install() == absent
import torchaudio.functional
from torchaudio.functional import resample
assert not isinstance(1, torchaudio.Anything)
try:
    resample(1, 2, 3)
except ImportError as error:
    print(error)
"""


def test_a_stand_in_names_the_missing_package_when_it_is_called():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    expected = "torchaudio.functional.resample was used, but torchaudio is not installed"
    assert done.stdout.strip() == expected, done.stderr
