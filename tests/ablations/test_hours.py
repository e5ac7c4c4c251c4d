"""The hours of missing runs, from the logs of a base run and of finished runs that are written by hand."""

import re
import shutil
from pathlib import Path

import pytest
from commands import call

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import write_json
from audiopalm.lm.model import Decoder, ModelConfig
from audiopalm.lm.storage import save_model
from audiopalm.stages.make_vocabulary import VocabularyConfig, make_from_data

DESIGN = """
design: 2
seeds: 2
lm_args: batch.rows=2 batch.row_length=64
timing: {scores of texts: 6, units.yaml: 600}
budgets: {ast: {tokens: 5000, tasks: [ast], targets: [en]}}
mixtures: {ast: [{task: ast, targets: [en]}], both: [{task: ast, targets: [en]}, {task: asr}]}
systems:
  - {name: textlm, after: base, first: 7, last: 7}
  - {name: a, mixture: ast, budget: ast}
  - {name: b, mixture: both, budget: ast}
  - {name: c, after: base, first: 3, units_config: units.yaml, mixture: ast, budget: ast}
comparisons:
  - {name: t, title: "T", question: "?", sides: [{system: a, label: a}, {system: b, label: b}, {system: c, label: c}]}
"""
SECONDS = {5: 120, 6: 3, 7: 200, 10: 30}


@pytest.fixture
def recipe(tmp_path, monkeypatch, digit_sets):
    monkeypatch.chdir(tmp_path)
    for folder, source in (("dump/raw/train", digit_sets[0]), ("dump/tokens/train", digit_sets[1])):
        shutil.copytree(source, folder)
    vocabulary = make_from_data(Path("dump/raw/train"), Path("dump/tokens/train"), VocabularyConfig(400), None,
                                Path("exp/vocabulary"))
    lm = Decoder(ModelConfig(vocabulary.size, dim=32, layers=1, heads=2, kv_heads=2, hidden_dim=32))
    save_model(Path("exp/lm"), lm.config, lm.state_dict(), vocabulary.layout_hash, 0)
    batch = {"rows": 4, "row_length": 64}
    training = {"steps": 100, "micro_batches": 1}
    write_json("exp/lm/training.json", {"made_from": {"config": {"batch": batch, "training": training}}})
    Path("exp/lm/log.jsonl").write_text('{"step": 100, "seconds": 50.0}\n')
    Path("exp/textlm").mkdir()
    Path("exp/textlm/log.jsonl").write_text('{"step": 10, "seconds": 180.0}\n')
    for stage, seconds in SECONDS.items():
        write_log(Path("exp/log"), stage, seconds)
    Path("conf").mkdir()
    model = "{dim: 32, layers: 1, heads: 2, kv_heads: 2, hidden_dim: 32}"
    Path("conf/textlm.yaml").write_text(f"mixture: [{{task: lm}}]\nmodel: {model}\ntraining: {{steps: 10}}\n")
    Path("units.yaml").touch()
    Path("tables.yaml").write_text(DESIGN)
    return tmp_path


def write_log(folder, stage, seconds):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"stage{stage}.log").write_text(f"# exit code 0, 1.0 s, 9 MiB\nx\n# exit code 0, {seconds}.0 s, 9 MiB\n")


def lines(capsys):
    call("ablations", "--config", "tables.yaml", "--dry_run", "--parallel", "2")
    return re.findall(r"\| `(\w+)` \| (\d+) \| (\d*) \| ([\d.]+) \|", capsys.readouterr().out)


def test_the_hours_follow_from_the_logs_of_the_base_run_and_the_budget(recipe, capsys):
    found = {name: (int(runs), int(steps or 0), float(minutes)) for name, runs, steps, minutes in lines(capsys)}
    assert {name: runs for name, (runs, _, _) in found.items()} == {"textlm": 2, "a": 2, "b": 2, "c": 2}
    assert found["textlm"][2] == pytest.approx(180 / 60, abs=0.06)
    per_step = 50 / 100 * 2 / 4  # half as many tokens in a step as the base run
    for name, other in (("a", 0), ("c", 600 + 120 + 3 + 180)):
        seconds = found[name][1] * per_step + 30 + 6 + other
        assert found[name][2] == pytest.approx(seconds / 60, abs=0.1), name
    assert 30 < found["a"][1] < 60  # 5,000 tokens in rows of 2 * 64
    assert found["b"][1] > 1.5 * found["a"][1]


def test_finished_runs_do_not_count_and_measure_the_others(recipe, capsys):
    write_json("exp/tables/a_seed0/results.json", [])
    write_log(Path("exp/tables/a_seed0/log"), 8, 240)
    write_log(Path("exp/tables/a_seed0/log"), 10, 60)
    call("ablations", "--config", "tables.yaml", "--dry_run", "t")
    text = capsys.readouterr().out
    assert re.search(r"\| `a` \| 1 \| \d+ \| 5.0 \| 0.1 \| exp/tables/a_seed0/log \|", text)
    assert "7 runs take" in text


def test_runs_whose_scores_are_known_can_be_left_out(recipe, capsys):
    keys = {"commands": [], "rows": [], "cost": {}, "draws": {}}
    write_json("tables.json", [{"system": system, "seed": seed, "design": design, **keys} for system, seed, design in (
        ("a", 0, 2), ("a", 1, 2), ("b", 0, 1), ("b", 1, 2), ("c", 0, 2), ("c", 1, 2))])
    call("ablations", "--config", "tables.yaml", "--dry_run", "--missing_only")
    text = capsys.readouterr().out
    assert "2 runs take" in text and re.findall(r"\| `(\w+)` \| 1 \|", text) == ["textlm", "b"]
    call("ablations", "--config", "tables.yaml", "--missing_only", "--seeds", "1")
    assert capsys.readouterr().out == "tables.json has the scores of all these runs\n"


def test_without_a_base_run_or_a_time_it_says_what_is_missing(recipe):
    Path("tables.yaml").write_text(DESIGN.replace(", units.yaml: 600", ""))
    with pytest.raises(AudioPaLMError, match="the design has no seconds for units.yaml; add them to `timing`"):
        call("ablations", "--config", "tables.yaml", "--dry_run")
    Path("tables.yaml").write_text(DESIGN)
    Path("exp/log/stage10.log").unlink()
    with pytest.raises(AudioPaLMError, match="exp/log/stage10.log does not exist.* ./run.sh"):
        call("ablations", "--config", "tables.yaml", "--dry_run")
    shutil.rmtree("exp")
    with pytest.raises(AudioPaLMError, match="exp/lm/model.safetensors"):
        call("ablations", "--config", "tables.yaml", "--dry_run")
