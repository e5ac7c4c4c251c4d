"""Audio tokens back to speech: SoundStorm with a voice prompt."""

from audiopalm.acoustic.generation import Acoustic, load_acoustic

__all__ = ["Acoustic", "load_acoustic"]
