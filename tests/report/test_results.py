"""results.json, in which runs are merged, and RESULTS.md, which is made from it."""

from dataclasses import replace
from pathlib import Path

import pytest
from scoring_data import result_row

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import read_json, write_json
from audiopalm.report.page import from_markdown
from audiopalm.report.results_page import markdown, write_results
from audiopalm.scoring.goals import Goal, load_goals
from audiopalm.scoring.headline import FIGURES, headlines
from audiopalm.scoring.results import merge, one_judge, read_rows, row_to_dict, write_rows

GOALS = load_goals(Path(__file__).parents[2] / "egs/mini/conf/goals.yaml", list(FIGURES))


def row(task, metric, value, seed=0, source="es", target=None, **more):
    return result_row(task, metric, value, seed=seed, source=source, target=target, **more)


def test_rows_of_the_same_seed_and_set_are_replaced_and_others_stay(tmp_path):
    path = tmp_path / "results.json"
    merge(path, [row("asr", "wer", 0.5), row("asr", "cer", 0.4), row("asr", "wer", 0.6, set="dev")])
    merge(path, [row("asr", "wer", 0.3, seed=1)])
    merge(path, [row("asr", "wer", 0.1)])
    values = {(row.set, row.seed, row.metric): row.value for row in read_rows(path)}
    assert values == {("test", 0, "wer"): 0.1, ("test", 1, "wer"): 0.3, ("dev", 0, "wer"): 0.6}


def test_the_file_does_not_depend_on_the_order_of_runs(tmp_path):
    runs = [[row("asr", "wer", 0.5, seed, source) for source in ("ru", "es")] for seed in (1, 0, 2)]
    for name, order in (("a", runs), ("b", [run[::-1] for run in runs[::-1]])):
        for new in order:
            merge(tmp_path / name, new)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_file_without_rows_is_refused(tmp_path):
    write_json(tmp_path / "results.json", {"rows": 1})
    with pytest.raises(AudioPaLMError, match="not a list of result rows"):
        merge(tmp_path / "results.json", [])


@pytest.mark.parametrize("change, message", [
    ({"valeu": 1.0}, "unknown key 'valeu'; did you mean 'value'"), ({"value": "0.5"}, "value is '0.5', expected float"),
    ({"part": 3}, "part is '3', expected str or null"), ({"n": True}, "n is 'True', expected int"),
    ({"seed": None}, "seed is 'None', expected int"), ({"decoding": []}, "decoding is '.*', expected dict or null"),
    (None, "the key 'judge' is missing")])
def test_a_damaged_row_is_named(tmp_path, change, message):
    good = row_to_dict(row("asr", "wer", 0.5))
    bad = good | change if change else {key: value for key, value in good.items() if key != "judge"}
    write_json(tmp_path / "results.json", [good, bad])
    with pytest.raises(AudioPaLMError, match=f"results.json: row 2: {message}") as error:
        read_rows(tmp_path / "results.json")
    assert "\n" not in str(error.value)
    write_json(tmp_path / "results.json", [good])
    assert read_rows(tmp_path / "results.json") == [row("asr", "wer", 0.5)]
    assert read_json(tmp_path / "results.json") == [good]


MOONSHINE = "moonshine-voice 0.0.73, 0.3 s silence around"
ROWS = [row("asr", "wer", 0.10, source="es"), row("asr", "wer", 0.20, source="fr"), row("asr", "wer", 0.14, 1, "es"),
        row("asr", "wer", 0.20, 1, "fr"),
        row("s2st", "asr_bleu", 40.0, target="en", judge=MOONSHINE),
        row("s2st", "asr_bleu", 80.0, target="en", judge=MOONSHINE, system="true_audio"),
        row("s2st", "asr_bleu", 10.0, target="en", judge="pocketsphinx 5"),
        row("asr+ast+s2st", "wer", 0.25, target="en", part="asr"), row("mt", "bleu", 90.0, source="es", target="en")]


def test_headlines_are_means_of_their_rows_and_meet_goals_or_not():
    lines = {line.name: line for line in headlines(ROWS, "mini", "test", GOALS)}
    asr = lines["ASR WER, mean of languages"]
    assert asr.values == {0: pytest.approx(0.15), 1: pytest.approx(0.17)} and asr.mean == pytest.approx(0.16)
    assert asr.met is False
    s2st = lines["S2ST es-en ASR-BLEU"]
    assert s2st.values == {0: 40.0} and s2st.ceiling == 80.0 and s2st.met is False
    assert lines["MT BLEU, mean of pairs"].met is True
    assert headlines(ROWS, "other", "test") == []


def test_figures_are_of_the_judge_that_has_heard_most():
    rows = [result_row("s2st", "asr_bleu", value, judge=judge, n=n, recipe="mini", source="es", target="en", set="test")
            for value, judge, n in ((52.4, "moonshine-base", 40), (60.0, "openai/whisper-medium", 100))]
    assert {row.judge for row in one_judge(rows)} == {"openai/whisper-medium"}
    assert {row.judge for row in one_judge([replace(row, n=40) for row in rows])} == {"moonshine-base"}


def test_goals_are_read_from_the_file_of_the_recipe(tmp_path):
    assert headlines(ROWS, "mini", "test")[0].met is None  # no goals are given
    assert [str(goal) for goal in GOALS.goals] == [
        "at most 0.15", "at least 60", "at least 80", "at most 0.15 above true audio", "at least 60 % of true audio",
        "at least 0.80"]
    above = Goal("x", at_most_above_true_audio=0.15)
    assert above.is_met(0.25, 0.1) and not above.is_met(0.26, 0.1) and not above.is_met(0.0, None)
    with pytest.raises(AudioPaLMError, match="give one of at_most, at_least, .*, found 2"):
        Goal("x", at_most=1, at_least=0)
    (tmp_path / "goals.yaml").write_text("recipe: mini\ngoals: [{figure: ASR WER, at_most: 1}]\n")
    with pytest.raises(AudioPaLMError, match="goals.yaml: unknown figure 'ASR WER'; known: ASR WER, mean of"):
        load_goals(tmp_path / "goals.yaml", list(FIGURES))


def test_the_page_is_made_from_rows_alone(tmp_path):
    write_rows(tmp_path / "results.json", ROWS)
    write_results(tmp_path / "results.json", tmp_path / "RESULTS.md")
    first = (tmp_path / "RESULTS.md").read_text(encoding="utf-8")
    write_results(tmp_path / "results.json", tmp_path / "RESULTS.md")
    assert (tmp_path / "RESULTS.md").read_text(encoding="utf-8") == first
    assert first == markdown(read_rows(tmp_path / "results.json")) and "TABLES.md" not in first
    (tmp_path / "TABLES.md").touch()
    write_results(tmp_path / "results.json", tmp_path / "RESULTS.md")
    assert "[TABLES.md](TABLES.md#in-plain-words)" in (tmp_path / "RESULTS.md").read_text(encoding="utf-8")
    assert "| ASR WER, mean of languages | 0.160 | 0.150 | 0.170 |" in first
    assert "| es-en | asr_bleu | moonshine-voice | 40.0 | 40.0 | [36.0, 44.0] | 3 | 80.0 |" in first
    assert "| es-en | asr | wer |" in first and MOONSHINE in first and "beam=1" in first


def test_a_judge_with_other_settings_has_a_row_of_its_own():
    rows = [*ROWS, row("s2st", "asr_bleu", 50.0, 1, target="en", judge=f"{MOONSHINE}, other settings")]
    page = markdown(rows)
    assert "| es-en | asr_bleu | moonshine-voice (1) | 40.0 | 40.0 |  | [36.0, 44.0] | 3 | 80.0 |" in page
    assert "| es-en | asr_bleu | moonshine-voice (2) | 50.0 |  | 50.0 | [45.0, 55.0] | 3 |  |" in page
    assert f"`moonshine-voice (1): {MOONSHINE}`; `moonshine-voice (2): {MOONSHINE}, other settings`" in page


def test_recipes_stand_side_by_side_with_empty_cells_where_nothing_was_measured():
    other = [replace(line, recipe="mini-logmel", value=line.value * 2) for line in ROWS[:4]]
    units = row("units", "phone_purity", 0.48, source=None, set="units", recipe="mini-logmel", low=None, high=None,
                tag="log-mel")
    page = markdown([*ROWS, *other, units, replace(units, metric="bits_per_second", value=225.0)])
    assert "| mini |  |  |  |  |  | 2 | 0.160 |  |  | 40.0 |" in page
    assert "| mini-logmel | log-mel | 0.480 |  |  | 225.000 | 2 | 0.320 |  |  |  |" in page
    assert "All recipes" not in markdown(ROWS)


def test_a_markdown_table_as_html_has_its_empty_cells():
    assert from_markdown("| a | b | c |\n| --- | --- | --- |\n| 1 |  |  |").count("<td>") == 3
