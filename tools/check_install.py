#!/usr/bin/env python3
"""Print one [x] or [ ] line for each package and part. Exit code 1 if one is missing.

Run it with the Python that is asked about: `.venv/bin/python tools/check_install.py`.
"""

import importlib
import importlib.metadata
import platform
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TORCH = "2.13.0"
ESPNET = "202511"


def pinned_packages(path: Path) -> dict[str, str]:
    """`name==version` lines as {name: version}."""
    lines = (line.split("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return dict(line.split("==") for line in lines if line)


def check(name: str, test: Callable[[], str]) -> bool:
    """Print `[x] name: result`, or `[ ] name: reason` when `test` raises; True when it passed."""
    try:
        result = test()
    except Exception as error:  # an import may raise anything, and its message is the result
        print(f"[ ] {name}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
        return False
    print(f"[x] {name}: {result}")
    return True


def installed(name: str, wanted: str) -> str:
    """The installed version of a package; raises an exception if it is missing or not `wanted`."""
    found = importlib.metadata.version(name)
    if found.partition("+")[0] != wanted:
        raise ValueError(f"{found} is installed, {wanted} is wanted")
    return found


def torch_state() -> str:
    import torch

    from audiopalm.training.precision import matrix_seconds

    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "CPU"
    speed = matrix_seconds(torch.float32) / matrix_seconds(torch.bfloat16)
    return f"{device}, {torch.get_num_threads()} threads; bfloat16 is {speed:.1f} times as fast as float32 here"


def espnet_state() -> str:
    from audiopalm.core import optional

    optional.install()
    for name in ("espnet2.tasks.abs_task", "espnet2.gan_codec.soundstream.soundstream"):
        importlib.import_module(name)
    return "its tasks and its SoundStream import"


def pitch_state() -> str:
    """A first estimate: numba compiles for half a minute, and stores what later processes read."""
    import numpy as np

    from audiopalm.data.pitch import measure_pitch

    tone = np.sin(2 * np.pi * 200 / 16000 * np.arange(8000), dtype=np.float32)
    return f"a tone of 200 Hz has {np.median(measure_pitch(tone[None], 256)):.0f} Hz"


def imports(*names: str) -> Callable[[], str]:
    def test() -> str:
        for name in names:
            importlib.import_module(name)
        return "imports"
    return test


def main() -> int:
    warnings.simplefilter("ignore")
    print(f"Python {platform.python_version()} ({sys.executable}) on {platform.platform()}")
    wanted = {"torch": TORCH, "espnet": ESPNET, **pinned_packages(ROOT / "tools" / "requirements.txt")}
    sys.path.insert(0, str(ROOT))
    results = [check(name, lambda name=name, version=version: installed(name, version))
               for name, version in wanted.items()]
    results.append(check("audiopalm", lambda: importlib.import_module("audiopalm").__version__))
    results.append(check("computing", torch_state))
    results.append(check("judge: Moonshine", imports("moonshine_voice")))
    results.append(check("judge: pocketsphinx", imports("pocketsphinx")))
    results.append(check("judge: voice encoder", imports("resemblyzer")))
    results.append(check("ESPnet", espnet_state))
    results.append(check("pitch", pitch_state))
    missing = results.count(False)
    print(f"{missing} of {len(results)} are missing; run tools/setup.sh" if missing else "all in place")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
