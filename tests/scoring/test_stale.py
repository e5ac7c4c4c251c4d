"""Scores and pages are of the decodes that lie there, and of one model."""

import sys

import pytest
from scoring_data import Parrot, write_decode, write_set, write_speech

from audiopalm.bin import report, score
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import read_json, write_json
from audiopalm.data.archive import write_ark
from audiopalm.data.datadir import read_table, write_table
from audiopalm.scoring import judge, voice
from audiopalm.stages.decode_record import write_record


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    monkeypatch.setitem(judge.JUDGES, "parrot", Parrot)
    monkeypatch.setattr(judge, "_judges", {})
    monkeypatch.setattr(voice.Voices, "_one", lambda self, file: voice.np.ones(2, dtype="float32"))
    (tmp_path / "mini").mkdir()
    monkeypatch.chdir(write_set(tmp_path / "mini"))
    return tmp_path / "mini/exp/decode/test"


def run_score(monkeypatch, *options):
    monkeypatch.setattr(sys, "argv", ["score", "--decode_dir", "exp/decode", "--data_dir", "dump/raw", "--output",
                                      "exp/score", "--results", "exp/results.json", "--report", "exp/RESULTS.md",
                                      "--judges", "", "--processes", "1", *options])
    score.main()


def run_report(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["report", "--results", "exp/results.json", "--output", "exp/report"])
    report.main()


def refused(call, *arguments, match):
    with pytest.raises(AudioPaLMError, match=match) as error:
        call(*arguments)
    assert "\n" not in str(error.value)


def change(path, **values):
    write_json(path, read_json(path) | values)


def test_a_decode_that_stage_10_has_not_made_last(recipe, monkeypatch):
    other = read_json(recipe / "decodes.json")["asr_es"] | {"model_sha256": "c" * 64}
    write_record(recipe, {"asr_es": other})  # as stage 10 does when it begins anew with another model
    refused(run_score, monkeypatch, match=r"asr_es was decoded with another model_sha256 than stage 10 \(decode\)")
    change(recipe / "asr_es/meta.json", model_sha256="c" * 64)
    refused(run_score, monkeypatch, match=r"asr\+ast\+s2st_es_en was decoded by the model a{16}, the set last by "
                                          r"another; run stage 10 \(decode\) for it again, or remove the folder")
    (recipe / "asr_es/meta.json").unlink()
    refused(run_score, monkeypatch, match=r"asr_es is not finished; run stage 10 \(decode\) again")
    (recipe / "decodes.json").unlink()
    refused(run_score, monkeypatch, match=r"decodes.json does not exist; run stage 10 \(decode\) first")


def test_other_decoding_settings(recipe, monkeypatch):
    change(recipe / "asr_es/meta.json", decoding={"beam": 8})
    refused(run_score, monkeypatch, match="asr_es was decoded with another decoding than stage 10")


def test_a_later_call_for_other_tasks_keeps_the_decodes_of_the_model(recipe, monkeypatch):
    write_record(recipe, {"asr_es": read_json(recipe / "decodes.json")["asr_es"]})
    assert sorted(read_json(recipe / "decodes.json")) == ["asr+ast+s2st_es_en", "asr_es", "ast_es_en", "s2st_es_en"]
    run_score(monkeypatch)


def test_sets_of_two_models(recipe, monkeypatch, tmp_path):
    folder = write_decode(tmp_path / "mini", "../dev/asr_es", "asr", "es", None, {"asr": {"ana-es-a": "tengo dos"}})
    assert folder.resolve().parent.name == "dev"
    settings = {key: value for key, value in read_json(folder / "meta.json").items() if key not in ("count", "seconds")}
    settings |= {"set": "dev", "model_sha256": "d" * 64}
    change(folder / "meta.json", **settings)
    (folder.parent / "decodes.json").unlink()
    write_record(folder.resolve().parent, {"asr_es": settings})
    write_set(tmp_path / "mini")
    refused(run_score, monkeypatch, match="the decodes of dev and of test are of different models, d{16} and a{16}")
    run_score(monkeypatch, "--sets", "test")


def test_speech_of_earlier_units(recipe, monkeypatch):
    units = {name: voice.np.arange(9) for name in read_table(recipe / "s2st_es_en/wav.scp")}
    write_table(recipe / "s2st_es_en/units.scp", write_ark(recipe / "s2st_es_en/units.ark", units))
    refused(run_score, monkeypatch, match=r"s2st_es_en was decoded anew after it was spoken; run stage 11")


@pytest.mark.parametrize("key, value", [("acoustic_sha256", "e" * 64), ("codec_sha256", "f" * 64), ("seed", 7),
                                        ("generation", {"iterations": [8]})])
def test_a_ceiling_of_other_speech_models_or_settings(recipe, monkeypatch, key, value):
    """As after another stage 9, or other overrides of stage 11, without --true_tokens: the old ceiling lies there."""
    made = {"acoustic_sha256": "a" * 64, "codec_sha256": "b" * 64, "generation": {"iterations": [1]}, "seed": 0}
    write_decode(recipe.parents[2], "true_tokens_en", "true_tokens", None, "en", {},
                 read_table(recipe / "s2st_es_en/wav.scp"))
    spoken = ["s2st_es_en", "asr+ast+s2st_es_en"]
    for name in [*spoken, "true_tokens_en"]:
        change(recipe / name / "synthesis.json", **made)
    run_score(monkeypatch, "--judges", "parrot")
    assert "true_tokens" in {row["system"] for row in read_json("exp/results.json")}
    for name in spoken:
        change(recipe / name / "synthesis.json", **{key: value})
    refused(run_score, monkeypatch, "--judges", "parrot",
            match=rf"true_tokens_en was spoken with another {key} than .*s2st_es_en; run stage 11 \(synthesize\) with "
                  "--true_tokens again, or remove the former")
    change(recipe / "true_tokens_en/synthesis.json", **{key: value})
    run_score(monkeypatch, "--judges", "parrot")


@pytest.mark.parametrize("folder, file, values", [("asr_es", "meta.json", {"count": 2}),
                                                  ("s2st_es_en", "synthesis.json", {"seed": 7})])
def test_a_page_of_scores_of_other_decodes(recipe, monkeypatch, folder, file, values):
    run_score(monkeypatch)
    run_report(monkeypatch)
    change(recipe / folder / file, **values)
    refused(run_report, monkeypatch, match=rf"the scores are not of .*{folder}, which was made, spoken or removed "
                                           r"since; run stage 12 \(score\) again")
    write_speech(recipe / "s2st_es_en", read_table(recipe / "s2st_es_en/wav.scp"))


def test_figures_beside_the_published_ones(recipe, monkeypatch, capsys, tmp_path):
    """Nothing is written into the recipe unless asked for; another run of the seed replaces the published one."""
    folder = tmp_path / "mini"
    run_score(monkeypatch)
    assert "| ASR WER, mean of languages | 0.167 |  |  | 0 |  |" in capsys.readouterr().out
    assert not (folder / "results.json").exists()
    run_score(monkeypatch, "--publish")
    capsys.readouterr()
    assert read_json(folder / "results.json") == read_json(folder / "exp/results.json")
    assert (folder / "RESULTS.md").read_bytes() == (folder / "exp/RESULTS.md").read_bytes()
    change_seed(recipe, 1)
    (folder / "conf").mkdir()
    goal = "{figure: 'ASR WER, mean of languages', at_most: 0.15}"
    (folder / "conf/goals.yaml").write_text(f"recipe: mini\ngoals: [{goal}]\n")
    run_score(monkeypatch, "--seed", "1", "--publish")
    assert "languages | 0.167 | 0.167 | 0.167 to 0.167 | 1 | at most 0.15 |" in capsys.readouterr().out
    assert {row["seed"] for row in read_json(folder / "results.json")} == {0, 1}
    assert {row["seed"] for row in read_json(folder / "exp/results.json")} == {1}
    assert "at most 0.15 | **no** |" in (folder / "RESULTS.md").read_text()


def change_seed(recipe, seed):
    record = {name: meta | {"model_seed": seed} for name, meta in read_json(recipe / "decodes.json").items()}
    write_json(recipe / "decodes.json", record)
    for name in record:
        change(recipe / name / "meta.json", model_seed=seed)
