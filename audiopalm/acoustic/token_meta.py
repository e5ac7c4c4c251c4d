"""Which tokens an acoustic model is made for: sizes, and hashes of the unit and codec models."""

from pathlib import Path

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import read_object

TOKEN_META = {"units_size": int, "units_sha256": str, "codec_size": int, "codec_levels": int, "codes_sha256": str}


def read_token_meta(tokens: str | Path) -> dict:
    """The part of meta.json that is stored with a model: sizes, and hashes of the unit and codec models."""
    path = Path(tokens) / "meta.json"
    meta = read_object(path, "stage 5 (tokenize) with --codec_tokens true", TOKEN_META)
    return {key: meta[key] for key in TOKEN_META}


def check_token_meta(expected: dict, found: dict, expected_at: object, found_at: object) -> None:
    """Raise AudioPaLMError if tokens are of another unit or codec model; the message states both values."""
    for key in TOKEN_META:
        if expected[key] != found[key]:
            raise AudioPaLMError(f"{key} differs: {expected_at} has {expected[key]}, {found_at} has {found[key]}; "
                                 "tokenize (stage 5) and train the acoustic model (stage 9) with the same models")
