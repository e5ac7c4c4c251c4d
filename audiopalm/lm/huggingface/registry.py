"""The adapter of each `model_type` of Hugging Face."""

from audiopalm.core.errors import AudioPaLMError, nearest
from audiopalm.lm.huggingface.family import Adapter
from audiopalm.lm.huggingface.gemma import GEMMA2, GEMMA3
from audiopalm.lm.huggingface.llama import LLAMA, MISTRAL
from audiopalm.lm.huggingface.qwen import QWEN2, QWEN3

ADAPTERS = {
    "llama": LLAMA,
    "mistral": MISTRAL,
    "qwen2": QWEN2,
    "qwen3": QWEN3,
    "gemma2": GEMMA2,
    "gemma3_text": GEMMA3,
}


def get_adapter(model_type: str, where: object) -> Adapter:
    """The adapter of `model_type`, which the file `where` states.

    Raises AudioPaLMError for an unknown type and names the nearest known type.
    """
    if model_type not in ADAPTERS:
        raise AudioPaLMError(f"{where}: model_type {model_type!r} cannot be read; {nearest(model_type, ADAPTERS)}")
    return ADAPTERS[model_type]
