"""Gemma 2 (soft-capped scores and logits) and the text models of Gemma 3 (norms of queries and keys instead)."""

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

# A layer has four norms. Llama's post_attention_layernorm stands before the MLP, Gemma's right after the attention.
NAMES = LAYER_NAMES | {
    "attention_post_norm": "post_attention_layernorm", "mlp_norm": "pre_feedforward_layernorm",
    "mlp_post_norm": "post_feedforward_layernorm",
}


def _read(settings: Settings) -> dict[str, Any]:
    expect(settings, "hidden_activation", "gelu_pytorch_tanh")
    expect(settings, "attention_bias", False)
    expect(settings, "use_bidirectional_attention", False, None)
    return read_shape({"head_dim": 256} | settings) | {
        "tied": settings.get("tie_word_embeddings", True), "scale_embedding": True, "activation": "gelu_tanh",
        "post_norms": True, "attention_divisor": settings.get("query_pre_attn_scalar", 256),
        "window": settings.get("sliding_window", 4096),
    }


def _write(config: ModelConfig) -> Settings:
    return write_shape(config) | write_rope(config) | {
        "hidden_activation": "gelu_pytorch_tanh", "query_pre_attn_scalar": config.attention_divisor,
        "sliding_window": config.window, "layer_types": write_layer_types(config),
        "attn_logit_softcapping": config.attention_cap, "final_logit_softcapping": config.logit_cap}


def read_gemma2(settings: Settings) -> dict[str, Any]:
    return _read(settings) | read_rope(settings) | {
        "local_layers": read_layer_types(settings, lambda layer: layer % 2 == 0),
        "attention_cap": settings.get("attn_logit_softcapping", 50.0),
        "logit_cap": settings.get("final_logit_softcapping", 30.0),
    }


def read_gemma3(settings: Settings) -> dict[str, Any]:
    expect(settings, "attn_logit_softcapping", None)  # transformers reads it and computes without it
    pattern = settings.get("sliding_window_pattern", 6)
    rope = settings.get("rope_parameters") or {}
    everywhere = settings | {"rope_parameters": rope.get("full_attention")}
    local = {"rope_theta": settings.get("rope_local_base_freq"), "rope_parameters": rope.get("sliding_attention")}
    return _read(settings) | read_rope(everywhere, theta=1e6) | {
        "local_rope_theta": read_rope(local)["rope_theta"], "query_key_norm": True,
        "local_layers": read_layer_types(settings, lambda layer: (layer + 1) % pattern != 0),
        "logit_cap": settings.get("final_logit_softcapping"),
    }


def write_gemma3(config: ModelConfig) -> Settings:
    return _write(config) | {"rope_local_base_freq": config.local_rope_theta}


GEMMA2 = Adapter("Gemma2ForCausalLM", read_gemma2, _write, NAMES, norm_offset=1.0)
GEMMA3 = Adapter("Gemma3ForCausalLM", read_gemma3, write_gemma3, NAMES, norm_offset=1.0)
