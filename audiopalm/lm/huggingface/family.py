"""The parts that the adapters of all Hugging Face families share: settings of config.json, and names of weights."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from audiopalm.lm.model import ModelConfig, RopeScaling

Settings = dict[str, Any]  # a config.json of Hugging Face


class Unsupported(Exception):
    """The decoder cannot express a setting of a config.json; the message names the setting."""


# Modules of a layer: our name -> Llama's name. Families with more norms name theirs in their own file.
LAYER_NAMES = {
    "attention_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm",
    "attention.query": "self_attn.q_proj", "attention.key": "self_attn.k_proj", "attention.value": "self_attn.v_proj",
    "attention.output": "self_attn.o_proj", "attention.query_norm": "self_attn.q_norm",
    "attention.key_norm": "self_attn.k_norm",
    "mlp.gate": "mlp.gate_proj", "mlp.up": "mlp.up_proj", "mlp.down": "mlp.down_proj",
}


@dataclass(frozen=True)
class Adapter:
    """The adapter of one `model_type`.

    read: config.json -> fields of ModelConfig; raises Unsupported, and KeyError for a missing setting.
    write: the inverse, for a ModelConfig that `read` can return.
    """

    architecture: str
    read: Callable[[Settings], dict[str, Any]]
    write: Callable[[ModelConfig], Settings]
    layer_names: dict[str, str]
    norm_offset: float = 0.0  # the family's norms multiply by offset + weight, ours by weight

    def family_name(self, name: str) -> str:
        """The family's name of the weight that our decoder calls `name`."""
        *module, kind = name.split(".")
        if module[0] == "blocks":
            return f"model.layers.{module[1]}.{self.layer_names['.'.join(module[2:])]}.{kind}"
        outside = {"embedding": "model.embed_tokens", "norm": "model.norm", "head": "lm_head"}
        return f"{outside[module[0]]}.{kind}"

    def offset(self, name: str) -> float:
        """The number that is added to the family's weight to get ours, which is called `name`."""
        return self.norm_offset if name.split(".")[-2].endswith("norm") else 0.0


def expect(settings: Settings, key: str, *supported: Any) -> None:
    """Raise Unsupported unless `settings[key]` is in `supported`, whose first value is the default of the key."""
    value = settings.get(key, supported[0])
    if value not in supported:
        raise Unsupported(f"{key} {value!r} (supported: {', '.join(map(repr, supported))})")


def read_shape(settings: Settings) -> dict[str, Any]:
    """The fields that every family states in the same way."""
    return {
        "vocabulary_size": settings["vocab_size"], "dim": settings["hidden_size"],
        "layers": settings["num_hidden_layers"], "heads": settings["num_attention_heads"],
        "kv_heads": settings.get("num_key_value_heads") or settings["num_attention_heads"],
        "head_dim": settings.get("head_dim") or 0, "hidden_dim": settings["intermediate_size"],
        "norm_eps": settings.get("rms_norm_eps", 1e-6),
        "max_position_embeddings": settings.get("max_position_embeddings", 2048),
    }


def write_shape(config: ModelConfig) -> Settings:
    """The inverse of `read_shape`."""
    return {
        "vocab_size": config.vocabulary_size, "hidden_size": config.dim, "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads, "num_key_value_heads": config.kv_heads, "head_dim": config.head_dim,
        "intermediate_size": config.hidden_dim, "rms_norm_eps": config.norm_eps,
        "max_position_embeddings": config.max_position_embeddings, "tie_word_embeddings": config.tied,
    }


def read_rope(settings: Settings, theta: float = 10000.0) -> dict[str, Any]:
    """rope_theta and rope_scaling, from the keys of transformers 4 (top level) or 5 (`rope_parameters`)."""
    rope = settings.get("rope_parameters") or settings.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    scaling = None
    if kind == "llama3":
        scaling = RopeScaling(rope["factor"], rope["low_freq_factor"], rope["high_freq_factor"],
                              rope["original_max_position_embeddings"])
    elif kind != "default":
        raise Unsupported(f"rope_type {kind!r} (supported: 'default', 'llama3')")
    return {"rope_theta": float(rope.get("rope_theta") or settings.get("rope_theta") or theta),
            "rope_scaling": scaling}


def write_rope(config: ModelConfig) -> Settings:
    """The inverse of `read_rope`, in the keys of transformers 4, which transformers 5 also reads."""
    scaling = config.rope_scaling
    return {"rope_theta": config.rope_theta, "rope_scaling": None if scaling is None else {
        "rope_type": "llama3", "factor": scaling.factor, "low_freq_factor": scaling.low_freq_factor,
        "high_freq_factor": scaling.high_freq_factor, "original_max_position_embeddings": scaling.original_length}}


def read_layer_types(settings: Settings, is_local: Callable[[int], bool]) -> list[int]:
    """The layers with a sliding window, by `layer_types`, or by `is_local` in a config.json without that key.

    Raises Unsupported for other types of layers.
    """
    types = settings.get("layer_types")
    if types is None:
        return [layer for layer in range(settings["num_hidden_layers"]) if is_local(layer)]
    for kind in types:
        if kind not in ("full_attention", "sliding_attention"):
            raise Unsupported(f"layer_types with {kind!r} (supported: 'full_attention', 'sliding_attention')")
    return [layer for layer, kind in enumerate(types) if kind == "sliding_attention"]


def write_layer_types(config: ModelConfig) -> list[str]:
    """The inverse of `read_layer_types`: the type of every layer."""
    return ["sliding_attention" if layer in config.local_layers else "full_attention" for layer in range(config.layers)]
