"""Models of the Hugging Face hub: found in a folder, in the hub's cache, or downloaded."""

from pathlib import Path

from audiopalm.core.errors import AudioPaLMError


def find_pretrained(source: str) -> Path:
    """The folder of `source`: itself, or the copy in the cache of a hub id, which is downloaded if need be."""
    if Path(source).is_dir():
        return Path(source)
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise AudioPaLMError(f"{source} is not a folder, and huggingface_hub, which finds models of the hub, is not "
                             "installed; give a folder with config.json, or pip install huggingface_hub") from None
    try:
        return Path(snapshot_download(source, allow_patterns=["*.json", "model*.safetensors", "tokenizer.model"],
                                      ignore_patterns=["*/*"]))
    except Exception as error:  # of the hub, the network, or a name that cannot be one: the same to the user
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise AudioPaLMError(f"{source} is not a folder, and the Hugging Face hub does not give it ({reason}); give a "
                             "folder with config.json and model.safetensors") from None
