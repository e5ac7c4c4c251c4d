"""The command of tables.sh, with a stand-in for run.sh that trains nothing."""

import json

import pytest
from commands import call
from scoring_data import result_row

from audiopalm.core.errors import AudioPaLMError
from audiopalm.scoring.results import write_rows

# It writes its options to calls.log and scores by the length of --lm_config. A file `fail` makes seed 1 fail.
RUN = r'''#!/usr/bin/env bash
echo "$*" >> calls.log
while [ $# -gt 0 ]; do declare "${1#--}=$2"; shift 2; done
[ ! -e fail ] || [ "${seed}" != 1 ] || exit 3
[ -e "${expdir}/textlm/model" ] || [ "${stage}" -lt 8 ] || exit 4
mkdir -p "${expdir}"
sed "s/0.25/$((seed + $(wc -c < "${lm_config}")))/" rows.json > "${expdir}/results.json"
'''
TABLE = """
lm_args: training.steps=7
systems:
  - {name: a, lm_config: a.yaml}
  - {name: b, lm_config: b.yaml, textlm_args: training.steps=0}
  - {name: c, lm_config: a.yaml, units_config: conf/units_of_another.yaml}
comparisons:
  - {name: table5, title: "Table 5: a, b", paper_says: better, small: Small., sources: [es, fr], sides:
      [{system: a, label: one}, {system: b, label: two}, {system: c, label: three}]}
"""


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.sh").write_text(RUN)
    (tmp_path / "run.sh").chmod(0o755)
    (tmp_path / "tables.yaml").write_text(TABLE)
    (tmp_path / "a.yaml").write_text("1234")
    (tmp_path / "b.yaml").write_text("123456789")
    rows = [result_row("ast", "bleu", 0.25, source=source, target="en", low=None, high=None) for source in ("es", "fr")]
    write_rows(tmp_path / "rows.json", rows)
    for name in ("vocabulary", "textlm"):
        (tmp_path / "exp" / name).mkdir(parents=True)
        (tmp_path / "exp" / name / "model").touch()
    return tmp_path


def run_ablations(*options):
    call("ablations", "--config", "tables.yaml", "--seeds", "0 1", *options)


def test_each_run_is_done_once_and_is_on_the_page(recipe):
    run_ablations("--parallel", "2")
    calls = (recipe / "calls.log").read_text().splitlines()
    assert len(calls) == 4
    assert sum("--stage 8 " in line and "--lm_config a.yaml --lm_args training.steps=7" in line for line in calls) == 2
    assert sum("--stage 7 " in line and "--textlm_args training.steps=0" in line for line in calls) == 2
    page = (recipe / "TABLES.md").read_text()
    assert "| one | `a` |  | 4.5 | 0.7 | 4.0 | 5.0 |" in page and "| three | `c` |  | not run |" in page
    assert "two against one: +5.0" in page and "**holds**" in page
    run_ablations()
    assert (recipe / "calls.log").read_text().splitlines() == calls


def test_a_run_that_fails_does_not_stop_the_others(recipe):
    (recipe / "fail").touch()
    with pytest.raises(AudioPaLMError, match="_seed1 failed; its output is in exp/tables/._seed1/log/run.log"):
        run_ablations()
    runs = json.loads((recipe / "tables.json").read_text())
    assert [(run["system"], run["seed"]) for run in runs] == [("a", 0), ("b", 0)]
    (recipe / "fail").unlink()
    run_ablations()
    assert len(json.loads((recipe / "tables.json").read_text())) == 4


def test_other_options_need_another_folder(recipe):
    run_ablations("--only", "table5")
    with pytest.raises(AudioPaLMError, match="was begun with other options; remove it, or give another --expdir"):
        run_ablations("--lm_args", "training.steps=3")
    run_ablations("--lm_args", "training.steps=3", "--expdir", "try", "--results", "try.json", "--report", "TRY.md")
    with pytest.raises(AudioPaLMError, match="unknown row 'table6'; did you mean 'table5'"):
        run_ablations("--only", "table6")
