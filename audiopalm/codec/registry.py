"""The kinds of codecs: `spectral`, the small one of the embedded corpus, and `soundstream`, ESPnet's."""

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
    """The codec of a directory with config.json, which names its `kind`, and model.safetensors.

    Raises AudioPaLMError for an unknown kind and for missing or damaged files.
    """
    path = Path(directory) / "config.json"
    return CODECS[find_kind(read_object(path, MADE_BY), CODECS, None, path)].load(directory, device)


def hash_codes(directory: str | Path) -> str:
    """SHA-256 of the weights that decide which ids speech gets: all but the decoder's.

    Codecs of one hash differ in how they sound, not in what their ids mean: tokens and acoustic models of one serve the
    others. Raises AudioPaLMError for a missing or damaged file.
    """
    return hash_weights(require(Path(directory) / "model.safetensors", MADE_BY),
                        lambda name: not name.startswith("decoder."))
