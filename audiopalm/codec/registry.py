"""The kinds of codecs: `spectral`, the small one of the embedded corpus, and `soundstream`, ESPnet's."""

from pathlib import Path

import torch

from audiopalm.codec.base import MADE_BY, Codec
from audiopalm.codec.soundstream import SoundStreamCodec
from audiopalm.codec.spectral import SpectralCodec
from audiopalm.core.config import find_kind
from audiopalm.core.files import read_object

CODECS: dict[str, type[Codec]] = {"spectral": SpectralCodec, "soundstream": SoundStreamCodec}


def load_codec(directory: str | Path, device: str | torch.device = "cpu") -> Codec:
    """The codec of a directory with config.json, which names its `kind`, and model.safetensors.

    Raises AudioPaLMError for an unknown kind and for missing or damaged files.
    """
    path = Path(directory) / "config.json"
    return CODECS[find_kind(read_object(path, MADE_BY), CODECS, None, path)].load(directory, device)
