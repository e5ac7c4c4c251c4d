"""Transcripts of the judges, and their cache by content."""

import itertools
import json
import shutil
from pathlib import Path

import jiwer
import numpy as np
import pytest
from scoring_data import write_wav

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import sha256
from audiopalm.data.audio import read_audio
from audiopalm.scoring import judge
from audiopalm.scoring.text import english


class Counting:
    """A judge that writes how many samples it got and counts its calls."""

    package = "numpy"
    settings = ""
    calls = 0

    def transcribe(self, samples):
        Counting.calls += 1
        return f"{len(samples)} samples"


@pytest.fixture
def counting(monkeypatch):
    Counting.calls = 0
    monkeypatch.setitem(judge.JUDGES, "counting", Counting)
    monkeypatch.setattr(judge, "_judges", {})


def test_a_file_is_judged_once_by_its_content(counting, tmp_path):
    first = write_wav(tmp_path / "a.wav", 200)
    same = shutil.copy(first, tmp_path / "c.wav")
    files = {"u1": first, "u2": same, "u3": write_wav(tmp_path / "d.wav", 300, 1.0)}
    found = judge.transcribe("counting", files, tmp_path / "cache", processes=1)
    # 0.5 s and 1.0 s, with 0.3 s of silence on both sides
    assert found == {"u1": "17600 samples", "u2": "17600 samples", "u3": "25600 samples"}
    assert Counting.calls == 2
    assert judge.transcribe("counting", files, tmp_path / "cache", processes=1) == found
    assert Counting.calls == 2
    write_wav(Path(first), 250)
    judge.transcribe("counting", files, tmp_path / "cache", processes=1)
    assert Counting.calls == 3


def test_another_signature_empties_the_cache(counting, tmp_path):
    files = {"u1": write_wav(tmp_path / "a.wav", 200)}
    judge.transcribe("counting", files, tmp_path / "cache", processes=1)
    path = tmp_path / "cache/counting.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"signature": "an older one"}))
    judge.transcribe("counting", files, tmp_path / "cache", processes=1)
    assert Counting.calls == 2


def test_missing_audio_names_its_stage(counting, tmp_path):
    with pytest.raises(AudioPaLMError, match="stage 11"):
        judge.transcribe("counting", {"u1": str(tmp_path / "none.wav")}, tmp_path)


def test_unknown_judge_and_missing_package(counting, monkeypatch):
    with pytest.raises(AudioPaLMError, match="known: counting, moonshine"):
        judge.judge_signature("moonshin")
    monkeypatch.setattr(Counting, "package", "no-such-package")
    with pytest.raises(AudioPaLMError, match="needs the package no-such-package; run tools/setup.sh"):
        judge.judge_signature("counting")


@pytest.fixture(scope="module")
def tiny_ctc(tmp_path_factory):
    """A wav2vec 2.0 of random weights that writes letters, as transformers saves it."""
    transformers = pytest.importorskip("transformers", reason="a judge of transformers needs it (extra dev)")
    torch = pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("judge") / "tiny-ctc"
    folder.mkdir()
    letters = ["<pad>", "<s>", "</s>", "<unk>", "|", *"abcdefgh"]
    (folder / "vocab.json").write_text(json.dumps({letter: number for number, letter in enumerate(letters)}))
    torch.manual_seed(1)
    model = transformers.Wav2Vec2ForCTC(transformers.Wav2Vec2Config(
        vocab_size=len(letters), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        conv_dim=(16, 16), conv_stride=(20, 16), conv_kernel=(20, 16), num_feat_extract_layers=2,
        num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2)).eval()
    transformers.Wav2Vec2Processor(transformers.Wav2Vec2FeatureExtractor(),
                                   transformers.Wav2Vec2CTCTokenizer(folder / "vocab.json")).save_pretrained(folder)
    model.save_pretrained(folder)
    return folder, model, letters


def test_a_judge_of_transformers_from_a_folder(tiny_ctc, tmp_path, monkeypatch):
    monkeypatch.setattr(judge, "_judges", {})
    folder, model, letters = tiny_ctc
    file = write_wav(tmp_path / "a.wav", 200)
    heard = judge.transcribe(str(folder), {"u": file}, tmp_path / "cache")["u"]
    samples = np.pad(read_audio(file), 4800)
    import torch

    with torch.no_grad():
        speech = torch.tensor((samples - samples.mean()) / np.sqrt(samples.var() + 1e-7))
        best = model(speech[None]).logits[0].argmax(-1)
    collapsed = [letters[number] for number, _ in itertools.groupby(best.tolist())]
    wanted = " ".join("".join(letter for letter in collapsed if not letter.startswith("<")).replace("|", " ").split())
    assert heard == wanted and len(set(heard)) > 1
    weights = sha256(folder / "model.safetensors")[:16]
    assert judge.judge_signature(str(folder)).startswith("tiny-ctc, transformers ")
    assert f"model {weights}, 0.3 s silence around" in judge.judge_signature(str(folder))
    assert (tmp_path / "cache/tiny-ctc.json").exists()


def test_judges_that_cannot_run(tiny_ctc, tmp_path, monkeypatch):
    monkeypatch.setattr(judge, "_judges", {})
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(AudioPaLMError, match="nobody/no-model is not a folder, and the Hugging Face hub does not"):
        judge.judge_signature("nobody/no-model")
    broken = shutil.copytree(tiny_ctc[0], tmp_path / "broken")
    settings = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps(settings | {"model_type": "bert", "architectures": ["BertModel"]}))
    with pytest.raises(AudioPaLMError, match="broken' cannot run: it is a BertModel, not a Whisper or CTC model"):
        judge.transcribe(str(broken), {"u": write_wav(tmp_path / "a.wav", 200)}, tmp_path / "cache")
    (broken / "config.json").write_text("{}")
    with pytest.raises(AudioPaLMError, match="^the judge '.*broken' cannot run: .*; take another --judges$"):
        judge.transcribe(str(broken), {"u": str(tmp_path / "a.wav")}, tmp_path / "cache")
    (tmp_path / "empty").mkdir()
    with pytest.raises(AudioPaLMError, match=r"has no \*.safetensors"):
        judge.judge_signature(str(tmp_path / "empty"))


@pytest.mark.parametrize("name, package", [("moonshine", "moonshine_voice"), ("pocketsphinx", "pocketsphinx")])
def test_what_was_heard_before_changes_nothing(name, package):
    pytest.importorskip(package, reason=f"the judge {name} is not installed (tools/setup.sh installs it)")
    assets = pytest.importorskip("moonshine_voice", reason="its package holds the recording").get_assets_path()
    speech = read_audio(f"{assets}/two_cities.wav")
    clips = [np.pad(speech[start:start + 32000], 4800) for start in range(0, 3 * 32000, 32000)]
    one = judge.JUDGES[name]()
    forward = [one.transcribe(clip) for clip in clips]
    assert [one.transcribe(clip) for clip in clips[::-1]][::-1] == forward
    assert judge.JUDGES[name]().transcribe(clips[1]) == forward[1]


def test_moonshine_hears_long_speech_and_silence():
    """The model alone loops on more than half a minute (WER 1.1 on 42 s of prompts), and hears "You" in silence."""
    pytest.importorskip("moonshine_voice", reason="the judge moonshine is not installed (tools/setup.sh installs it)")
    from moonshine_voice import get_assets_path

    speech = read_audio(f"{get_assets_path()}/two_cities.wav")
    moonshine = judge.Moonshine()
    words = english(moonshine.transcribe(speech)).split()
    assert len(speech) > 40 * 16000 and 1.5 < len(words) / (len(speech) / 16000) < 4
    assert moonshine.transcribe(np.zeros(16000, np.float32)) == ""


def test_long_speech_is_cut_where_it_is_quiet():
    speech = np.ones(500000, dtype=np.float32)
    speech[260800:262400] = speech[450000:] = 0
    pieces = judge.cut(speech, 320000)
    assert [len(piece) for piece in pieces] == [261600, 238400]
    assert np.array_equal(np.concatenate(pieces), speech)
    assert [len(piece) for piece in judge.cut(np.ones(320000), 320000)] == [320000]


# A quick, accented reading: Moonshine gets 2 of 12 words wrong ("Fare again. Fale better"), PocketSphinx most of them.
@pytest.mark.parametrize("name, package, limit", [("moonshine", "moonshine_voice", 2 / 12),
                                                  ("pocketsphinx", "pocketsphinx", 1.0)])
def test_on_a_real_recording(name, package, limit, tmp_path):
    pytest.importorskip(package, reason=f"the judge {name} is not installed (tools/setup.sh installs it)")
    assets = pytest.importorskip("moonshine_voice", reason="its package holds the recording").get_assets_path()
    heard = english(judge.transcribe(name, {"u": f"{assets}/beckett.wav"}, tmp_path, processes=1)["u"])
    wanted = "ever tried ever failed no matter try again fail again fail better"
    assert "try again" in heard and jiwer.wer(english(wanted), heard) <= limit, heard
