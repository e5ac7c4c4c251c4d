"""Packs of ESPnet and inference from them, with tiny random models of all real kinds."""

import importlib.util
import shutil
import zipfile

import numpy as np
import pytest
import torch
import yaml
from commands import call
from packed import make_pack, spoken

from audiopalm.core.errors import AudioPaLMError
from audiopalm.data.examples import Example
from audiopalm.inference import AudioPaLM
from audiopalm.lm.generation.config import DecodingConfig
from audiopalm.tasks import get_task

if importlib.util.find_spec("espnet2") is None:
    pytest.skip("espnet is not installed", allow_module_level=True)

from audiopalm.espnet.convert import to_espnet
from audiopalm.espnet.inference import Speech2Any

TASKS = ("[ASR Spanish]", "[ASR AST S2ST Spanish English]")
SHORT = DecodingConfig(8, 8)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """The directory of a recipe with exp/ and, in exp/espnet_lm, the language model as ESPnet's Trainer leaves it."""
    root = tmp_path_factory.mktemp("recipe")
    exp = make_pack(root / "exp")
    to_espnet(exp / "lm", exp / "vocabulary", exp / "espnet_lm")
    (exp / "espnet_lm" / "model.pth").rename(exp / "espnet_lm" / "1epoch.pth")
    (exp / "espnet_lm" / "valid.loss.best.pth").symlink_to("1epoch.pth")
    return root


def pack(recipe, monkeypatch, *arguments):
    monkeypatch.chdir(recipe)
    call("espnet_pack", *arguments)


def test_the_unpacked_model_answers_as_before(recipe, tmp_path, monkeypatch):
    pack(recipe, monkeypatch, "--model_file", "exp/espnet_lm/valid.loss.best.pth", "--outpath", tmp_path / "pack.zip")
    wav = spoken(), 16000
    before = AudioPaLM.from_pretrained(recipe / "exp")
    (moved := tmp_path / "elsewhere").mkdir()
    shutil.move(tmp_path / "pack.zip", moved)
    after = Speech2Any.from_pretrained(moved / "pack.zip", decoding=SHORT)
    from espnet2.main_funcs.pack_funcs import unpack  # ESPnet's own, whose keys are the constructor's arguments
    files = unpack(moved / "pack.zip", moved / "again")
    assert set(files) == {"audiopalm_train_config", "audiopalm_model_file", "vocabulary_file", "units_file",
                          "acoustic_file", "codec_file"}
    assert files["audiopalm_model_file"].endswith("again/exp/espnet_lm/1epoch.pth")
    for model in (after, Speech2Any.from_pretrained(**files, decoding=SHORT)):
        for task in TASKS:
            expected, answer = before(wav, task, decoding=SHORT), model(wav, task)
            assert answer.text == expected.text and any(answer.text.values())
            assert (answer.audio is None) == (expected.audio is None)
            assert answer.audio is None or np.array_equal(answer.audio, expected.audio)
    wide = Speech2Any.from_pretrained(**files, decoding=SHORT, beam_size=3)
    assert wide(wav, TASKS[1]).audio is not None


@pytest.fixture
def files(recipe):
    """The arguments of the constructor that are files."""
    exp = recipe / "exp"
    return {"audiopalm_train_config": exp / "espnet_lm" / "config.yaml",
            "audiopalm_model_file": exp / "espnet_lm" / "1epoch.pth",
            "vocabulary_file": exp / "vocabulary" / "vocabulary.json",
            **{f"{name}_file": exp / name / "config.json" for name in ("units", "acoustic", "codec")}}


def test_nbest_gives_as_many_hypotheses_by_score_and_is_limited_by_beam_size(files):
    wav = spoken(), 16000
    three = Speech2Any(**files, decoding=SHORT, beam_size=3, nbest=3)(wav, TASKS[0])
    scores = [score for _, score in three.nbest]
    assert len(scores) == 3 and scores == sorted(scores, reverse=True) and three.nbest[0][0] == three.text
    two = Speech2Any(**files, decoding=SHORT, beam_size=3, nbest=2)(wav, TASKS[1])
    assert [texts.keys() for texts, _ in two.nbest] == [{"asr", "ast"}] * 2 and two.audio is not None
    model = Speech2Any(**files, decoding=SHORT, beam_size=4)
    assert len(model(wav, TASKS[0], nbest=3).nbest) == 3 and len(model(wav, TASKS[0]).nbest) == 1
    assert len(next(model.stream(wav, TASKS[0], nbest=2)).nbest) == 2
    with pytest.raises(AudioPaLMError, match="nbest must be 1 to beam_size, which is 4, found 9"):
        model(wav, TASKS[0], nbest=9)
    for setting in ({"text_temperature": 5.0}, {"rescore": True}, {"beam": 2}):
        with pytest.raises(AudioPaLMError, match=f"ESPnet's beam search has no {next(iter(setting))}"):
            model(wav, TASKS[0], decoding=setting)
    for beam_size, nbest in ((1, 2), (3, 0)):
        with pytest.raises(AudioPaLMError, match=f"nbest must be 1 to beam_size, which is {beam_size}, found {nbest}"):
            Speech2Any(**files, beam_size=beam_size, nbest=nbest)


@pytest.mark.parametrize("beam_size", [1, 2])
def test_maxlenratio_limits_the_output_by_the_length_of_the_input(files, beam_size):
    """The tiny model always reaches the limit. The inputs are 25 units or 11 text tokens."""
    spoken_example = Example("x", "es", "en", {"audio": np.arange(25) % 16})
    model = Speech2Any(**files, decoding=SHORT, beam_size=beam_size)
    assert len(model.builder.tokenizer.encode("uno dos tres")) == 11

    def lengths(task, example):
        return [len(part) for part in model.generate(get_task(task), [example], SHORT, 0)[0][0].parts]

    for ratio, most in ((0, 8), (0.2, 5), (0.239, 5), (0.001, 1), (-3, 3), (-3.9, 3), (9, 8), (-99, 8)):
        model.maxlenratio = ratio
        assert lengths("asr", spoken_example) == [most], ratio
    model.maxlenratio = 0.2
    assert max(lengths("asr+ast+s2st", spoken_example)) == 5
    model.maxlenratio = 0.3
    assert lengths("mt", Example("x", "es", "en", {"transcript": "uno dos tres"})) == [3]


def test_the_cpu_may_be_named_and_an_impossible_device_is_refused(files):
    wav = spoken(), 16000
    expected = Speech2Any(**files, decoding=SHORT)(wav, TASKS[1])
    answer = Speech2Any(**files, decoding=SHORT, device="cpu")(wav, TASKS[1])
    assert answer.text == expected.text and np.array_equal(answer.audio, expected.audio)
    if not torch.cuda.is_available():
        with pytest.raises(AudioPaLMError, match="the device 'cuda' cannot be used here"):
            Speech2Any(**files, device="cuda")
    with pytest.raises(AudioPaLMError, match="the device 'gpu' cannot be used here"):
        Speech2Any(**files, device="gpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_model_answers_on_a_gpu(files):
    model = Speech2Any(**files, decoding=SHORT, beam_size=2, device="cuda")
    assert model.lm.embedding.weight.is_cuda
    assert model((spoken(), 16000), TASKS[1]).audio is not None


def test_a_file_that_is_no_pack_is_one_line(tmp_path):
    with pytest.raises(AudioPaLMError, match=r"nowhere.zip does not exist; run bin/espnet_pack.py first"):
        Speech2Any.from_pretrained(tmp_path / "nowhere.zip")
    (tmp_path / "page.zip").write_text("<html>404</html>")
    for name, member, content in (("empty.zip", "readme.txt", "no model"), ("list.zip", "meta.yaml", "[]"),
                                  ("broken.zip", "meta.yaml", "files: {"), ("keys.zip", "meta.yaml", "{}"),
                                  ("out.zip", "../out.yaml", "a: b")):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr(member, content)
    for name, message in (("page", "is not a zip file or is damaged"), ("empty", "is not a pack of ESPnet"),
                          ("list", "is not a pack of ESPnet"), ("broken", "is not a pack of ESPnet"),
                          ("keys", "is not a pack of ESPnet"), ("out", "would lie outside of its folder")):
        with pytest.raises(AudioPaLMError, match=f"{name}.zip .*{message}") as error:
            Speech2Any.from_pretrained(tmp_path / f"{name}.zip")
        assert "\n" not in str(error.value)
    with zipfile.ZipFile(tmp_path / "asr.zip", "w") as archive:
        archive.writestr("meta.yaml", "files: {asr_model_file: x.pth}\nyaml_files: {}")
        archive.writestr("x.pth", "")
    with pytest.raises(AudioPaLMError, match="asr.zip does not give acoustic_file, audiopalm_model_file"):
        Speech2Any.from_pretrained(tmp_path / "asr.zip")


def test_a_configuration_that_cannot_be_packed_is_named(recipe, tmp_path, monkeypatch):
    config = recipe / "exp" / "espnet_lm" / "config.yaml"
    (other := recipe / "other.yaml").write_text(yaml.safe_dump({**yaml.safe_load(config.read_text()),
                                                               "vocabulary_hash": "0123456789abcdef"}))
    shutil.copy(config, tmp_path / "outside.yaml")
    for config_file, message in ((other, "vocabulary mismatch"), (tmp_path / "outside.yaml", "not below the current"),
                                 ("nowhere.yaml", "nowhere.yaml does not exist")):
        with pytest.raises(AudioPaLMError, match=message):
            pack(recipe, monkeypatch, "--model_file", "exp/espnet_lm/1epoch.pth", "--config_file", config_file,
                 "--outpath", tmp_path / "bad.zip")
    assert not (tmp_path / "bad.zip").exists()
    with pytest.raises(AudioPaLMError, match="vocabulary mismatch"):
        exp = recipe / "exp"
        Speech2Any(other, exp / "espnet_lm" / "1epoch.pth", exp / "vocabulary" / "vocabulary.json",
                   exp / "units" / "config.json", exp / "acoustic" / "config.json", exp / "codec" / "config.json")
