"""The kinds of codecs: `spectral`, the small codec of the embedded corpus, and `soundstream`, ESPnet's SoundStream."""

from pathlib import Path

import torch

from audiopalm.codec.base import MADE_BY, Codec
from audiopalm.codec.soundstream import SoundStreamCodec
from audiopalm.codec.spectral import SpectralCodec
from audiopalm.core.config import find_kind
from audiopalm.core.files import read_object, require
from audiopalm.core.weights import hash_weights

CODECS: dict[str, type[Codec]] = {"spectral": SpectralCodec, "soundstream": SoundStreamCodec}


def load_codec(directory: str | Path, device: str | torch.device = "cpu") -> Codec:
    """The codec in a directory with config.json, which names its `kind`, and model.safetensors.

    Raises AudioPaLMError for an unknown kind and for missing or damaged files.
    """
    path = Path(directory) / "config.json"
    return CODECS[find_kind(read_object(path, MADE_BY), CODECS, None, path)].load(directory, device)


def hash_codes(directory: str | Path) -> str:
    """The SHA-256 of the weights that determine the ids of speech: all weights except the decoder's.

    Codecs with equal hashes give the same ids and differ in sound only. They can share tokens and acoustic models.
    Raises AudioPaLMError for a missing or damaged file.
    """
    return hash_weights(require(Path(directory) / "model.safetensors", MADE_BY),
                        lambda name: not name.startswith("decoder."))
