"""The pages made from the scores alone, and the design of egs/mini."""

from pathlib import Path

import pytest
import yaml
from scoring_data import result_row

from audiopalm.ablations.curves import write_curves
from audiopalm.ablations.design import Budget, Comparison, Design, Side, Spread, System
from audiopalm.ablations.runs import Run, read_runs, used_rows
from audiopalm.ablations.tables_page import markdown, needed, sentences
from audiopalm.core.config import apply_overrides, from_dict, load_config, to_dict
from audiopalm.core.errors import AudioPaLMError
from audiopalm.lm.training import LMConfig

RECIPE = Path(__file__).parents[2] / "egs/mini"
CONF = RECIPE / "conf/tables"


def make_design(paper_says="better", metric="bleu"):
    sides = [Side("a", "one", "1.0", earlier="old_a", x=1),
             Side("b", "two", "2.0", "asr+ast", "ast", earlier="old_b", x=2)]
    comparison = Comparison("table5", "Table 5: one, two", "Is two better?", sides, paper_says, metric=metric,
                            sources=["es", "fr"], sets=["test"], plot="size")
    systems = [System("textlm", "base", 7, 7), *(System(name, mixture="m", budget="t") for name in "ab")]
    return Design(2, 2, spread={"bleu": Spread(1.0, 1.0)}, budgets={"t": Budget(10)}, mixtures={"m": []},
                  systems=systems, comparisons=[comparison])


def run(system, seed, values, task="ast", metric="bleu", design=2):
    rows = [result_row(task, metric, value, part="ast", source=source, target="en", low=None, high=None)
            for source, value in zip(("es", "fr", "it"), values, strict=False)]
    rows += [result_row("lm", "text_loss", value, part=None, system=system_of, low=None, high=None)
             for system_of, value in (("text_lm", 1.0), ("model", 1.5 + seed))]
    cost = {"steps": 3, "task_tokens": 10, "tokens": 20, "parameters": 100, "seconds": 1.0}
    return Run(system, seed, design, [f"./run.sh --expdir {system}"], rows, cost)


@pytest.mark.parametrize("paper_says, metric, verdict", [
    ("better", "bleu", "holds"), ("worse", "bleu", "does not hold"), ("better", "wer", "does not hold"),
    ("nothing", "bleu", "higher")])
def test_the_metric_decides_whether_more_is_better(paper_says, metric, verdict):
    design = make_design(paper_says, metric)
    runs = [run(system, seed, [value + seed / 10] * 2, task, metric) for seed in (0, 1, 2)
            for system, value, task in (("a", 1.0, "ast"), ("b", 3.0, "asr+ast"))]
    sentence = sentences(design, design.comparisons[0], runs)[0]
    assert f"**{verdict}**" in sentence and "+2.0" in sentence


def test_the_page_has_means_costs_and_what_was_not_run():
    design = make_design()
    page = markdown(design, [])
    assert "| `table5` | *two* against *one* | BLEU | better | not run yet |" in page
    assert "- **Not run yet**: 1 of 1 comparisons." in page and "What small scale cannot say" in page
    assert "Of this design not run yet. With 2 seeds the design finds a difference of" in page
    assert "    ./tables.sh table5" in page and "## What finetuning forgets" in page and "Not run yet." in page
    runs = [run("a", seed, values) for seed, values in enumerate(([10, 12, 99], [11, 13, 99]))]
    runs += [run("b", 0, [20, 22], "asr+ast"), run("b", 1, [21], "asr+ast")]  # French was not scored with seed 1
    page = markdown(design, runs)
    assert "| one | `a` | 1.0 | 11.5 | 0.7 |" in page and "| 2 | 10 | 20 | 1.2e+04 |" in page
    assert "| two | `b` | 2.0 | 21.0 |  |  | 1 |" in page
    assert "+9.5 (one seed has no spread)" in page and "**undecided** (1 of 2 seeds)" in page
    assert ("- **Not decided yet, some seeds are missing**\n  - `table5`, Table 5: one, two. Is two better? *two* "
            "against *one*: +9.5 BLEU (one seed has no spread).\n") in page
    assert "| `a` | 1.000 | 2.000 | +1.00 (-5.35 to +7.35) |" in page


def test_results_of_an_earlier_design_are_shown_until_they_are_replaced():
    design, old = make_design(), [run(name, seed, [value + seed] * 2, task, design=1) for seed in (0, 1, 2)
                                  for name, value, task in (("old_a", 1, "ast"), ("old_b", 11, "asr+ast"))]
    page = markdown(design, old)
    assert "Of the earlier design 1 (3 seeds" in page and "one 2.0, two 12.0. two +10.0 (+7.7 to +12.3), holds." in page
    assert needed(design, old) == old
    new = [run(name, seed, [value + seed] * 2, task) for seed in (0, 1)
           for name, value, task in (("a", 1, "ast"), ("b", 11, "asr+ast"))]
    assert "- **As in the paper, or as expected where it has no such table**\n  - `table5`, " in markdown(design, new)
    assert "earlier design" not in markdown(design, [*old, *new]) and needed(design, [*old, *new]) == new


def test_only_rows_of_a_comparison_and_of_forgetting_are_used():
    rows = run("b", 0, [1, 2], "asr+ast").rows + run("b", 0, [3]).rows
    assert used_rows(make_design(), "b", rows) == [row for row in rows if row.task != "ast"]


def test_a_plot_has_the_sides_that_were_run():
    assert write_curves(make_design(), []).count("Not run yet.") == 3
    page = write_curves(make_design(), [run("a", seed, [1 + seed] * 2) for seed in (0, 1)])
    assert page.count("data:image/svg+xml") == 2 and "Table 5: one, two" in page


def test_the_design_of_the_recipe_names_existing_files_and_is_complete():
    design = load_config(Design, CONF / "tables.yaml")
    titles = {comparison.title.partition(":")[0] for comparison in design.comparisons}
    assert titles >= {f"Table {number}" for number in range(4, 14)} and design.seeds == 5
    for system in design.systems:
        for file in (system.decode_config, system.units_config, system.acoustic_config):
            assert not file or (RECIPE / file).is_file(), file
        if system.mixture:
            values = {"mixture": [to_dict(entry) for entry in design.mixtures[system.mixture]]}
            config = from_dict(LMConfig, apply_overrides(values, f"{design.lm_args} {system.lm_args}".split()), "")
            assert config.optimizer.name == ("adamw" if system.init_lm else "muon")
            budget, mixture = design.budgets[system.budget], design.mixtures[system.mixture]
            tasks = {entry.task for entry in mixture}
            assert tasks & set(budget.tasks or tasks)
    used = {step.name for comparison in design.comparisons for side in comparison.sides
            for step in design.chain(side.system)}
    assert used == {system.name for system in design.systems}


def test_the_committed_page_is_made_from_the_committed_scores():
    page = markdown(load_config(Design, CONF / "tables.yaml"), read_runs(RECIPE / "tables.json"))
    assert page == (RECIPE / "TABLES.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("where, change, message", [
    (("comparisons", 0), {"paper_says": "up"}, "paper_says: unknown value 'up'; known: better, nothing, worse"),
    (("comparisons", 0), {"tittle": "x"}, "unknown key 'tittle'; did you mean 'title'"),
    (("comparisons", 0), {"sides": [{"system": "astt", "label": "x"}]}, "unknown table5: system 'astt'; did you mean"),
    (("systems", 1), {"mixture": "asd"}, "unknown system ast: mixture 'asd'"),
    (("systems", 1), {"budget": ""}, "system ast: a mixture needs a budget"),
    (("systems", 1), {"acoustic_config": "x", "first": 10}, "mixture is of stage 8, but the system runs stages 10 to"),
    (("systems", 1), {"codec": "x"}, "system ast: another codec needs an acoustic model"),
    (("systems", 1), {"after": "ast"}, "system ast comes after itself"),
    (("systems", 1), {"name": "textlm"}, "the system textlm occurs twice")])
def test_a_mistake_in_the_design_is_named(tmp_path, where, change, message):
    values = yaml.safe_load((CONF / "tables.yaml").read_text(encoding="utf-8"))
    values[where[0]][where[1]] |= change
    (tmp_path / "tables.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(AudioPaLMError, match=message):
        load_config(Design, tmp_path / "tables.yaml")
