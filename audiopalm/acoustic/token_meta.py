"""The tokens that an acoustic model is trained with: sizes, and hashes of the unit and codec models."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audiopalm.core.config import MAX_SIZE, ranged
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import read_object

TOKEN_META = {"units_size": int, "units_sha256": str, "codec_size": int, "codec_levels": int, "codes_sha256": str}


@dataclass
class TokenSizes:
    """The sizes that every acoustic model has. A size of 0 stands for the size of the training tokens.

    If `levels` is smaller than the codec's number, the codec decodes without the finest levels.
    """

    units_size: int = ranged(0, low=0, high=MAX_SIZE)
    levels: int = ranged(0, low=0, high=64)
    codec_size: int = ranged(0, low=0, high=MAX_SIZE)


def read_token_meta(tokens: str | Path) -> dict[str, Any]:
    """The part of meta.json that is stored with a model: sizes, and hashes of the unit and codec models.

    Raises AudioPaLMError for a missing or damaged file.
    """
    path = Path(tokens) / "meta.json"
    meta = read_object(path, "stage 5 (tokenize) with --codec_tokens true", TOKEN_META)
    return {key: meta[key] for key in TOKEN_META}


def check_token_meta(expected: Mapping[str, Any], actual: Mapping[str, Any], expected_at: object,
                     actual_at: object) -> None:
    """Raise AudioPaLMError if tokens are of another unit or codec model; the message states both values."""
    for key in TOKEN_META:
        if expected[key] != actual[key]:
            raise AudioPaLMError(f"{key} differs: {expected_at} has {expected[key]}, {actual_at} has {actual[key]}; "
                                 "tokenize (stage 5) and train the acoustic model (stage 9) with the same models")
