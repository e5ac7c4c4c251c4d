"""Each family of Hugging Face models against transformers, on tiny random models in float32."""

import json

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.hub import find_pretrained
from audiopalm.lm.attention_maps import attention_maps
from audiopalm.lm.generation.cache import CachedDecoder
from audiopalm.lm.huggingface.pretrained import read_config, read_pretrained, write_pretrained
from audiopalm.lm.huggingface.registry import ADAPTERS
from audiopalm.lm.model import Decoder, ModelConfig
from audiopalm.lm.packed_attention import packed_mask
from audiopalm.lm.storage import extend_vocabulary

SIZE, LENGTH = 60, 23
SHAPE = {"vocab_size": SIZE, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
         "num_attention_heads": 4, "num_key_value_heads": 2, "bos_token_id": None, "eos_token_id": 3,
         "pad_token_id": None}
LLAMA3 = {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 16, "rope_theta": 100.0}
GEMMA = {"head_dim": 12, "query_pre_attn_scalar": 20, "sliding_window": 5}
CASES = {
    "llama tied": ("llama", {"tie_word_embeddings": True}),
    "llama untied, rope of Llama 3": ("llama", {"rope_parameters": LLAMA3, "num_key_value_heads": 1}),
    "mistral, window": ("mistral", {"sliding_window": 6, "head_dim": 16}),
    "qwen2": ("qwen2", {"tie_word_embeddings": True}),
    "qwen2, window": ("qwen2", {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1}),
    "qwen3": ("qwen3", {"head_dim": 16}),
    "gemma2": ("gemma2", {**GEMMA, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0}),
    "gemma3": ("gemma3_text", {**GEMMA, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}),
}


@pytest.fixture(params=CASES, ids=lambda name: name.replace(" ", "_"))
def theirs(request):
    return make_theirs(request.param)


def make_theirs(case: str):
    """A model of transformers with weights and norms away from their initial values, so that each has an effect."""
    transformers = pytest.importorskip("transformers")
    family, options = CASES[case]
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(family, **SHAPE | options)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return model


@pytest.fixture
def folder(theirs, tmp_path):
    theirs.save_pretrained(tmp_path / "theirs")
    return tmp_path / "theirs"


def ours_logits(model: Decoder, ids: torch.Tensor) -> torch.Tensor:
    positions = torch.arange(ids.shape[1]).expand_as(ids)
    return model.logits(model.hidden(ids, positions, packed_mask(torch.ones_like(ids))))


def some_ids(size: int = SIZE) -> torch.Tensor:
    return torch.randint(0, size, (2, LENGTH), generator=torch.Generator().manual_seed(1))


def test_logits_and_gradients_are_those_of_transformers(theirs, folder):
    """Sequences are longer than the sliding windows and than the length that Llama 3's rope starts from."""
    model, ids = read_pretrained(folder).eval(), some_ids()
    logits, expected = ours_logits(model, ids), theirs(ids).logits
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
    for result in (logits, expected):
        expected_loss = F.cross_entropy(result[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
        expected_loss.backward()
    gradients = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    adapter = ADAPTERS[model.config.family]
    assert len(gradients) == len(list(model.parameters()))
    for name, parameter in model.named_parameters():
        assert parameter.grad.abs().max() > 0, name
        torch.testing.assert_close(parameter.grad, gradients[adapter.family_name(name)], rtol=1e-3, atol=1e-6, msg=name)
    # The loss of the packed training step is the same cross entropy.
    loss, count = model(ids, torch.ones_like(ids), torch.arange(LENGTH).expand_as(ids),
                        torch.cat([ids[:, 1:], torch.full((2, 1), -100)], dim=1))
    assert float(loss.detach() / count) == pytest.approx(float(expected_loss.detach()), rel=1e-5)


@torch.inference_mode()
def test_attention_maps_are_those_of_transformers(theirs, folder):
    """Also with shared keys, windows and caps. The page of stage 13 draws these maps."""
    ids = some_ids()
    expected = theirs(ids, output_attentions=True).attentions  # of each layer, [2, heads, T, T]
    for row in range(len(ids)):
        maps = attention_maps(read_pretrained(folder), ids[row])
        torch.testing.assert_close(maps, torch.stack([layer[row].mean(dim=0) for layer in expected]),
                                   rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@torch.inference_mode()
def test_logits_with_a_cache_are_those_without(theirs, folder, monkeypatch, dtype):
    """Prompts of two lengths in chunks of four, then one token of each at a time; float32 is computed by
    audiopalm/lm/generation/cpu/kernels.py, all else by PyTorch."""
    monkeypatch.setattr("audiopalm.lm.generation.cache.PREFILL_CHUNK", 4)
    model, ids = read_pretrained(folder).eval().to(dtype), some_ids()
    expected = ours_logits(model, ids)
    decoder, lengths = CachedDecoder(model, 2, LENGTH), [9, 13, 0, 0]
    hidden = torch.stack([decoder.prefill(row, ids[row, :lengths[row]]) for row in (0, 1)])
    torch.testing.assert_close(decoder.logits(hidden), expected[[0, 1], [8, 12]], rtol=1e-4, atol=1e-5)
    while lengths[1] < LENGTH:
        tokens = torch.tensor([ids[0, lengths[0]], ids[1, lengths[1]], 0, 0])
        logits = decoder.logits(decoder.step(tokens, lengths))
        torch.testing.assert_close(logits[:2], expected[[0, 1], lengths[:2]], rtol=1e-4, atol=1e-5)
        lengths = [lengths[0] + 1, lengths[1] + 1, 0, 0]


@pytest.mark.parametrize("shard_bytes", [10**9, 10_000])
@torch.inference_mode()
def test_transformers_computes_the_same_with_the_export_of_an_extended_model(theirs, folder, tmp_path, shard_bytes):
    """Text logits are those of the original model, and greedy decoding writes the same ids."""
    from transformers import AutoModelForCausalLM
    model = extend_vocabulary(read_pretrained(folder), 20, "normal").eval()
    write_pretrained(model, tmp_path / "export", eos=3, shard_bytes=shard_bytes)
    assert (tmp_path / "export" / "model.safetensors").exists() == (shard_bytes == 10**9)
    for file in (tmp_path / "export").glob("*.safetensors"):
        with safe_open(file, framework="pt") as stream:
            assert stream.metadata() == {"format": "pt"}
    exported = AutoModelForCausalLM.from_pretrained(tmp_path / "export", attn_implementation="eager").eval()
    assert type(exported) is type(theirs) and exported.config.vocab_size == SIZE + 20
    ids = some_ids(SIZE + 20)
    torch.testing.assert_close(ours_logits(model, ids), exported(ids).logits, rtol=1e-4, atol=1e-5)
    text = some_ids()
    torch.testing.assert_close(exported(text).logits[..., :SIZE], theirs(text).logits, rtol=1e-5, atol=1e-6)
    written = exported.generate(ids, max_new_tokens=20)[:, LENGTH:]
    for row, start in zip(written, ids, strict=True):
        assert row.tolist() == greedy(model, start, 20)[:len(row)]  # transformers stops where all rows have ended
    again = read_pretrained(tmp_path / "export")
    assert again.config == model.config
    for name, value in model.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, rtol=0, atol=2e-7)


def greedy(model: Decoder, prompt: torch.Tensor, steps: int, eos: int = 3) -> list[int]:
    ids = prompt.tolist()
    while len(ids) < len(prompt) + steps and (len(ids) == len(prompt) or ids[-1] != eos):
        ids.append(int(ours_logits(model, torch.tensor([ids]))[0, -1].argmax()))
    return ids[len(prompt):] + [eos] * (len(prompt) + steps - len(ids))  # transformers pads with <eos>


@pytest.mark.parametrize("options", [{}, {"scale_embedding": True}, {"tied": False, "scale_embedding": True}])
@torch.inference_mode()
def test_a_model_trained_from_nothing_is_exported_as_llama(tmp_path, options):
    """The factor of our embeddings, which Llama does not have, is multiplied into them exactly."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    model = Decoder(ModelConfig(80, dim=40, layers=2, heads=5, kv_heads=5, hidden_dim=48, dropout=0.1, **options))
    model = model.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    write_pretrained(model, tmp_path, eos=3)
    exported = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert isinstance(exported, transformers.LlamaForCausalLM)
    ids = some_ids(80)
    torch.testing.assert_close(ours_logits(model, ids), exported(ids).logits, rtol=1e-5, atol=1e-6)
    written = exported.generate(ids, max_new_tokens=20)[:, LENGTH:]
    assert [row.tolist() for row in written] == [greedy(model, start, 20) for start in ids]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_setting_that_the_family_does_not_have_is_not_exported(tmp_path):
    model = Decoder(ModelConfig(30, dim=16, layers=1, heads=2, kv_heads=1, hidden_dim=16, parallel_block=True))
    with pytest.raises(AudioPaLMError, match="family llama have no parallel_block=True"):
        write_pretrained(model, tmp_path / "export", eos=3)
    assert not (tmp_path / "export").exists()


# ---- config.json of older and newer versions of transformers -------------------------------------------------------

def write_settings(folder, **settings):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(SHAPE | settings))
    return folder


def test_configurations_of_transformers_4_are_read(tmp_path):
    """As the published Gemma 3, Gemma 2, Mistral and TinyLlama state them: no layer_types, no rope_parameters."""
    shape = {**GEMMA, "num_hidden_layers": 8}
    gemma3 = read_config(write_settings(tmp_path, **shape, model_type="gemma3_text", sliding_window_pattern=3,
                                        rope_theta=500000, rope_local_base_freq=700))
    assert gemma3.local_layers == [0, 1, 3, 4, 6, 7] and gemma3.tied
    assert (gemma3.rope_theta, gemma3.local_rope_theta, gemma3.attention_cap) == (500000, 700, None)
    gemma2 = read_config(write_settings(tmp_path, **shape, model_type="gemma2"))
    assert gemma2.local_layers == [0, 2, 4, 6] and (gemma2.attention_cap, gemma2.logit_cap) == (50, 30)
    mistral = read_config(write_settings(tmp_path, model_type="mistral", sliding_window=None, head_dim=None))
    assert (mistral.local_layers, mistral.head_dim) == ([], 8)
    llama = read_config(write_settings(tmp_path, model_type="llama", num_key_value_heads=None, rope_theta=5e5))
    assert (llama.kv_heads, llama.rope_theta, llama.tied) == (4, 5e5, False)


@pytest.mark.parametrize("settings, message", [
    ({"model_type": "qwen25"}, "model_type 'qwen25' cannot be read; did you mean 'qwen2'? known: gemma2, gemma3_text"),
    ({}, "model_type 'None' cannot be read; known: gemma2"),
    ({"model_type": "llama", "hidden_act": "gelu"}, "hidden_act 'gelu' (supported: 'silu')"),
    ({"model_type": "llama", "attention_bias": True}, "attention_bias True"),
    ({"model_type": "llama", "rope_scaling": {"type": "yarn"}}, "rope_type 'yarn' (supported: 'default', 'llama3')"),
    ({"model_type": "qwen3", "quantization_config": {"bits": 4}}, "quantization_config {'bits': 4}"),
    ({"model_type": "gemma2", "layer_types": ["chunked_attention"]}, "layer_types with 'chunked_attention'"),
])
def test_unknown_families_and_settings_are_named(tmp_path, settings, message):
    with pytest.raises(AudioPaLMError) as error:
        read_config(write_settings(tmp_path, **settings))
    assert message in str(error.value) and str(tmp_path) in str(error.value) and "\n" not in str(error.value)


def test_an_absent_setting_is_named(tmp_path):
    folder = write_settings(tmp_path, model_type="llama")
    settings = json.loads((folder / "config.json").read_text())
    del settings["hidden_size"]
    (folder / "config.json").write_text(json.dumps(settings))
    with pytest.raises(AudioPaLMError, match="does not say 'hidden_size', which a llama model needs"):
        read_config(folder)


# ---- weights that do not fit ----------------------------------------------------------------------------------------

@pytest.fixture
def llama(tmp_path):
    model = Decoder(ModelConfig(30, dim=16, layers=1, heads=2, kv_heads=1, hidden_dim=16))
    write_pretrained(model, tmp_path / "llama", eos=3)
    return tmp_path / "llama"


def change(folder, **changes) -> None:
    """Set the weights of a folder, or remove them where the value is None. `__` in a name stands for a dot."""
    state = load_file(folder / "model.safetensors")
    for name, value in changes.items():
        state.pop(name.replace("__", "."), None)
        if value is not None:
            state[name.replace("__", ".")] = value
    save_file(state, folder / "model.safetensors")


@pytest.mark.parametrize("changes, message", [
    ({"model__norm__weight": None}, "lacks 1 weights of a llama model, e.g. model.norm.weight"),
    ({"model__layers__0__self_attn__q_proj__bias": torch.ones(16)}, "e.g. model.layers.0.self_attn.q_proj.bias"),
    ({"model__norm__weight": torch.ones(17)}, "model.norm.weight has shape (17,), by config.json it has (16,)"),
])
def test_weights_that_do_not_fit_are_named(llama, changes, message):
    change(llama, **changes)
    with pytest.raises(AudioPaLMError) as error:
        read_pretrained(llama)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_superfluous_weights_are_ignored(llama):
    """Old versions saved buffers beside the parameters, or the tied softmax a second time."""
    change(llama, lm_head__weight=torch.ones(30, 16), model__layers__0__self_attn__rotary_emb__inv_freq=torch.ones(4))
    assert read_pretrained(llama).head is None


def test_bfloat16_is_read_as_float32(llama):
    change(llama, model__norm__weight=torch.full((16,), 1.5, dtype=torch.bfloat16))
    assert read_pretrained(llama).norm.weight.dtype == torch.float32


def test_damaged_and_absent_weights_are_named(llama):
    (llama / "model.safetensors").write_bytes(b"\x08" * 20)
    with pytest.raises(AudioPaLMError, match="model.safetensors is damaged"):
        read_pretrained(llama)
    (llama / "model.safetensors").unlink()
    with pytest.raises(AudioPaLMError, match="neither model.safetensors nor"):
        read_pretrained(llama)


def test_a_hub_id_without_network_is_one_line(monkeypatch):
    pytest.importorskip("huggingface_hub")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name in ("nobody/nothing-at-all", "../no/such/folder"):
        with pytest.raises(AudioPaLMError) as error:
            find_pretrained(name)
        assert f"{name} is not a folder, and the Hugging Face hub does not give it" in str(error.value)
        assert "\n" not in str(error.value)
