"""Speaker encoders in ONNX: filterbanks against transformers, a model made here, and files that are no such model."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import silero_vad
from onnx import TensorProto, helper
from scoring_data import replace_models, run_score, write_set, write_wav
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import read_json
from audiopalm.scoring.speaker_encoder import OnnxSpeakerEncoder, filterbanks
from audiopalm.scoring.voice import Voices


def noise(seconds, seed=0):
    return np.random.default_rng(seed).normal(0, 0.1, int(seconds * 16000)).astype(np.float32)


def save_model(file, operation, inputs, shape=("batch", 80)):
    """Save a model of one operation on filterbanks `[B, T, 80]`; return the file."""
    feats = helper.make_tensor_value_info("feats", TensorProto.FLOAT, ["batch", "frames", 80])
    embs = helper.make_tensor_value_info("embs", TensorProto.FLOAT, shape)
    node = helper.make_node(operation, inputs, ["embs"], **({"keepdims": 0} if "axes" in inputs else {}))
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [1])
    graph = helper.make_graph([node], "encoder", [feats], [embs], initializer=[axes] if "axes" in inputs else [])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), file)
    return file


@pytest.fixture
def encoder(tmp_path):
    """A model whose embedding is the length of each filterbank over time, `[B, T, 80]` -> `[B, 80]`."""
    return save_model(tmp_path / "encoder.onnx", "ReduceL2", ["feats", "axes"])


def test_filterbanks_are_those_of_kaldi():
    samples = noise(1.5)
    filters = mel_filter_bank(257, 80, 20, 8000, 16000, norm=None, mel_scale="kaldi", triangularize_in_mel_space=True)
    wanted = spectrogram(samples, window_function(400, "povey", periodic=False), frame_length=400, hop_length=160,
                         fft_length=512, power=2.0, center=False, preemphasis=0.97, mel_filters=filters, log_mel="log",
                         mel_floor=1.19e-7, remove_dc_offset=True).T
    made = filterbanks(samples)
    assert made.shape == wanted.shape == (148, 80) and np.abs(made - wanted).max() < 0.05
    assert np.abs(made - wanted).mean() < 1e-3


def test_the_embedding_has_unit_length_and_does_not_depend_on_loudness(encoder):
    model, samples = OnnxSpeakerEncoder(encoder), noise(1)
    embedding = model.embed(samples)
    features = filterbanks(samples)
    wanted = np.linalg.norm(features - features.mean(0), axis=0)
    assert embedding.dtype == np.float32 and embedding == pytest.approx(wanted / np.linalg.norm(wanted), abs=1e-5)
    assert model.embed(0.5 * samples) == pytest.approx(embedding, abs=1e-4)
    assert not model.embed(noise(0.09)).any()


def test_embeddings_of_two_encoders_are_cached_apart(encoder, tmp_path):
    files = {"speech": write_wav(tmp_path / "speech.wav", 200), "silence": write_wav(tmp_path / "silence.wav", 0)}

    class Constant:
        suffix, signature, size = "", "constant", 2

        def embed(self, samples):
            return np.array([1, 0], dtype=np.float32)

    one, other = Voices(tmp_path / "voice", Constant()), Voices(tmp_path / "voice", OnnxSpeakerEncoder(encoder))
    assert one.embed(files)["speech"].tolist() == [1, 0] and other.embed(files)["speech"].shape == (80,)
    assert not other.embed(files)["silence"].any()
    assert len(list((tmp_path / "voice").iterdir())) == 2
    assert {*Voices(tmp_path / "voice", OnnxSpeakerEncoder(encoder)).known} == {*other.known}


def test_files_that_are_no_speaker_encoder_are_refused(tmp_path):
    with pytest.raises(AudioPaLMError, match="none.onnx does not exist"):
        OnnxSpeakerEncoder(tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_text("a pointer of Git LFS")
    with pytest.raises(AudioPaLMError, match="text.onnx is not a speaker encoder in ONNX"):
        OnnxSpeakerEncoder(tmp_path / "text.onnx")
    other = Path(silero_vad.__file__).parent / "data/silero_vad.onnx"
    with pytest.raises(AudioPaLMError, match="silero_vad.onnx is not a speaker encoder in ONNX that takes 80"):
        OnnxSpeakerEncoder(other)
    with pytest.raises(AudioPaLMError, match=r"100 and 150 frames give \(1, 100, 80\) and \(1, 150, 80\)"):
        OnnxSpeakerEncoder(save_model(tmp_path / "frames.onnx", "Sqrt", ["feats"], ["batch", "frames", 80]))
    with pytest.raises(AudioPaLMError, match="logarithm.onnx gives an embedding that is not finite"):
        OnnxSpeakerEncoder(save_model(tmp_path / "logarithm.onnx", "ReduceLogSum", ["feats", "axes"])).embed(noise(1))


def test_stage_12_writes_rows_of_the_second_encoder(encoder, tmp_path, monkeypatch):
    replace_models(monkeypatch)
    monkeypatch.chdir(write_set(tmp_path))
    run_score("--speaker_encoder", str(encoder))
    rows = [row for row in read_json("exp/results.json") if row["metric"].startswith("speaker_")]
    by_metric = {}
    for row in rows:
        by_metric.setdefault(row["metric"], set()).add(row["signature"].split(",")[0].split(" ")[0])
    assert by_metric == {"speaker_cosine": {"resemblyzer"}, "speaker_win": {"resemblyzer"},
                         "speaker_cosine_onnx": {"encoder.onnx"}, "speaker_win_onnx": {"encoder.onnx"}}
