"""The command of stage 12 on a small decoded set."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from scoring_data import Parrot, write_set

from audiopalm.bin import score
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import write_json
from audiopalm.data.datadir import read_table, write_table
from audiopalm.scoring import judge, voice
from audiopalm.scoring.score_run import parse_judges


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
                                      "exp/score", "--results", "exp/results.json", "--report", "exp/RESULTS.md",
                                      "--judges", "parrot", "--processes", "1", *arguments])
    score.main()


def test_rows_page_and_transcripts(recipe, monkeypatch):
    command(monkeypatch)
    rows = json.loads((recipe / "exp/results.json").read_text())
    assert [row["task"] for row in rows] == sorted(row["task"] for row in rows)
    assert {row["recipe"] for row in rows} == {"mini"} and {row["seed"] for row in rows} == {0}
    assert (recipe / "exp/RESULTS.md").read_text().startswith("# Results: mini\n")
    (path,) = (recipe / "exp/score/test/s2st_es_en").glob("s2st.numpy_?.?.?.heard")
    heard = path.read_text().splitlines()
    assert heard == ["ana-es-a i have two", "ana-es-b i have two", "luis-es-a"]
    before = (recipe / "exp/results.json").read_bytes(), (recipe / "exp/RESULTS.md").read_bytes()
    command(monkeypatch)
    assert ((recipe / "exp/results.json").read_bytes(), (recipe / "exp/RESULTS.md").read_bytes()) == before


def test_what_stage_3_has_measured_stands_beside_the_scores(recipe, monkeypatch):
    """Nothing does where it has measured nothing; and rows of the sets stay as they are."""
    write_json(recipe / "exp/units/config.json", {"kind": "log-mel"})
    command(monkeypatch, "--units", "exp/units")
    without = json.loads((recipe / "exp/results.json").read_text())
    write_json(recipe / "exp/units/report.json", {"set": "dump/raw/dev", "recordings": 9, "aligned": 4, "size": 64,
                                                  "phone_purity": 0.25, "bits_per_second": 150.0})
    command(monkeypatch, "--units", "exp/units")
    rows = json.loads((recipe / "exp/results.json").read_text())
    assert [row for row in rows if row["task"] != "units"] == without
    assert {row["metric"]: (row["value"], row["n"], row["tag"]) for row in rows if row["task"] == "units"} == {
        "phone_purity": (0.25, 4, "log-mel"), "bits_per_second": (150.0, 9, "log-mel")}
    assert "|  | phone_purity |  | 0.250 | 0.250 |  | 4 |" in (recipe / "exp/RESULTS.md").read_text()


def test_scores_equal_those_of_the_command_lines(recipe, monkeypatch, tmp_path):
    """sacreBLEU's and jiwer's own commands on the texts that stage 12 leaves."""
    write_table(recipe / "exp/decode/test/ast_es_en/ast",
                {"ana-es-a": "i have got two", "ana-es-b": "four and five", "luis-es-a": "they have three"})
    command(monkeypatch)
    rows = {(row["task"], row["metric"]): row for row in json.loads((recipe / "exp/results.json").read_text())}
    plain = {}
    for part in ("asr_es/asr", "ast_es_en/ast"):
        for ending in ("ref", "hyp"):
            table = read_table(recipe / f"exp/score/test/{part}.{ending}")
            plain[ending] = tmp_path / f"{part[:3]}.{ending}"
            plain[ending].write_text("\n".join(table.values()) + "\n")
    scripts = Path(sys.executable).parent

    def call(*words):
        return subprocess.run([scripts / words[0], *words[1:]], capture_output=True, text=True, check=True).stdout

    for metric in ("bleu", "chrf"):
        said = call("sacrebleu", f"{tmp_path}/ast.ref", "-i", f"{tmp_path}/ast.hyp", "-m", metric, "-w", "5", "-b")
        assert float(said) == pytest.approx(rows["ast", metric]["value"], abs=1e-5)
    for metric, option in (("wer", []), ("cer", ["-c"])):
        said = call("jiwer", "-r", f"{tmp_path}/asr.ref", "-h", f"{tmp_path}/asr.hyp", *option)
        assert float(said) == pytest.approx(rows["asr", metric]["value"], abs=1e-5)


def test_a_seed_that_is_not_that_of_the_model(recipe, monkeypatch):
    with pytest.raises(AudioPaLMError, match="decoded by a model of seed 0, not 7"):
        command(monkeypatch, "--seed", "7")


def test_no_decodes(recipe, monkeypatch):
    with pytest.raises(AudioPaLMError, match=r"run stage 10 \(decode\) first"):
        command(monkeypatch, "--decode_dir", "nowhere")
    assert not (recipe / "exp/results.json").exists()


def test_judges_option():
    pytest.importorskip("moonshine_voice", reason="the judges are not installed (tools/setup.sh installs them)")
    pytest.importorskip("pocketsphinx", reason="the judges are not installed (tools/setup.sh installs them)")
    assert parse_judges("moonshine pocketsphinx:40") == {"moonshine": None, "pocketsphinx": 40}
    with pytest.raises(AudioPaLMError, match="not a number"):
        parse_judges("moonshine:x")
