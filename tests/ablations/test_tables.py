"""The tables of the paper beside our figures from results.json of several recipes."""

import shutil
from pathlib import Path

import pytest
from scoring_data import result_row

from audiopalm.ablations.tables import print_tables
from audiopalm.core.errors import AudioPaLMError
from audiopalm.scoring.results import write_rows

CONF = Path(__file__).parents[2] / "egs/mini/conf/tables/tables.yaml"


def row(recipe, task, metric, value, source="es", target="en", set_name="test", seed=0):
    return result_row(task, metric, value, recipe=recipe, source=source, target=target, set=set_name, seed=seed)


@pytest.fixture
def egs(tmp_path):
    (tmp_path / "mini/conf/tables").mkdir(parents=True)
    shutil.copy(CONF, tmp_path / "mini/conf/tables")
    write_rows(tmp_path / "mini/results.json", [
        row("mini", "ast", "bleu", 70.0), row("mini", "ast", "bleu", 80.0, "fr"),
        row("mini", "ast", "bleu", 79.0, seed=1), row("mini", "ast", "bleu", 1.0, set_name="dev"),
        row("mini-other", "ast", "bleu", 2.0)])
    write_rows(tmp_path / "joint/results.json", [
        row("joint_ast", "ast", "bleu", 30.0, set_name="covost2_test"),
        row("joint_ast", "asr", "wer", 0.123, target=None, set_name="voxpopuli_test"),
        row("joint_ast-scratch", "ast", "bleu", 5.0, set_name="covost2_test"),
        row("joint_ast-scratch", "ast", "bleu", 99.0, set_name="dev_ast")])
    write_rows(tmp_path / "fleurs/results.json", [
        row("fleurs", "ast", "bleu", 20.0), row("fleurs", "ast", "bleu", 8.0, "af")])
    return tmp_path


def test_our_figures_stand_beside_those_of_the_paper(egs):
    text = print_tables(egs, [])
    assert "| CoVoST2 BLEU | AudioPaLM 8B AST | 35.4 | 30.0 (joint_ast) | 77.0 ± 2.8 |" in text
    assert "| VoxPopuli WER | AudioPaLM-2 8B AST | 9.8 | 12.3 (joint_ast) |  |" in text
    assert "| 29 languages seen in AST | AudioPaLM 8B AST | 22.4 | 20.0 (fleurs) |  |" in text
    assert "| 23 languages with ASR only | AudioPaLM 8B AST | 10.0 |  |  |" in text  # the paper does not name them
    assert "| from scratch | `scratch` | 6.9 | 5.0 |  |" in text
    assert [f"## Table {number}:" in text for number in range(1, 15)] == [False, *[True] * 12, False]


def test_figures_of_the_paper_that_were_not_verified_are_absent(egs):
    for figure in ("11.1", "36.2", "16.0 |  |  |\n| AudioPaLM 8B S2ST"):
        assert figure not in print_tables(egs, ["2"])


def test_only_the_chosen_tables_are_printed(egs):
    assert print_tables(egs, ["5"]).count("## ") == 2 and print_tables(egs, ["6", "2"]).count("## ") == 6
    with pytest.raises(AudioPaLMError, match="no table '14'"):
        print_tables(egs, ["14"])
