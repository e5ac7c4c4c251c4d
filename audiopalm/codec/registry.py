"""The kinds of codecs: `spectral`, the small one of the embedded corpus, and `soundstream`, ESPnet's."""

from pathlib import Path

import torch

from audiopalm.codec.base import Codec
from audiopalm.codec.soundstream import SoundStreamCodec
from audiopalm.codec.spectral import SpectralCodec
from audiopalm.core.errors import AudioPaLMError, nearest
from audiopalm.core.files import read_json

CODECS: dict[str, type[Codec]] = {"spectral": SpectralCodec, "soundstream": SoundStreamCodec}


def load_codec(directory: str | Path, device: str | torch.device = "cpu") -> Codec:
    """The codec of a directory with config.json, which names its `kind`, and model.safetensors.

    Raises AudioPaLMError for an unknown kind and for missing or damaged files.
    """
    kind = read_json(Path(directory) / "config.json", "stage 4 (codec)").get("kind")
    if kind not in CODECS:
        raise AudioPaLMError(f"{directory}/config.json: unknown kind of codec {kind!r}; {nearest(str(kind), CODECS)}")
    return CODECS[kind].load(directory, device)
