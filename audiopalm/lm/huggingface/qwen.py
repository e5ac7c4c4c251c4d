"""Qwen2 (biases of queries, keys and values) and Qwen3 (norms of queries and keys instead)."""

from typing import Any

from audiopalm.lm.huggingface.family import (
    LAYER_NAMES,
    Adapter,
    Settings,
    expect,
    read_layer_types,
    read_rope,
    read_shape,
    write_layer_types,
    write_rope,
    write_shape,
)
from audiopalm.lm.model import ModelConfig


def _read(settings: Settings) -> dict[str, Any]:
    expect(settings, "hidden_act", "silu")
    windowed = bool(settings.get("use_sliding_window", False))
    first_local = settings.get("max_window_layers", 28)
    return read_shape(settings) | read_rope(settings) | {
        "tied": settings.get("tie_word_embeddings", False),
        "window": settings.get("sliding_window", 4096) if windowed else None,
        "local_layers": read_layer_types(settings, lambda layer: layer >= first_local) if windowed else [],
    }


def _write(config: ModelConfig) -> Settings:
    return write_shape(config) | write_rope(config) | {
        "hidden_act": "silu", "use_sliding_window": bool(config.local_layers), "sliding_window": config.window,
        "layer_types": write_layer_types(config)}


def read_qwen2(settings: Settings) -> dict[str, Any]:
    return _read(settings) | {"qkv_bias": True}


def read_qwen3(settings: Settings) -> dict[str, Any]:
    expect(settings, "attention_bias", False)
    return _read({"head_dim": 128} | settings) | {"query_key_norm": True}


QWEN2 = Adapter("Qwen2ForCausalLM", read_qwen2, _write, LAYER_NAMES)
QWEN3 = Adapter("Qwen3ForCausalLM", read_qwen3, _write, LAYER_NAMES)
