"""AudioPaLM: one decoder-only language model that listens and speaks."""

__version__ = "0.1.0"
