"""The `huggingface` kind: k-means clusters of a layer of a speech encoder of transformers.

Pairs of the encoder's 50 Hz frames are averaged to 25 Hz. What the units encode depends on the encoder's training.
Families: wav2vec 2.0 and XLS-R (`wav2vec2`), HuBERT and mHuBERT (`hubert`), w2v-BERT 2.0 (`wav2vec2-bert`), the encoder
of Whisper (`whisper`).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from audiopalm.core.config import MAX_SIZE, ranged
from audiopalm.core.errors import AudioPaLMError, nearest
from audiopalm.core.files import read_json
from audiopalm.data.audio import SAMPLE_RATE
from audiopalm.units.encoder import HOP, SpeechEncoder, count_units

WINDOW = 30 * SAMPLE_RATE  # samples of a pass over a part of a longer recording; Whisper was trained on this length
MIN_SAMPLES = 1600  # shorter recordings are padded, because the convolutions would return no frame
# model_type of config.json -> transformers' classes of the encoder and of its feature extractor
FAMILIES = {
    "wav2vec2": ("Wav2Vec2Model", "Wav2Vec2FeatureExtractor"),
    "hubert": ("HubertModel", "Wav2Vec2FeatureExtractor"),
    "wav2vec2-bert": ("Wav2Vec2BertModel", "SeamlessM4TFeatureExtractor"),
    "whisper": ("WhisperModel", "WhisperFeatureExtractor"),
}
UNUSED_KEYS = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures")  # of its config.json


@dataclass
class HuggingFaceConfig:
    """config.json for `kind: huggingface`."""

    layer: int = ranged(0, low=0, high=1000)  # the layer whose output is clustered, from 1; higher layers are dropped
    last: bool = False  # whether it is the last layer of the pretrained encoder, with the norm after all layers
    # Whisper was trained on recordings padded to 30 s, and true pads them. false encodes recordings at their own
    # length, which is many times faster and gives other features. The other families never pad.
    padded: bool = True
    size: int = ranged(1024, low=1, high=MAX_SIZE)  # codes
    encoder: dict[str, Any] = field(default_factory=dict)  # the encoder's config.json. Set by training
    extractor: dict[str, Any] = field(default_factory=dict)  # the encoder's preprocessor_config.json. Set by training


class HuggingFaceUnits(SpeechEncoder):
    """The layers of the encoder up to the clustered layer, and the encoder's feature extractor."""

    def __init__(self, config: HuggingFaceConfig):
        super().__init__()
        self.config = config
        self.family = config.encoder["model_type"]
        transformers = import_transformers()
        model, extractor = (getattr(transformers, name) for name in FAMILIES[self.family])
        settings = model.config_class(**config.encoder)
        self.encoder = bare_encoder(model(settings), config.layer, config.last)
        self.extractor = extractor(**config.extractor)
        dim = settings.d_model if self.family == "whisper" else settings.hidden_size
        self.register_buffer("codebook", torch.zeros(config.size, dim))

    def features(self, samples: Tensor) -> Iterator[Tensor]:
        for start in range(0, len(samples), WINDOW):
            part = samples[start:start + WINDOW]
            units = count_units(len(part))
            hidden = self.hidden(functional.pad(part, (0, max(units * HOP, MIN_SAMPLES) - len(part))))
            # Convolutions without padding return one frame less than two per unit; the last frame is repeated.
            frames = torch.arange(2 * units, device=hidden.device).clamp(max=len(hidden) - 1)
            yield hidden[frames].view(units, 2, -1).mean(1)

    def hidden(self, samples: Tensor) -> Tensor:
        """Samples `[T]` at 16 kHz -> the output of the layer `[frames at 50 Hz, dim]`."""
        unpadded = self.family == "whisper" and not self.config.padded
        options = {"padding": False, "truncation": False} if unpadded else {}
        inputs = self.extractor(samples.cpu().numpy(), sampling_rate=SAMPLE_RATE, return_tensors="pt", **options)
        inputs = inputs.to(samples.device)
        if unpadded:
            return whisper_of_any_length(self.encoder, inputs["input_features"])[0]
        return self.encoder(**inputs).last_hidden_state[0]


def import_transformers() -> Any:
    """The module transformers. Raises AudioPaLMError if it is not installed."""
    try:
        import transformers
    except ImportError:
        raise AudioPaLMError("units of kind huggingface need the package transformers: pip install transformers") \
            from None
    return transformers


def bare_encoder(model: nn.Module, layer: int, last: bool) -> nn.Module:
    """The encoder of `model` up to `layer`, whose `last_hidden_state` is the output of that layer.

    The output equals transformers' `hidden_states[layer]`. Some families have a norm after all layers; it is applied
    only if `layer` is the last of the pretrained encoder (`last`).
    """
    family = model.config.model_type
    if family == "whisper":
        model = model.encoder
        inner = model
    else:
        inner, model.adapter = model.encoder, None
    if family == "wav2vec2-bert":
        model.intermediate_ffn = None
    elif not last and (family == "whisper" or model.config.do_stable_layer_norm):
        inner.layer_norm = nn.Identity()
    inner.layers = inner.layers[:layer]
    return model.eval()


def whisper_of_any_length(encoder: nn.Module, mel: Tensor) -> Tensor:
    """Whisper's encoder for inputs of any length: `[B, bands, 2 T]` -> `[B, T, dim]`, with the first T positions."""
    x = functional.gelu(encoder.conv2(functional.gelu(encoder.conv1(mel)))).transpose(1, 2)
    x = x + encoder.embed_positions.weight[:x.shape[1]]
    for layer in encoder.layers:
        x = layer(x, None)
    return encoder.layer_norm(x)


def read_huggingface(directory: Path, layer: int, padded: bool, size: int) -> HuggingFaceUnits:
    """The first `layer` layers of the encoder in `directory`, in float32, with a codebook of zeros.

    Raises AudioPaLMError for a family that is not in FAMILIES, a layer that the encoder does not have, missing files
    and weights in other formats than safetensors.
    """
    transformers = import_transformers()
    settings = read_json(directory / "config.json")
    family = str(settings.get("model_type"))
    if family not in FAMILIES:
        raise AudioPaLMError(f"{directory} holds a model of type {family!r}; {nearest(family, FAMILIES)}")
    model_class, extractor_class = (getattr(transformers, name) for name in FAMILIES[family])
    try:
        extractor = extractor_class.from_pretrained(directory, local_files_only=True)
        model = model_class.from_pretrained(directory, local_files_only=True, use_safetensors=True, dtype=torch.float32)
    except (OSError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise AudioPaLMError(f"{directory} cannot be read as a speech encoder: {reason}; it needs config.json, "
                             "preprocessor_config.json and model.safetensors") from None
    name = "encoder_layers" if family == "whisper" else "num_hidden_layers"
    layers = getattr(model.config, name)
    if not 1 <= layer <= layers:
        raise AudioPaLMError(f"{directory} has layers 1 to {layers}, not {layer}")
    setattr(model.config, name, layer)
    if family == "whisper":
        model.config.decoder_layers = 0
    encoder = {key: value for key, value in model.config.to_diff_dict().items() if key not in UNUSED_KEYS}
    config = HuggingFaceConfig(layer, layer == layers, padded, size, encoder, extractor.to_dict())
    units = HuggingFaceUnits(config)
    units.encoder.load_state_dict(bare_encoder(model, layer, config.last).state_dict())
    return units
