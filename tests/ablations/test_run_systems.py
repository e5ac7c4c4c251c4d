"""The command of tables.sh, with stand-ins for run.sh and for the computation of budgets, which train nothing."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from commands import call
from safetensors.numpy import save_file
from scoring_data import result_row
from waiting import LIMIT, wait_until

from audiopalm.ablations.design import Design
from audiopalm.ablations.recipe_calls import SystemRun
from audiopalm.ablations.run_systems import Launcher
from audiopalm.core.config import load_config
from audiopalm.core.errors import AudioPaLMError
from audiopalm.data.datadir import write_table
from audiopalm.scoring.results import write_rows

ROOT, PYTHON = Path(__file__).resolve().parents[2], sys.executable
# It writes its options to calls.log and scores by the seed and the configuration of decoding. A file `fail` makes seed
# 1 fail, a file `slow` makes every run wait.
RUN = r'''#!/usr/bin/env bash
echo "$*" >> calls.log
while [ $# -gt 0 ]; do declare "${1#--}=$2"; shift 2; done
[ ! -e slow ] || exec sleep 600
[ ! -e fail ] || [ "${seed}" != 1 ] || exit 3
mkdir -p "${expdir}"
if [ "${stop_stage}" -eq 7 ]; then
    [ "${stage}" -gt 6 ] || { mkdir -p "${expdir}/vocabulary"; touch "${expdir}/vocabulary/vocabulary.json"; }
    mkdir -p "${expdir}/textlm"; touch "${expdir}/textlm/model.safetensors"
    exit
fi
[ -e "${expdir}/vocabulary/vocabulary.json" ] || exit 4
[ "${stage}" -gt 8 ] || [ -e "${expdir}/textlm/model.safetensors" ] || exit 6
[ "${stage}" -gt 8 ] || cp -r trained "${expdir}/lm"
[ -e "${expdir}/lm/model.safetensors" ] || exit 5
cp -r scored "${expdir}/score"
sed "s/0.25/$((seed + ${#decode_config}))/" rows.json > "${expdir}/results.json"
'''
BUDGET = r'''#!/usr/bin/env bash
echo "$*" >> calls.log
while [ $# -gt 0 ]; do
    [ "$1" != --output ] || echo '{"steps": 7, "task_tokens": 100, "tokens": 150}' > "$2"
    shift
done
'''
DESIGN = """
design: 2
seeds: 2
lm_args: batch.rows=1
budgets: {ast: {tokens: 100, tasks: [ast], targets: [en]}}
mixtures: {ast: [{task: ast, sources: [es]}]}
systems:
  - {name: textlm, after: base, first: 7, last: 7}
  - {name: a, mixture: ast, budget: ast, lm_args: batch.rows=2}
  - {name: b, after: a, first: 10, decode_config: other.yaml}
  - {name: d, after: base, first: 6, unit_every: 2, mixture: ast, budget: ast}
  - {name: c, after: base, first: 3, units_config: conf/units_of_another.yaml, mixture: ast, budget: ast}
comparisons:
  - {name: table5, title: "Table 5: a, b", question: "Is b better?", paper_says: better, sources: [es], sets: [test],
     plot: size, sides: [{system: a, label: one, x: 1}, {system: b, label: two, x: 2}]}
  - {name: table7, title: "Table 7: a, c", question: "Is c better?", sources: [es], sets: [test], sides:
      [{system: a, label: one}, {system: c, label: three}]}
  - {name: rate, title: Rate, question: "Are fewer units better?", sources: [es], sets: [test], sides:
      [{system: a, label: one}, {system: d, label: four}]}
"""


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, text in (("run.sh", RUN), ("budget.sh", BUDGET)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setattr("sys.executable", str(tmp_path / "budget.sh"))
    (tmp_path / "tables.yaml").write_text(DESIGN)
    (tmp_path / "other.yaml").touch()
    write_rows(tmp_path / "rows.json", [result_row("ast", "bleu", 0.25, target="en", low=None, high=None)])
    for ending in ("ref", "hyp"):
        write_table(tmp_path / "scored/test/ast_es_en" / f"ast.{ending}",
                    {f"u{number}": f"i have {number} of {number % 3}" for number in range(5)})
    (tmp_path / "trained").mkdir()
    save_file({"weight": np.zeros((3, 4), np.float32)}, tmp_path / "trained/model.safetensors")
    (tmp_path / "trained/log.jsonl").write_text('{"step": 7, "seconds": 3.5}\n')
    for file in ("vocabulary/vocabulary.json", "textlm/model.safetensors"):
        (tmp_path / "exp" / file).parent.mkdir(parents=True)
        (tmp_path / "exp" / file).touch()
    return tmp_path


def run_ablations(*options):
    call("ablations", "--config", "tables.yaml", *options)


def calls(recipe):
    return (recipe / "calls.log").read_text().splitlines()


def test_each_run_is_done_once_and_is_on_the_page(recipe):
    run_ablations("--parallel", "2")
    assert len(calls(recipe)) == 2 * (4 + 4)  # for each seed: the text LM, the budget, a, b; and four calls for d
    assert sum("--stop_stage 7" in line for line in calls(recipe)) == 4
    assert sum("audiopalm.bin.budget" in line and "--tasks ast --targets en" in line for line in calls(recipe)) == 4
    assert sum("thin_tokens --tokens dump/tokens/train dump/tokens/dev dump/tokens/test --output" in line
               for line in calls(recipe)) == 2
    assert sum("--stage 6 " in line and "/tokens --test_sets test --text_sets" in line for line in calls(recipe)) == 2
    assert sum("--stage 8 " in line and "batch.rows=1 batch.rows=2 training.steps=7" in line
               for line in calls(recipe)) == 2
    assert sum("--stage 10 " in line and "--decode_config other.yaml" in line for line in calls(recipe)) == 2
    page = (recipe / "TABLES.md").read_text()
    assert "| one | `a` |  | 23.5 | 0.7 | 17.1 to 29.9 | 2 | 100 | 150 | 1.1e+04 |" in page
    assert "| three | `c` |  | not run yet |" in page
    assert "*two* against *one*: -13.0" in page and "**does not hold**" in page
    assert "<svg" not in page and "data:image/svg" in (recipe / "exp/tables/plots.html").read_text()
    earlier = calls(recipe)
    run_ablations()
    assert calls(recipe) == earlier
    (recipe / "TABLES.md").unlink()
    run_ablations("--pages_only")
    assert (recipe / "TABLES.md").read_text() == page and calls(recipe) == earlier
    runs = json.loads((recipe / "tables.json").read_text())
    assert [(run["system"], run["seed"], run["design"]) for run in runs] == [
        ("a", 0, 2), ("a", 1, 2), ("b", 0, 2), ("b", 1, 2), ("d", 0, 2), ("d", 1, 2)]
    assert len(runs[0]["draws"]["test ast ast bleu model es en"].split()) == 200
    assert "training.steps=7" in runs[0]["commands"][-1]


def test_a_run_that_fails_stops_only_those_that_start_from_it(recipe):
    (recipe / "fail").touch()
    with pytest.raises(AudioPaLMError, match="_seed1 failed; its output is in exp/tables/textlm_seed1/log/run.log"):
        run_ablations()
    assert [(run["system"], run["seed"]) for run in json.loads((recipe / "tables.json").read_text())] == [
        ("a", 0), ("b", 0), ("d", 0)]
    assert not [line for line in calls(recipe) if "a_seed1" in line or "b_seed1" in line]  # they start from textlm
    (recipe / "fail").unlink()
    run_ablations()
    assert len(json.loads((recipe / "tables.json").read_text())) == 6


def test_a_signal_ends_the_present_run_and_starts_no_other(recipe):
    (recipe / "slow").touch()
    process = subprocess.Popen([PYTHON, "-m", "audiopalm.bin.ablations", "--config", "tables.yaml", "--", "table5"],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               env=os.environ | {"PYTHONPATH": str(ROOT)})
    wait_until(lambda: (recipe / "calls.log").exists(), process)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=LIMIT)
    assert process.returncode != 0 and b"Traceback" not in errors
    assert len(calls(recipe)) == errors.count(b": ./run.sh ") == 1  # no other is announced either
    with Launcher(1) as launcher:
        pass
    with pytest.raises(AudioPaLMError, match="was not started"):
        launcher.run(recipe / "late", ["touch", "made"], recipe / "made")
    assert not (recipe / "made").exists()


def test_a_run_begins_as_soon_as_those_that_it_starts_from_have_ended():
    """The long run ends only when the last one has begun, which starts from a short one."""
    begun = threading.Event()
    jobs = {("long", 0): lambda: began.append(begun.wait(LIMIT)), ("short", 0): lambda: None,
            ("last", 0): begun.set}
    began = []
    with Launcher(2) as launcher:
        assert launcher.all(jobs, {("long", 0): set(), ("short", 0): set(), ("last", 0): {("short", 0)}}) == []
    assert began == [True]


def test_other_settings_need_another_folder(recipe):
    run_ablations("table5")
    with pytest.raises(AudioPaLMError, match="was begun with other settings; remove it, or give another --expdir"):
        run_ablations("--lm_args", "training.steps=3")
    run_ablations("--lm_args", "training.steps=3", "--expdir", "try", "--results", "try.json", "--report", "TRY.md",
                  "--plots", "try.html", "--seeds", "1", "--", "table5")
    assert "try/a_seed1" in (recipe / "TRY.md").read_text()
    with pytest.raises(AudioPaLMError, match="unknown table 'table6'; did you mean 'table"):
        run_ablations("table6")


def test_acoustic_models_read_the_tokens_of_their_codec(recipe):
    """All seeds share the tokens of a codec, and the systems that only speak with it use it too."""
    spoken = """
  - {name: ours, after: base, first: 9, acoustic_config: conf/acoustic.yaml}
  - {name: theirs, after: base, first: 9, codec: trained/their_codec, acoustic_config: conf/acoustic.yaml}
  - {name: prompt, after: theirs, first: 11, synthesize_args: --prompt none}
comparisons:"""
    (recipe / "spoken.yaml").write_text(DESIGN.replace("\ncomparisons:", spoken))
    design = load_config(Design, "spoken.yaml")
    ours, theirs, prompt = (SystemRun(design, design.system(name), 1, Path("exp/tables"))
                            for name in ("ours", "theirs", "prompt"))
    words, product = theirs.codec_call()
    assert " ".join(words).startswith("./run.sh --stage 4 --pretrained_codec trained/their_codec --stop_stage 5")
    assert product == Path("exp/tables/their_codec/tokens/train/codec.scp")
    assert words[words.index("--codec_exp") + 1] == "exp/tables/their_codec/codec"
    assert prompt.tokens == theirs.tokens == Path("exp/tables/their_codec/tokens") and prompt.codec_call() is None
    words, product = ours.codec_call()
    assert " ".join(words).startswith("./run.sh --stage 5 --stop_stage 5 --train_acoustic true --expdir exp ")
    assert product == Path("dump/tokens/train/codec.scp")
