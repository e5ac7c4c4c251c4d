"""Loading a language model for decoding: from a folder of stage 8, or from its export in Hugging Face's layout."""

from pathlib import Path

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import read_object, require, sha256
from audiopalm.lm.huggingface.pretrained import read_pretrained
from audiopalm.lm.model import Decoder
from audiopalm.lm.storage import load_model
from audiopalm.training.record import hash_model
from audiopalm.vocabulary.joint import Vocabulary


def _is_export(directory: Path) -> bool:
    return (directory / "generation_config.json").exists()


def load_decoder(directory: str | Path, vocabulary: Vocabulary, made_by: str) -> Decoder:
    """The model in `directory`. Raises AudioPaLMError if it was trained with another vocabulary."""
    directory = Path(directory)
    if not _is_export(directory):
        return load_model(directory, vocabulary, made_by)
    stated = read_object(directory / "vocabulary.json", "bin/export.py", {"layout_hash": str})
    vocabulary.check(stated["layout_hash"], str(directory))
    return read_pretrained(directory)


def describe(directory: str | Path, vocabulary: Vocabulary, made_by: str) -> dict[str, str | int]:
    """The keys `model_sha256`, `vocabulary_hash` and, unless the folder is an export, `model_seed` of a result.

    Raises AudioPaLMError for a folder without weights.
    """
    directory = Path(directory)
    if not _is_export(directory):
        weights = require(directory / "model.safetensors", made_by)
        settings = read_object(directory / "config.json", made_by, {"seed": int})
        return {"model_sha256": sha256(weights), "model_seed": settings["seed"],
                "vocabulary_hash": vocabulary.layout_hash}
    digest = hash_model(directory)
    if digest is None:
        raise AudioPaLMError(f"{directory} has no weights; export the model again (bin/export.py)")
    return {"model_sha256": digest, "vocabulary_hash": vocabulary.layout_hash}
