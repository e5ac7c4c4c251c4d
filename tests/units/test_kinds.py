"""Every kind of units: features are those of the encoder, and ids are those of the nearest codes."""

import json

import numpy as np
import pytest
import torch
import transformers
from sklearn.metrics import pairwise_distances_argmin

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import read_json
from audiopalm.core.quantiser import nearest
from audiopalm.units.huggingface import read_huggingface
from audiopalm.units.log_mel import LogMelConfig, LogMelUnits
from audiopalm.units.registry import UnitTokenizer, save_units
from audiopalm.units.speech_batches import SpeechBatch
from audiopalm.units.w2v_bert import W2vBert, W2vBertConfig, contrast, draw_mask
from audiopalm.units.w2v_bert_training import start_targets

SIZES = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16}
CONVOLUTIONS = {**SIZES, "num_hidden_layers": 3, "conv_dim": [8] * 7, "num_conv_pos_embeddings": 4,
                "num_conv_pos_embedding_groups": 2}
WHISPER = {"d_model": 16, "encoder_layers": 3, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_ffn_dim": 8,
           "decoder_attention_heads": 2, "encoder_ffn_dim": 16, "vocab_size": 20, "pad_token_id": 0, "bos_token_id": 1,
           "eos_token_id": 1, "decoder_start_token_id": 1}
ENCODERS = {  # family -> class and settings of a tiny random encoder, class and settings of its feature extractor
    "wav2vec2": (transformers.Wav2Vec2Model, {**CONVOLUTIONS}, transformers.Wav2Vec2FeatureExtractor, {}),
    "xls-r": (transformers.Wav2Vec2Model, {**CONVOLUTIONS, "do_stable_layer_norm": True, "feat_extract_norm": "layer"},
              transformers.Wav2Vec2FeatureExtractor, {"return_attention_mask": True}),
    "hubert": (transformers.HubertModel, {**CONVOLUTIONS}, transformers.Wav2Vec2FeatureExtractor,
               {"do_normalize": False}),
    "w2v-bert-2.0": (transformers.Wav2Vec2BertModel, {**SIZES, "num_hidden_layers": 3, "add_adapter": True,
                                                      "output_hidden_size": 16},
                     transformers.SeamlessM4TFeatureExtractor, {}),
    "whisper": (transformers.WhisperModel, WHISPER, transformers.WhisperFeatureExtractor, {}),
}


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, samples).astype(np.float32)


@pytest.fixture(scope="module", params=ENCODERS)
def pretrained(request, tmp_path_factory):
    """(folder as the hub has it, the encoder of transformers, its feature extractor)"""
    model_class, settings, extractor_class, options = ENCODERS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(0)
    model, extractor = model_class(model_class.config_class(**settings)).eval(), extractor_class(**options)
    for name, value in model.named_parameters():
        if "norm" in name:  # away from 1 and 0, so that a norm that is omitted or misplaced has an effect
            value.data += 0.3 * torch.randn_like(value)
    model.save_pretrained(folder)
    extractor.save_pretrained(folder)
    return folder, model.encoder if request.param == "whisper" else model, extractor


@torch.no_grad()
def expected(encoder, extractor, samples: np.ndarray, layer: int) -> torch.Tensor:
    """Units `[units, dim]` by transformers: its `hidden_states`, with a repeated last frame where one is missing."""
    units = -(-len(samples) // 640)
    samples = np.pad(samples, (0, max(640 * units, 1600) - len(samples)))
    inputs = extractor(samples, sampling_rate=16000, return_tensors="pt")
    output = encoder(**inputs, output_hidden_states=True)
    # The last layer is the output of the encoder: with the final norm of some families, without w2v-bert's adapter.
    last = layer == 3 and not getattr(encoder.config, "add_adapter", False)
    hidden = (output.last_hidden_state if last else output.hidden_states[layer])[0]
    hidden = torch.cat([hidden, hidden[-1:]])[:2 * units]
    return (hidden[0::2] + hidden[1::2]) / 2


@pytest.mark.parametrize("layer", [2, 3])
def test_features_are_the_hidden_states_of_transformers_in_pairs(pretrained, layer, tmp_path):
    folder, encoder, extractor = pretrained
    model = read_huggingface(folder, layer, padded=True, size=8)
    model.codebook.normal_()
    save_units(model, tmp_path)
    loaded = UnitTokenizer.load(tmp_path)
    for samples in (noise(16000), noise(16001), noise(1)):
        theirs = expected(encoder, extractor, samples, layer)
        with torch.no_grad():
            features = torch.cat(list(loaded.model.features(torch.from_numpy(samples))))
        torch.testing.assert_close(features, theirs, rtol=0, atol=2e-5)
        assert len(set(theirs.flatten().tolist())) > 2
        assert np.array_equal(loaded.encode([samples])[0], pairwise_distances_argmin(features, model.codebook))


def test_whisper_without_padding_is_whisper_with_fewer_positions(tmp_path):
    torch.manual_seed(0)
    whole = transformers.WhisperModel(transformers.WhisperConfig(**WHISPER)).eval()
    whole.save_pretrained(tmp_path)
    transformers.WhisperFeatureExtractor().save_pretrained(tmp_path)
    short = transformers.WhisperModel(transformers.WhisperConfig(**WHISPER, max_source_positions=50)).eval()
    state = whole.state_dict()
    state["encoder.embed_positions.weight"] = state["encoder.embed_positions.weight"][:50]
    short.load_state_dict(state)
    samples = noise(16000)
    mel = transformers.WhisperFeatureExtractor(chunk_length=1)(samples, sampling_rate=16000, return_tensors="pt")
    with torch.no_grad():
        hidden = short.encoder(**mel, output_hidden_states=True).hidden_states[2][0]
        features = torch.cat(list(read_huggingface(tmp_path, 2, False, 8).features(torch.from_numpy(samples))))
        padded = torch.cat(list(read_huggingface(tmp_path, 2, True, 8).features(torch.from_numpy(samples))))
    torch.testing.assert_close(features, (hidden[0::2] + hidden[1::2]) / 2, rtol=0, atol=2e-5)
    assert (padded - features).abs().max() > 1e-3


def test_a_recording_longer_than_the_window_is_encoded_in_parts(tmp_path):
    model_class, settings, extractor_class, _ = ENCODERS["hubert"]
    model_class(model_class.config_class(**settings)).save_pretrained(tmp_path)
    extractor_class().save_pretrained(tmp_path)
    model = read_huggingface(tmp_path, 1, True, 8)
    samples = torch.from_numpy(noise(31 * 16000))
    with torch.no_grad():
        parts = list(model.features(samples))
        assert [len(part) for part in parts] == [750, 25]
        assert torch.equal(parts[1], next(model.features(samples[30 * 16000:])))


def test_a_folder_that_is_no_encoder_is_refused(tmp_path):
    model_class, settings, extractor_class, _ = ENCODERS["hubert"]
    model_class(model_class.config_class(**settings)).save_pretrained(tmp_path)
    with pytest.raises(AudioPaLMError, match="preprocessor_config.json"):
        read_huggingface(tmp_path, 1, True, 8)
    extractor_class().save_pretrained(tmp_path)
    with pytest.raises(AudioPaLMError, match="layers 1 to 3, not 4"):
        read_huggingface(tmp_path, 4, True, 8)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(AudioPaLMError, match="'bert'.*hubert"):
        read_huggingface(tmp_path, 1, True, 8)


@pytest.fixture(params=["log-mel", "w2v-bert"])
def tokenizer(request, tmp_path):
    torch.manual_seed(0)
    if request.param == "log-mel":
        model = LogMelUnits(LogMelConfig(bands=8, size=16))
        model.codebook.normal_(-3, 1)
    else:
        model = W2vBert(W2vBertConfig(bands=8, dim=16, heads=2, kernel=5, context=4, contrastive_blocks=1,
                                      masked_blocks=2, layer=2, target_codes=8, target_dim=4, size=16))
        model.codebook.normal_()
    save_units(model, tmp_path)
    return UnitTokenizer.load(tmp_path)


@pytest.mark.parametrize("samples", [1, 640, 641, 960000])
def test_ids_are_the_nearest_codes_one_for_every_640_samples(tokenizer, samples):
    audio = noise(samples)
    with torch.no_grad():
        features = torch.cat(list(tokenizer.model.features(torch.from_numpy(audio))))
    ids = tokenizer.encode([noise(3000, seed=1), audio])[1]
    assert ids.dtype == np.int64 and len(ids) == len(features) == -(-samples // 640)
    assert np.array_equal(ids, pairwise_distances_argmin(features, tokenizer.model.codebook))


def test_a_codebook_or_kind_other_than_that_of_the_configuration_is_refused(tokenizer, tmp_path):
    settings = read_json(tmp_path / "config.json")
    (tmp_path / "config.json").write_text(json.dumps({**settings, "codebook_sha256": "0" * 64}))
    with pytest.raises(AudioPaLMError, match="codebook"):
        UnitTokenizer.load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**settings, "kind": "log-mal"}))
    with pytest.raises(AudioPaLMError, match="log-mel"):
        UnitTokenizer.load(tmp_path)


def test_a_unit_of_w2v_bert_depends_on_the_reach_of_the_blocks_up_to_its_layer():
    torch.manual_seed(0)
    model = W2vBert(W2vBertConfig(bands=8, dim=16, heads=2, kernel=5, context=3, contrastive_blocks=2, masked_blocks=2,
                                  layer=2, target_codes=8, target_dim=4, size=16)).eval()
    mel, valid = torch.randn(1, 4 * 60, 8), torch.ones(1, 60, dtype=torch.bool)
    changed = mel.clone()
    changed[:, :4 * 20] = torch.randn(1, 80, 8)
    with torch.no_grad():
        differs = (model.encode(mel, valid) != model.encode(changed, valid)).any(-1)[0]
    assert model.reach == 2 * 5 + 2 and differs[:20].all() and not differs[20 + model.reach:].any()


def test_units_of_w2v_bert_do_not_depend_on_loudness_and_on_padding():
    """Loudness adds a constant to log-mel; the mean of each recording, without its padding, is subtracted."""
    torch.manual_seed(0)
    model = W2vBert(W2vBertConfig(bands=8, dim=16, heads=2, kernel=5, context=3, contrastive_blocks=1, masked_blocks=1,
                                  layer=1, target_codes=2, target_dim=4, size=16)).eval()
    mel, valid = torch.randn(2, 4 * 10, 8), torch.arange(10) < torch.tensor([[10], [6]])
    normalised = model.normalise(mel, valid)
    torch.testing.assert_close(model.normalise(mel + torch.randn(2, 1, 8), valid), normalised, atol=1e-5, rtol=0)
    torch.testing.assert_close(model.normalise(mel[1:, :24], valid[1:, :6]), normalised[1:, :24])
    samples = torch.from_numpy(noise(16000))
    with torch.no_grad():
        loud, quiet = (torch.cat(list(model.features(gain * samples))) for gain in (1.0, 0.1))
    torch.testing.assert_close(loud, quiet, atol=1e-2, rtol=0)


def test_contrast_is_the_cross_entropy_against_the_other_codes_of_the_recording():
    torch.manual_seed(0)
    codes, recording = [0, 1, 0, 2, 1, 2, 0], [0, 0, 0, 0, 1, 1, 1]
    table = torch.randn(3, 4)
    guess = table[codes] + 0.5 * torch.randn(7, 4)
    losses = []
    for own in range(7):
        rivals = [own] + [other for other in range(7)
                          if recording[other] == recording[own] and codes[other] != codes[own]]
        scores = torch.cosine_similarity(guess[own][None], table[[codes[other] for other in rivals]]) / 0.1
        losses.append(-scores.log_softmax(0)[0])
    loss = contrast(guess, table[codes], torch.tensor(codes), torch.tensor(recording))
    torch.testing.assert_close(loss, torch.stack(losses).mean())


def test_masks_are_spans_of_speech_in_every_recording():
    torch.manual_seed(0)
    valid = torch.arange(200) < torch.tensor([[200]] * 50 + [[3]] * 50)
    masked = draw_mask(valid, 0.065, 10)
    assert masked.any(1).all() and not (masked & ~valid).any()
    assert 0.4 < masked[:50].float().mean() < 0.55  # 1 - (1 - 0.065) ** 10 = 0.49
    assert 1 <= draw_mask(valid[:1], 0.0, 10).sum() <= 10


def test_target_codes_of_w2v_bert_are_clusters_of_log_mel():
    """Two alternating sounds have two codes, which change where the sounds change."""
    torch.manual_seed(0)
    model = W2vBert(W2vBertConfig(bands=8, dim=16, heads=2, kernel=5, context=3, contrastive_blocks=1, masked_blocks=1,
                                  layer=1, target_codes=2, target_dim=4, size=16))
    sounds = torch.randn(2, 640)
    samples = sounds[[0, 0, 0, 1, 1, 1, 0, 0, 0]].flatten()[None]
    start_targets(model, [SpeechBatch(samples, samples, torch.tensor([9]), *[torch.zeros(0)] * 2, [])], seed=0)
    mel = model.normalise(model.log_mel(samples), torch.ones(1, 9, dtype=torch.bool))
    codes = nearest(model.frames(mel), model.centres)[0].tolist()
    assert codes[1] == codes[7] != codes[4] and len(set(codes)) == 2
