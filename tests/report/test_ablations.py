"""The rule of TABLES.md against scipy's Welch test, what a page says, and the recipe's own table of ablations."""

from pathlib import Path

import pytest
import yaml
from scipy.stats import ttest_ind
from scoring_data import result_row

from audiopalm.core.config import load_config
from audiopalm.core.errors import AudioPaLMError
from audiopalm.lm.training import LMConfig
from audiopalm.report.ablations import (
    AblationRun,
    Ablations,
    Comparison,
    Difference,
    Side,
    markdown,
    sentences,
    used_rows,
    welch,
)
from audiopalm.stages.decode import DecodeConfig

CONF = Path(__file__).parents[2] / "egs/mini/conf/tables"
SIDES = [Side("a", "one", "1.0"), Side("b", "two", "2.0", "asr+ast", "ast")]


def comparison(paper_says="better", metric="bleu"):
    return Comparison("table5", "Table 5: one, two", paper_says, "Small.", SIDES, metric, ["es", "fr"])


def run(system, seed, values, task="ast", part="ast"):
    rows = [result_row(task, "bleu", value, part=part, source=source, target="en")
            for source, value in zip(("es", "fr", "it"), values, strict=False)]
    return AblationRun(system, seed, [f"./run.sh --expdir {system}"], rows)


@pytest.mark.parametrize("first, second", [([16, 17, 15.5], [18, 19.5, 18.2]), ([1, 2, 9], [4, 4.1])])
def test_interval_is_that_of_scipy(first, second):
    found = welch(first, second)
    wanted = ttest_ind(second, first, equal_var=False).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high))
    assert found.value == pytest.approx(sum(second) / len(second) - sum(first) / len(first))


def test_verdicts():
    assert [Difference(3, *interval).verdict(1) for interval in ((1, 5), (-1, 7), (-7, -1), (None, None))] == [
        "holds", "undecided", "does not hold", "undecided"]
    assert Difference(-3, -5, -1).verdict(-1) == "holds"
    assert welch([1.0], [2.0, 3.0]).low is None  # one seed decides nothing
    assert welch([2.0, 2.0], [3.0, 3.0]) == Difference(1, 1, 1)


@pytest.mark.parametrize("paper_says, metric, verdict", [
    ("better", "bleu", "holds"), ("worse", "bleu", "does not hold"), ("better", "wer", "does not hold")])
def test_what_is_better_depends_on_the_metric(paper_says, metric, verdict):
    values = {"a": {0: 1.0, 1: 1.1, 2: 0.9}, "b": {0: 3.0, 1: 3.1, 2: 2.9}}
    (sentence,) = sentences(comparison(paper_says, metric), values)
    assert f"**{verdict}**" in sentence and "+2.0" in sentence


def test_page():
    runs = [run("a", seed, values) for seed, values in enumerate(([10, 12, 99], [11, 13, 99]))]
    runs += [run("b", 0, [20, 22], "asr+ast"), run("b", 1, [21], "asr+ast")]
    ablations = load_ablations()
    ablations.comparisons = [comparison()]
    page = markdown(ablations, runs)
    assert "| one | `a` | 1.0 | 11.5 | 0.7 | 11.0 | 12.0 |" in page
    assert "| two | `b` | 2.0 | 21.0 |  | 21.0 |  |" in page  # French was not scored with seed 1
    assert "+9.5 (one seed has no spread)" in page and './tables.sh --only table5 --seeds "0 1"' in page


def test_rows_that_are_kept():
    rows = run("b", 0, [1, 2], "asr+ast").rows + run("b", 0, [3]).rows
    assert used_rows([comparison()], "b", rows) == rows[:2]


def load_ablations():
    return load_config(Ablations, CONF / "tables.yaml")


def test_table_of_the_recipe():
    ablations = load_ablations()
    titles = {one.title.partition(":")[0] for one in ablations.comparisons}
    assert titles >= {f"Table {number}" for number in range(5, 14)}
    for path in CONF.glob("*.yaml"):
        if path.name != "tables.yaml":
            load_config(DecodeConfig if path.name.startswith("decode") else LMConfig, path)
    assert load_config(LMConfig, CONF / "ast.yaml", ablations.lm_args.split()).optimizer.name == "muon"
    for system in ablations.systems:
        for file in (system.lm_config, system.decode_config):
            assert not file or (CONF.parents[1] / file).is_file(), file


@pytest.mark.parametrize("change, message", [
    ({"paper_says": "up"}, "table5: paper_says is better or worse, not 'up'"),
    ({"sides": [{"system": "astt", "label": "x"}]}, "table5: unknown system 'astt'; did you mean 'ast'")])
def test_mistakes_in_the_table(tmp_path, change, message):
    values = yaml.safe_load((CONF / "tables.yaml").read_text(encoding="utf-8"))
    values["comparisons"][0] |= change
    (tmp_path / "tables.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(AudioPaLMError, match=message):
        load_config(Ablations, tmp_path / "tables.yaml")
