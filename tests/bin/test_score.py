"""The command of stage 12 on a small decoded set."""

import json
import sys

import pytest
from scoring_data import Parrot, write_set

from audiopalm.bin import score
from audiopalm.errors import AudioPaLMError
from audiopalm.scoring import judge, voice


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    monkeypatch.setitem(judge.JUDGES, "parrot", Parrot)
    monkeypatch.setattr(judge, "_judges", {})
    monkeypatch.setattr(voice.Voices, "_one", lambda self, file: voice.np.ones(2, dtype="float32"))
    (tmp_path / "mini").mkdir()
    monkeypatch.chdir(write_set(tmp_path / "mini"))
    return tmp_path / "mini"


def command(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["score", "--decode_dir", "exp/decode", "--data_dir", "dump/raw", "--output",
                                      "exp/score", "--judges", "parrot", "--processes", "1", *arguments])
    score.main()


def test_rows_page_and_transcripts(recipe, monkeypatch):
    command(monkeypatch)
    rows = json.loads((recipe / "results.json").read_text())
    assert [row["task"] for row in rows] == sorted(row["task"] for row in rows)
    assert {row["recipe"] for row in rows} == {"mini"} and {row["seed"] for row in rows} == {0}
    assert (recipe / "RESULTS.md").read_text().startswith("# Results: mini\n")
    (path,) = (recipe / "exp/score/test/s2st_es_en").glob("s2st.numpy_?.?.?.heard")
    heard = path.read_text().splitlines()
    assert heard == ["ana-es-a i have two", "ana-es-b i have two", "luis-es-a"]
    before = (recipe / "results.json").read_bytes(), (recipe / "RESULTS.md").read_bytes()
    command(monkeypatch)
    assert ((recipe / "results.json").read_bytes(), (recipe / "RESULTS.md").read_bytes()) == before


def test_a_seed_that_is_not_that_of_the_model(recipe, monkeypatch):
    with pytest.raises(AudioPaLMError, match="decoded by a model of seed 0, not 7"):
        command(monkeypatch, "--seed", "7")


def test_no_decodes(recipe, monkeypatch):
    with pytest.raises(AudioPaLMError, match=r"run stage 10 \(decode\) first"):
        command(monkeypatch, "--decode_dir", "nowhere")
    assert not (recipe / "results.json").exists()


def test_judges_option():
    pytest.importorskip("moonshine_voice", reason="the judges are not installed (tools/setup.sh installs them)")
    pytest.importorskip("pocketsphinx", reason="the judges are not installed (tools/setup.sh installs them)")
    assert score.parse_judges("moonshine pocketsphinx:40") == {"moonshine": None, "pocketsphinx": 40}
    with pytest.raises(AudioPaLMError, match="not a number"):
        score.parse_judges("moonshine:x")
