"""Damaged configurations and overrides of every training and of decoding are one line, before any data are read."""

import pytest
from one_line import said_in_one_line

from audiopalm.bin import decode, infer, make_vocabulary, train_acoustic, train_codec, train_lm, train_units

COMMANDS = {
    "lm": (train_lm.main, ["--vocabulary", "v", "--data_dir", "d", "--dev_data_dir", "d", "--output", "o"]),
    "units": (train_units.main, ["--data_dir", "d", "--output", "o"]),
    "codec": (train_codec.main, ["--data_dir", "d", "--output", "o"]),
    "acoustic": (train_acoustic.main, ["--data_dir", "d", "--tokens", "t", "--output", "o"]),
    "vocabulary": (make_vocabulary.main, ["--data_dir", "d", "--tokens", "t", "--output", "o"]),
    "decode": (decode.main, ["--lm", "l", "--vocabulary", "v", "--data_dir", "d", "--tokens", "t", "--output", "o"]),
}
WHOLE = {"lm": "mixture: [{task: asr}]\n", "decode": "tasks: [{task: asr}]\n"}
TEXTS = ["- 1\n- 2\n", "words\n", "a: [1\n", "\tkind: 1\n", "kind: {\n", "1: 2\n", "kind: &a [*a]\n", "kind: kind\n",
         "!!python/object/apply:os.system [touch ran]\n", "a: 1\na: 2\n", "\x00", "model: 5\nkind: 5\n", "*a\n", "%\n"]
OVERRIDES = {
    "lm": ["mixture=5", "mixture=[5]", "mixture=[{task: asr, tasks: 5}]", "model.dim=0", "model.layers=-1",
           "model.heads=1.5", "model.dim=.nan", "model=3", "modle.dim=3", "dropout.x=3", "model.dim={a: 1}",
           "model.kv_heads=x"],
    "units": ["kind=audiolm", "kind=[1]", "kind=log-mel model.dim=3", "model.size=0", "model.dim=-5", "model.dropout=2",
              "model.heads=10000000000", "model=[1]", "modell.size=3", "kind=log-mel model.bands=-1"],
    "codec": ["kind=sound", "kind=soundstream model.bands=100", "kind=soundstream model.ratios=[0]", "model.levels=0",
              "model.size=-1", "model.hop=0", "kind=soundstream model.ratios=8", "model=x", "model.n_fft=1e99"],
    "acoustic": ["kind=soundstream", "kind=audiolm model.feedforward=5", "model.dim=0", "generation.iterations=[]",
                 "generation.iterations=[0]", "generation.precision=bf16", "generation.temperature=-1",
                 "generation.window_seconds=0", "generation.overlap_seconds=9", "kind=audiolm model.coarse.dim=0",
                 "generation.batch_frames=0"],
    "vocabulary": ["text_size=0", "text_size=-5", "text_size=big", "text_size=1e3", "text_size=99999999999", "texts=5"],
    "decode": ["batch_size=0", "batch_size=-1", "decoding.beam=100000", "decoding.beam=0", "decoding.text_tokens=0",
               "decoding=5", "decoding=5 decoding.beam=3", "tasks=[{task: asr, most: 0}]",
               "tasks=[{task: asr, most: -1}]",
               "decoding.audio_temperature=.inf", "decoding.bean=3", "tasks="],
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_damaged_file_is_one_line(folder, monkeypatch, capsys, name, text):
    (folder / "a.yaml").write_text(text)
    main, arguments = COMMANDS[name]
    line = said_in_one_line(monkeypatch, capsys, main, *arguments, "--config", "a.yaml")
    assert "a.yaml" in line and sorted(path.name for path in folder.iterdir()) == ["a.yaml"]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_file_that_is_no_text_is_one_line(folder, monkeypatch, capsys, name):
    main, arguments = COMMANDS[name]
    (folder / "a.yaml").write_bytes("kind: caf\u00e9\n".encode("latin1"))
    assert "a.yaml, line 1" in said_in_one_line(monkeypatch, capsys, main, *arguments, "--config", "a.yaml")
    for path in (".", "nowhere.yaml", "a.yaml/b"):
        assert path in said_in_one_line(monkeypatch, capsys, main, *arguments, "--config", path)


@pytest.mark.parametrize("name, override", [(name, override) for name in OVERRIDES for override in OVERRIDES[name]])
def test_an_impossible_override_is_one_line(folder, monkeypatch, capsys, name, override):
    (folder / "a.yaml").write_text(WHOLE.get(name, ""))
    main, arguments = COMMANDS[name]
    words = [override] if "{" in override else override.split(" ")
    line = said_in_one_line(monkeypatch, capsys, main, *words, *arguments, "--config", "a.yaml")  # before the options
    assert "a.yaml" in line or "override" in line
    assert sorted(path.name for path in folder.iterdir()) == ["a.yaml"]


@pytest.mark.parametrize("setting", ["beam=100000", "beam=0", "rescore=5", "text_tokens=-1", "x=1", "beam", "=",
                                     "beam=[", "audio_top_p=0", "beam.x=3", "text_temperature=nan"])
def test_an_impossible_decoding_setting_of_infer_is_one_line(monkeypatch, capsys, setting):
    said_in_one_line(monkeypatch, capsys, infer.main, "uno", "--task", "[MT Spanish English]", "--model",
                     "no such model", "--decoding", setting)
