"""Rows of a small decoded set. The judge always hears the same words; the embedding of a voice is its pitch."""

import json

import numpy as np
import pytest
from scoring_data import (
    ENGLISH,
    SPANISH,
    Parrot,
    remove_decode,
    replace_models,
    write_decode,
    write_set,
    write_speech,
    write_wav,
)

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import read_json, sha256, write_json
from audiopalm.data.datadir import read_table, write_table
from audiopalm.scoring import judge, metrics
from audiopalm.scoring.decodes import TestSet, sets_of
from audiopalm.scoring.metrics import score
from audiopalm.scoring.results import select
from audiopalm.scoring.score_set import Run, score_set, scored_texts


def pitch_voice(encoder, samples):
    """A unit vector whose angle is the pitch: equal pitches have cosine 1."""
    angle = np.abs(np.fft.rfft(samples)).argmax() / 100
    return np.array([np.cos(angle), np.sin(angle)], dtype=np.float32)


@pytest.fixture
def rows(tmp_path, monkeypatch):
    replace_models(monkeypatch, pitch_voice)
    root = write_set(tmp_path)
    run = Run("mini", 0, "the code", root / "score", {"parrot": None}, 1)
    return score_set(TestSet(root / "exp/decode", root / "dump/raw", "test"), run)


class Magpie(Parrot):
    package = "scipy"
    settings = ""


def value(rows, **wanted):
    (row,) = select(rows, **wanted)
    return row.value


def test_every_row_names_its_part(rows):
    assert {(row.task, row.part) for row in rows} == {
        ("asr", "asr"), ("ast", "ast"), ("s2st", "s2st"),
        ("asr+ast+s2st", "asr"), ("asr+ast+s2st", "ast"), ("asr+ast+s2st", "s2st")}


def test_values_are_those_computed_by_hand(rows):
    assert value(rows, task="asr", metric="wer") == round(1 / 6, 5)
    assert value(rows, task="ast", metric="chrf") == 100
    assert value(rows, task="asr+ast+s2st", part="asr", metric="wer") == 0
    # The judge hears `i have two`, twice, and nothing. The references have 3, 2 and 3 words: errors 0, 3 and 3.
    assert value(rows, task="s2st", metric="asr_wer", system="model") == round((0 + 3 + 3) / 8, 5)
    assert value(rows, task="s2st", metric="asr_wer", system="true_audio") == round((0 + 3 + 1) / 8, 5)
    assert not select(rows, system="true_tokens")


def test_voices_are_compared_with_the_source_and_with_other_speakers(rows):
    assert value(rows, task="s2st", metric="speaker_win", system="model") == round(2 / 3, 5)  # silence is a loss
    own = select(rows, task="s2st", metric="speaker_cosine", system="model")[0]
    other = select(rows, task="s2st", metric="speaker_cosine", system="other")[0]
    assert own.n == other.n == 2 and own.value > other.value
    assert own.signature.endswith("other speaker of the same language")
    systems = {row.system for row in select(rows, task="s2st", metric="acoustic_consistency")}
    assert systems == {"model", "other", "true_audio"} and not select(rows, metric="dnsmos")


def test_speech_with_the_prompts_of_others_is_compared_with_its_source(tmp_path, monkeypatch):
    replace_models(monkeypatch, pitch_voice)
    monkeypatch.setattr("audiopalm.scoring.score_set.dnsmos", lambda samples: 2.0)
    root = write_set(tmp_path)
    wrong = {name: write_wav(tmp_path / f"audio/{name}.wrong.wav", 600) for name in ("ana-es-a", "luis-es-a")}
    other = write_decode(root, "other_prompt_s2st_es_en", "other_prompt", "es", None, {}, wrong)
    record = root / "exp/decode/test/s2st_es_en/synthesis.json"
    write_json(other / "meta.json", {"task": "other_prompt", "beside_sha256": sha256(record)})
    run = Run("mini", 0, "the code", root / "score", {}, 1, quality=2)
    rows = select(score_set(TestSet(root / "exp/decode", root / "dump/raw", "test"), run), task="s2st")
    right, wrong = (value(rows, metric="speaker_cosine", system=system) for system in ("model", "other_prompt"))
    assert wrong < right
    assert {row.metric: row.n for row in select(rows, system="other_prompt")} == {
        "speaker_cosine": 2, "acoustic_consistency": 2, "speaker_win": 2, "dnsmos": 2}
    write_json(record, read_json(record) | {"seed": 1})
    with pytest.raises(AudioPaLMError, match="was spoken anew after"):
        score_set(TestSet(root / "exp/decode", root / "dump/raw", "test"), run)


def test_quality_is_measured_on_as_many_utterances_as_asked_for(tmp_path, monkeypatch):
    replace_models(monkeypatch, pitch_voice)
    monkeypatch.setattr("audiopalm.scoring.score_set.dnsmos", lambda samples: 3.0 if samples.any() else 1.0)
    root = write_set(tmp_path)
    run = Run("mini", 0, "the code", root / "score", {}, 1, quality=2)
    rows = score_set(TestSet(root / "exp/decode", root / "dump/raw", "test"), run)
    # The first and the third utterance. The model's speech for the third is silent.
    assert {row.system: (row.value, row.n) for row in select(rows, task="s2st", metric="dnsmos")} == {
        "model": (2, 2), "true_audio": (3, 2)}


def test_rows_state_their_judge_model_and_references(rows):
    for row in rows:
        assert (row.judge is not None) == row.metric.startswith("asr_")
        assert (row.model == "a" * 16) == (row.system in ("model", "other"))
        assert row.low <= row.value <= row.high
    texts = {row.ids for row in select(rows, task="s2st", metric="asr_wer")}
    assert len(texts) == 1  # the ceiling is scored on the same references


def test_true_tokens_are_scored_where_stage_11_has_spoken_them(tmp_path, monkeypatch):
    replace_models(monkeypatch, pitch_voice)
    root = write_set(tmp_path)
    write_decode(root, "true_tokens_en", "true_tokens", None, "en", {},
                 {"ana-es-a": str(root / "audio/ana-es-a.en.wav")})
    run = Run("mini", 0, "the code", root / "score", {"parrot": None}, 1)
    rows = score_set(TestSet(root / "exp/decode", root / "dump/raw", "test"), run)
    row = select(rows, task="s2st", system="true_tokens", metric="asr_wer")[0]
    assert row.value == 0 and row.n == 1


def test_a_reference_that_the_normaliser_empties_is_not_scored(tmp_path):
    root = write_set(tmp_path)
    for name in ("s2st_es_en", "asr+ast+s2st_es_en"):
        remove_decode(root / "exp/decode/test" / name)
    write_table(root / "dump/raw/test/text.en", ENGLISH | {"ana-es-a": "I have two.", "luis-es-a": "...!"})
    chrf = {}
    for normaliser in ("basic", "none"):
        run = Run("mini", 0, "the code", root / "score", {}, 1, normaliser)
        rows = score_set(TestSet(root / "exp/decode", root / "dump/raw", "test"), run)
        assert {row.normaliser for row in select(rows, task="asr")} == {"basic"}
        (chrf[normaliser],) = select(rows, task="ast", metric="chrf")
        assert chrf[normaliser].normaliser == normaliser
    assert (chrf["basic"].value, chrf["basic"].n) == (100, 2)  # the third reference has no words
    assert chrf["none"].value < 80 and chrf["none"].n == 3


@pytest.mark.parametrize("field, change", [
    ("normaliser", {"options": {"recognition": "whisper"}}), ("normaliser", {"options": {"speech": "cvss"}}),
    ("normaliser", {"options": {"translations": "none"}}), ("judge", {"options": {"judges": {"magpie": None}}}),
    ("code", {"options": {"code": "other code"}}), ("tag", {"meta": {"tag": "[ASR Castilian]"}}),
    ("decoding", {"meta": {"decoding": {"beam": 4}}}), ("model", {"meta": {"model_sha256": "c" * 64}}),
    ("vocabulary", {"meta": {"vocabulary_hash": "d" * 64}}), ("ids", {"text": {"luis-es-a": "tengo seis"}}),
    ("ids", {"names": "Luis-es-a"})])
def test_every_ingredient_changes_the_score_line(tmp_path, monkeypatch, field, change):
    replace_models(monkeypatch, pitch_voice)
    monkeypatch.setitem(judge.JUDGES, "magpie", Magpie)
    monkeypatch.setattr(metrics, "RESAMPLES", 5)  # the test does not use the intervals
    root = write_set(tmp_path)

    def values(**options):
        usual = {"code": "the code", "output": root / "score", "judges": {"parrot": None}, "processes": 1}
        run = Run("mini", 0, **usual | options)
        test_set = TestSet(root / "exp/decode", root / "dump/raw", "test")
        return {str(getattr(row, field)) for row in score_set(test_set, run)}

    before = values()
    folder = root / "exp/decode/test"
    for path in folder.glob("*/meta.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | change.get("meta", {})))
    record = json.loads((folder / "decodes.json").read_text())
    write_json(folder / "decodes.json", {name: meta | change.get("meta", {}) for name, meta in record.items()})
    write_table(root / "dump/raw/test/text", SPANISH | change.get("text", {}))
    if "names" in change:
        for path in [*(root / "dump/raw/test").iterdir(), *(root / "exp/decode/test").glob("*/[aw]*")]:
            path.write_text(path.read_text().replace("luis-es-a ", f"{change['names']} "))
        for path in folder.glob("*/wav.scp"):
            write_speech(path.parent, read_table(path))
    assert values(**change.get("options", {})) - before


def test_the_texts_behind_a_row_give_its_value(tmp_path, rows):
    for row in rows:
        if row.normaliser is not None:
            references, hypotheses = scored_texts(tmp_path / "score", row)
            names = sorted(references)
            texts = [[table[name] for name in names] for table in (references, hypotheses)]
            again = score(row.metric.removeprefix("asr_"), *texts).value
            assert round(again, 5) == row.value


def test_wrong_ids_and_languages_are_named(tmp_path):
    root = write_set(tmp_path)
    run = Run("mini", 0, "the code", root / "score", {}, 1)
    folder = root / "exp/decode/test/asr+ast+s2st_es_en"
    test_set = TestSet(root / "exp/decode", root / "dump/raw", "test")
    write_table(folder / "ast", {name.replace("luis", "lois"): text for name, text in ENGLISH.items()})
    with pytest.raises(AudioPaLMError, match="different utterances, e.g. 'lois-es-a'; run stage 10"):
        score_set(test_set, run)
    remove_decode(folder)
    write_table(root / "dump/raw/test/utt2lang", dict.fromkeys(SPANISH, "fr"))
    with pytest.raises(AudioPaLMError, match="asr_es is of 'es', but 'ana-es-a' is 'fr'"):
        score_set(TestSet(root / "exp/decode", root / "dump/raw", "test"), run)
    write_decode(root, "asr_es", "asr", "xx", None, {"asr": SPANISH})
    with pytest.raises(AudioPaLMError, match="unknown language 'xx'"):
        score_set(TestSet(root / "exp/decode", root / "dump/raw", "test"), run)


def test_a_missing_file_or_utterance_names_its_stage(tmp_path, monkeypatch):
    replace_models(monkeypatch, pitch_voice)
    with pytest.raises(AudioPaLMError, match=r"does not exist; run stage 10 \(decode\) first"):
        sets_of(tmp_path / "exp/decode")
    root = write_set(tmp_path)
    test_set = TestSet(root / "exp/decode", root / "dump/raw", "test")
    run = Run("mini", 0, "the code", root / "score", {}, 1)
    (root / "exp/decode/test/s2st_es_en/wav.scp").unlink()
    with pytest.raises(AudioPaLMError, match="stage 11"):
        score_set(test_set, run)
    decode = test_set.decodes[0]
    with pytest.raises(AudioPaLMError, match="no reference for 'gone'.*stage 10"):
        test_set.references(decode, decode.task.outputs[0], ["ana-es-a", "gone"])
    (root / "exp/decode/test/asr_es/asr").write_text("ana-es-a tengo dos\n")
    with pytest.raises(AudioPaLMError, match="has 1 utterances, meta.json says 3"):
        score_set(test_set, run)
