"""Llama (SmolLM2, TinyLlama, Llama 2 and 3) and Mistral, which has a sliding window in all layers or in none."""

from typing import Any

from audiopalm.lm.huggingface.family import (
    LAYER_NAMES,
    Adapter,
    Settings,
    expect,
    read_rope,
    read_shape,
    write_rope,
    write_shape,
)
from audiopalm.lm.model import ModelConfig


def read_llama(settings: Settings) -> dict[str, Any]:
    expect(settings, "hidden_act", "silu")
    expect(settings, "attention_bias", False)
    expect(settings, "mlp_bias", False)
    return read_shape(settings) | read_rope(settings) | {"tied": settings.get("tie_word_embeddings", False)}


def write_llama(config: ModelConfig) -> Settings:
    return write_shape(config) | write_rope(config) | {"hidden_act": "silu"}


def read_mistral(settings: Settings) -> dict[str, Any]:
    window = settings.get("sliding_window", 4096)
    layers = [] if window is None else list(range(settings["num_hidden_layers"]))
    return read_llama(settings) | {"window": window, "local_layers": layers}


def write_mistral(config: ModelConfig) -> Settings:
    return write_llama(config) | {"sliding_window": config.window}


LLAMA = Adapter("LlamaForCausalLM", read_llama, write_llama, LAYER_NAMES)
MISTRAL = Adapter("MistralForCausalLM", read_mistral, write_mistral, LAYER_NAMES)
