"""AudioPaLM: one decoder-only language model that listens and speaks."""

import importlib

__version__ = "0.2.0"
__all__ = ["AudioPaLM"]


def __getattr__(name: str):
    """`from audiopalm import AudioPaLM` without the seconds that torch takes to import for everything else."""
    if name == "AudioPaLM":
        # A linter would take an import statement for a circle: files below import this one for its version.
        return importlib.import_module("audiopalm.inference").AudioPaLM
    raise AttributeError(f"module 'audiopalm' has no attribute {name!r}")
