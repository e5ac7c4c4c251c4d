"""The command of stage 12 on a small decoded set."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from scoring_data import replace_models, run_score, write_set

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import write_json
from audiopalm.data.datadir import read_table, write_table
from audiopalm.scoring.metrics import score
from audiopalm.scoring.score_run import parse_judges


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    replace_models(monkeypatch)
    (tmp_path / "mini").mkdir()
    monkeypatch.chdir(write_set(tmp_path / "mini"))
    return tmp_path / "mini"


def test_a_run_writes_rows_page_and_transcripts_and_a_second_run_the_same(recipe):
    run_score(judges="parrot")
    rows = json.loads((recipe / "exp/results.json").read_text())
    assert [row["task"] for row in rows] == sorted(row["task"] for row in rows)
    assert {row["recipe"] for row in rows} == {"mini"} and {row["seed"] for row in rows} == {0}
    assert (recipe / "exp/RESULTS.md").read_text().startswith("# Results: mini\n")
    (path,) = (recipe / "exp/score/test/s2st_es_en").glob("s2st.numpy_?.?.?.heard")
    heard = path.read_text().splitlines()
    assert heard == ["ana-es-a i have two", "ana-es-b i have two", "luis-es-a"]
    before = (recipe / "exp/results.json").read_bytes(), (recipe / "exp/RESULTS.md").read_bytes()
    run_score(judges="parrot")
    assert ((recipe / "exp/results.json").read_bytes(), (recipe / "exp/RESULTS.md").read_bytes()) == before


def test_the_report_of_stage_3_adds_rows_to_the_scores(recipe):
    """Without a report there are none. The rows of the sets stay as they are."""
    write_json(recipe / "exp/units/config.json", {"kind": "log-mel"})
    run_score("--units", "exp/units", judges="parrot")
    without = json.loads((recipe / "exp/results.json").read_text())
    write_json(recipe / "exp/units/report.json", {"set": "dump/raw/dev", "recordings": 9, "aligned": 4, "size": 64,
                                                  "phone_purity": 0.25, "bits_per_second": 150.0})
    run_score("--units", "exp/units", judges="parrot")
    rows = json.loads((recipe / "exp/results.json").read_text())
    assert [row for row in rows if row["task"] != "units"] == without
    assert {row["metric"]: (row["value"], row["n"], row["tag"]) for row in rows if row["task"] == "units"} == {
        "phone_purity": (0.25, 4, "log-mel"), "bits_per_second": (150.0, 9, "log-mel")}
    assert "|  | phone_purity |  | 0.250 | 0.250 |  | 4 |" in (recipe / "exp/RESULTS.md").read_text()


def test_scores_equal_those_of_the_commands_of_sacrebleu_and_jiwer(recipe, tmp_path):
    """The commands read the texts that stage 12 writes."""
    write_table(recipe / "exp/decode/test/ast_es_en/ast",
                {"ana-es-a": "i have got two", "ana-es-b": "four and five", "luis-es-a": "they have three"})
    run_score(judges="parrot")
    rows = {(row["task"], row["metric"]): row for row in json.loads((recipe / "exp/results.json").read_text())}
    plain = {}
    for part in ("asr_es/asr", "ast_es_en/ast"):
        for ending in ("ref", "hyp"):
            table = read_table(recipe / f"exp/score/test/{part}.{ending}")
            plain[ending] = tmp_path / f"{part[:3]}.{ending}"
            plain[ending].write_text("\n".join(table.values()) + "\n")
    scripts = Path(sys.executable).parent

    def run(*words):
        return subprocess.run([scripts / words[0], *words[1:]], capture_output=True, text=True, check=True).stdout

    for metric in ("bleu", "chrf"):
        printed = run("sacrebleu", f"{tmp_path}/ast.ref", "-i", f"{tmp_path}/ast.hyp", "-m", metric, "-w", "5", "-b")
        assert float(printed) == pytest.approx(rows["ast", metric]["value"], abs=1e-5)
    for metric, option in (("wer", []), ("cer", ["-c"])):
        printed = run("jiwer", "-r", f"{tmp_path}/asr.ref", "-h", f"{tmp_path}/asr.hyp", *option)
        assert float(printed) == pytest.approx(rows["asr", metric]["value"], abs=1e-5)


def test_a_seed_other_than_the_model_s_is_refused(recipe):
    with pytest.raises(AudioPaLMError, match="decoded by a model of seed 0, not 7"):
        run_score("--seed", "7", judges="parrot")


def test_scores_without_decodes_name_the_stage(recipe):
    with pytest.raises(AudioPaLMError, match=r"run stage 10 \(decode\) first"):
        run_score("--decode_dir", "nowhere", judges="parrot")
    assert not (recipe / "exp/results.json").exists()


def test_a_judge_may_have_a_limit_of_recordings():
    pytest.importorskip("moonshine_voice", reason="the judges are not installed (tools/setup.sh installs them)")
    pytest.importorskip("pocketsphinx", reason="the judges are not installed (tools/setup.sh installs them)")
    assert parse_judges("moonshine pocketsphinx:40") == {"moonshine": None, "pocketsphinx": 40}
    with pytest.raises(AudioPaLMError, match="not a number"):
        parse_judges("moonshine:x")


def test_a_comma_is_no_error_of_a_language_without_spaces():
    references, hypotheses = (["你好 世界很大"], ["你好世界很大"])  # the normaliser makes a space of a comma
    assert score("cer", references, hypotheses, "zh").value == 0 < score("cer", references, hypotheses, "fr").value
