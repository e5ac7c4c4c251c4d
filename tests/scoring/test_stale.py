"""Scores and pages of outdated decodes, or of decodes by several models, are refused."""

import numpy as np
import pytest
from commands import call
from scoring_data import replace_models, run_score, write_decode, write_set, write_speech

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import read_json, write_json
from audiopalm.data.archive import write_ark
from audiopalm.data.datadir import read_table, write_table
from audiopalm.stages.decode_record import write_record


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    replace_models(monkeypatch)
    (tmp_path / "mini").mkdir()
    monkeypatch.chdir(write_set(tmp_path / "mini"))
    return tmp_path / "mini/exp/decode/test"


def run_report():
    call("report", "--results", "exp/results.json", "--output", "exp/report")


def check_refusal(command, match, **options):
    with pytest.raises(AudioPaLMError, match=match) as error:
        command(**options)
    assert "\n" not in str(error.value)


def change(path, **values):
    write_json(path, read_json(path) | values)


def test_a_decode_of_an_earlier_stage_10_is_refused(recipe):
    other = read_json(recipe / "decodes.json")["asr_es"] | {"model_sha256": "c" * 64}
    write_record(recipe, {"asr_es": other})  # as stage 10 does when it starts with another model
    check_refusal(run_score, r"asr_es was decoded with another model_sha256 than stage 10 \(decode\)")
    change(recipe / "asr_es/meta.json", model_sha256="c" * 64)
    check_refusal(run_score, r"asr\+ast\+s2st_es_en was decoded by the model a{16}, the set last by another; run "
                             r"stage 10 \(decode\) for it again, or remove the folder")
    (recipe / "asr_es/meta.json").unlink()
    check_refusal(run_score, r"asr_es is not finished; run stage 10 \(decode\) again")
    (recipe / "decodes.json").unlink()
    check_refusal(run_score, r"decodes.json does not exist; run stage 10 \(decode\) first")


def test_a_decode_with_other_settings_than_those_of_stage_10_is_refused(recipe):
    change(recipe / "asr_es/meta.json", decoding={"beam": 8})
    check_refusal(run_score, "asr_es was decoded with another decoding than stage 10")


def test_a_later_stage_10_for_other_tasks_keeps_the_decodes_of_the_same_model(recipe):
    write_record(recipe, {"asr_es": read_json(recipe / "decodes.json")["asr_es"]})
    assert sorted(read_json(recipe / "decodes.json")) == ["asr+ast+s2st_es_en", "asr_es", "ast_es_en", "s2st_es_en"]
    run_score()


def test_sets_decoded_by_two_models_are_refused(recipe, tmp_path):
    folder = write_decode(tmp_path / "mini", "../dev/asr_es", "asr", "es", None, {"asr": {"ana-es-a": "tengo dos"}})
    assert folder.resolve().parent.name == "dev"
    settings = {key: value for key, value in read_json(folder / "meta.json").items() if key not in ("count", "seconds")}
    settings |= {"set": "dev", "model_sha256": "d" * 64}
    change(folder / "meta.json", **settings)
    (folder.parent / "decodes.json").unlink()
    write_record(folder.resolve().parent, {"asr_es": settings})
    write_set(tmp_path / "mini")
    check_refusal(run_score, "the decodes of dev and of test are of different models, d{16} and a{16}")
    run_score("--sets", "test")


def test_speech_of_earlier_units_is_refused(recipe):
    units = {name: np.arange(9) for name in read_table(recipe / "s2st_es_en/wav.scp")}
    write_table(recipe / "s2st_es_en/units.scp", write_ark(recipe / "s2st_es_en/units.ark", units))
    check_refusal(run_score, r"s2st_es_en was decoded anew after it was spoken; run stage 11")


@pytest.mark.parametrize("key, value", [("acoustic_sha256", "e" * 64), ("codec_sha256", "f" * 64), ("seed", 7),
                                        ("generation", {"iterations": [8]})])
def test_a_ceiling_of_other_speech_models_or_settings_is_refused(recipe, key, value):
    """The ceiling is older than the last stage 9, or than the last overrides of stage 11."""
    made = {"acoustic_sha256": "a" * 64, "codec_sha256": "b" * 64, "generation": {"iterations": [1]}, "seed": 0}
    write_decode(recipe.parents[2], "true_tokens_en", "true_tokens", None, "en", {},
                 read_table(recipe / "s2st_es_en/wav.scp"))
    spoken = ["s2st_es_en", "asr+ast+s2st_es_en"]
    for name in [*spoken, "true_tokens_en"]:
        change(recipe / name / "synthesis.json", **made)
    run_score(judges="parrot")
    assert "true_tokens" in {row["system"] for row in read_json("exp/results.json")}
    for name in spoken:
        change(recipe / name / "synthesis.json", **{key: value})
    check_refusal(run_score, rf"true_tokens_en was spoken with another {key} than .*s2st_es_en; run stage 11 "
                             r"\(synthesize\) with --true_tokens again, or remove the former", judges="parrot")
    change(recipe / "true_tokens_en/synthesis.json", **{key: value})
    run_score(judges="parrot")


@pytest.mark.parametrize("folder, file, values", [("asr_es", "meta.json", {"count": 2}),
                                                  ("s2st_es_en", "synthesis.json", {"seed": 7})])
def test_a_page_of_the_scores_of_earlier_decodes_is_refused(recipe, folder, file, values):
    run_score()
    run_report()
    change(recipe / folder / file, **values)
    check_refusal(run_report, rf"the scores are not of .*{folder}, which was made, spoken or removed since; run "
                              r"stage 12 \(score\) again")
    write_speech(recipe / "s2st_es_en", read_table(recipe / "s2st_es_en/wav.scp"))


def test_figures_are_printed_beside_the_published_ones_and_published_on_request(recipe, capsys, tmp_path):
    """Only --publish writes into the folder of the recipe. Rows of other seeds stay there."""
    folder = tmp_path / "mini"
    run_score()
    assert "| ASR WER, mean of languages | 0.167 |  |  | 0 |  |" in capsys.readouterr().out
    assert not (folder / "results.json").exists()
    run_score("--publish")
    capsys.readouterr()
    assert read_json(folder / "results.json") == read_json(folder / "exp/results.json")
    assert (folder / "RESULTS.md").read_bytes() == (folder / "exp/RESULTS.md").read_bytes()
    change_seed(recipe, 1)
    (folder / "conf").mkdir()
    goal = "{figure: 'ASR WER, mean of languages', at_most: 0.15}"
    (folder / "conf/goals.yaml").write_text(f"recipe: mini\ngoals: [{goal}]\n")
    run_score("--seed", "1", "--publish")
    assert "languages | 0.167 | 0.167 | 0.167 to 0.167 | 1 | at most 0.15 |" in capsys.readouterr().out
    assert {row["seed"] for row in read_json(folder / "results.json")} == {0, 1}
    assert {row["seed"] for row in read_json(folder / "exp/results.json")} == {1}
    assert "at most 0.15 | **no** |" in (folder / "RESULTS.md").read_text()


def change_seed(recipe, seed):
    record = {name: meta | {"model_seed": seed} for name, meta in read_json(recipe / "decodes.json").items()}
    write_json(recipe / "decodes.json", record)
    for name in record:
        change(recipe / name / "meta.json", model_seed=seed)
