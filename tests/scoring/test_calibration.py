"""The confidence of answers: the fit, the outside set, and a packed model that states its calibrated confidence."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from packed import make_pack, spoken
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from audiopalm import cli
from audiopalm.codec.registry import load_codec
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import sha256, write_json
from audiopalm.data.archive import write_ark
from audiopalm.data.audio import SAMPLE_RATE, write_audio
from audiopalm.data.datadir import write_table
from audiopalm.data.example_set import ExampleSet
from audiopalm.inference import AudioPaLM
from audiopalm.lm.generation.confidence import Confidence, Regression, judged
from audiopalm.lm.generation.evidence import ANSWER_FEATURES
from audiopalm.lm.trained import TrainedTask
from audiopalm.scoring import outside
from audiopalm.scoring.calibration import (
    CalibrationOptions,
    Observer,
    auc,
    best_threshold,
    calibrate,
    fit,
    reliability,
)
from audiopalm.tasks import AUDIO, TASKS, TRANSCRIPT
from audiopalm.units.registry import UnitTokenizer

CORPUS = Path(__file__).parents[2] / "egs" / "mini" / "corpus"


@pytest.mark.parametrize("balanced", [False, True])
def test_the_fit_is_that_of_scikit_learn(balanced):
    random = np.random.default_rng(0)
    features = random.standard_normal((300, 4)) * [1, 5, 0.1, 2] + [0, 3, 1, 0]
    label = features @ [1, 0.3, 5, 0] + random.standard_normal(300) > 8
    mine = fit(features, label, balanced)
    standard = (features - features.mean(axis=0)) / features.std(axis=0)
    theirs = LogisticRegression(C=1.0, class_weight="balanced" if balanced else None, tol=1e-10, max_iter=1000)
    theirs.fit(standard, label)
    assert mine.probability(features) == pytest.approx(theirs.predict_proba(standard)[:, 1], abs=1e-5)


def test_a_single_label_gives_its_frequency():
    assert fit(np.zeros((8, 2)), np.ones(8, dtype=bool)).probability(np.ones((1, 2))) == pytest.approx(0.9)


def test_the_area_under_the_curve_and_the_error_of_reliability_are_those_computed_by_hand():
    random = np.random.default_rng(1)
    positive, negative = random.integers(0, 9, 50), random.integers(0, 7, 40)
    assert auc(positive, negative) == pytest.approx(
        roc_auc_score([1] * 50 + [0] * 40, [*positive, *negative]), abs=1e-4)
    report = reliability(np.array([0.05, 0.95, 0.95, 1.0]), np.array([False, True, True, False]))
    assert [(group.count, group.right) for group in report.groups] == [(1, 0.0), (3, 0.6667)]
    assert report.error == pytest.approx((0.05 + 3 * abs(2.9 / 3 - 2 / 3)) / 4, abs=1e-3)


def test_an_input_outside_the_training_data_has_less_confidence():
    inside, right = Regression([0], [1], [1], 0, 0.5), Regression([0, 0], [1, 1], [0, 0], 2)
    confidence, known = judged([inside], right, np.array([[3.0], [-3.0]]), np.zeros((2, 1)))
    assert known.tolist() == [True, False]
    assert confidence[0] == pytest.approx(0.8808, abs=1e-4) and confidence[1] < 0.1


def test_the_threshold_makes_the_fewest_errors_of_both_kinds():
    inside = np.array([0.2, 0.9, 0.95])
    assert best_threshold(inside, [np.array([0.1, 0.1, 0.1, 0.3])]) == pytest.approx(0.15)
    assert best_threshold(inside, [np.array([0.1, 0.3, 0.4, 0.5])]) == pytest.approx(0.7)
    assert best_threshold(inside, [np.array([0.1, 0.1, 0.1]), np.array([0.3])]) == pytest.approx(0.6)  # equal weights


def test_the_outside_set_has_every_kind_and_is_repeatable():
    recordings = [("en", np.sin(np.arange(SAMPLE_RATE) / 9).astype(np.float32)), ("es", np.ones(8000, np.float32))]
    first, second = (outside.sounds(recordings, outside.TESTED_SOUNDS, 3, 7) for _ in range(2))
    assert list(first) == list(outside.TESTED_SOUNDS)
    for kind, sounds in first.items():
        for (_, samples), (_, again) in zip(sounds, second[kind], strict=True):
            assert np.array_equal(samples, again) and np.isfinite(samples).all() and len(samples) in (8000, SAMPLE_RATE)
    sentences = [("en", "one two three four five six"), ("es", "uno dos tres cuatro cinco seis")]
    fitted, tested = (outside.texts(CORPUS / "outside.yaml", sentences, outside.TESTED_TEXTS, 2, 0, fitting)
                      for fitting in (True, False))
    assert set(fitted) == set(outside.TESTED_TEXTS)
    assert not set(fitted["open"]) & set(tested["open"]) and len(fitted["open"]) == 20
    assert all((text, language) not in [(t, k) for k, t in sentences] for language, text in fitted["wrong language"])


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory):
    """(a tiny pack with the calibration of random answers, the report of the calibration, its options)"""
    root = tmp_path_factory.mktemp("calibrated")
    pack = make_pack(root / "pack")
    random = np.random.default_rng(0)
    units, codec = UnitTokenizer.load(pack / "units"), load_codec(pack / "codec")
    hashes = json.loads((pack / "acoustic" / "config.json").read_text())
    for name in ("dev", "test"):
        data, tokens = root / "raw" / name, root / "tokens" / name
        speech = {f"a-{language}-{number}": random.uniform(-0.3, 0.3, 8000).astype(np.float32)
                  for language in ("en", "es") for number in range(4)}
        for key, samples in speech.items():
            write_audio(root / f"{name}-{key}.flac", samples)
        write_table(data / "wav.scp", {key: str(root / f"{name}-{key}.flac") for key in speech})
        write_table(data / "text", dict.fromkeys(speech, "uno dos tres uno dos"))
        write_table(data / "text.en", {key: "one two three" for key in speech if "-es-" in key})
        write_table(data / "utt2lang", {key: key.split("-")[1] for key in speech})
        write_table(data / "utt2spk", dict.fromkeys(speech, "a"))
        encoded = {key: units.encode([samples])[0].astype(np.int32) for key, samples in speech.items()}
        write_table(tokens / "units.scp", write_ark(tokens / "units.ark", encoded))
        spoken_tokens = {key: codec.encode([samples])[0].astype(np.int32).ravel() for key, samples in speech.items()}
        write_table(tokens / "codec.scp", write_ark(tokens / "codec.ark", spoken_tokens))
        write_json(tokens / "meta.json", {"units_rate": 25, "units_size": 16, "units_sha256": hashes["units_sha256"],
                                          "codec_rate": 50, "codec_levels": 2, "codec_size": 16,
                                          "codes_sha256": hashes["codes_sha256"]})
    config = json.loads((pack / "lm" / "config.json").read_text())  # make_pack trains no MT from English
    config["trained"].append(dataclasses.asdict(TrainedTask("mt", "en", "es")))
    write_json(pack / "lm" / "config.json", config)
    options = CalibrationOptions(pack / "lm", pack / "vocabulary", pack / "units", root / "raw", root / "tokens", pack,
                                 outside_texts=CORPUS / "outside.yaml", most=4, outside_most=3)
    return pack, calibrate(options), options


def test_a_judge_hears_english_answers_of_tts_and_none_that_are_noise(calibrated):
    pack, report, options = calibrated
    assert report.judge == "" and report.right["tts"].count == 2  # one of each language
    heard = dataclasses.replace(options, judge="moonshine", acoustic=pack / "acoustic", codec=pack / "codec",
                                judged_most=3)
    dev = ExampleSet(options.data_dir / "dev", options.tokens / "dev")
    observed = Observer(heard).observe(TASKS["tts"], dev)
    assert observed.right.tolist() == [False] * 3 and observed.answers.shape == (3, len(ANSWER_FEATURES["tts"]))
    with pytest.raises(AudioPaLMError, match="--judge hears speech, which --acoustic and --codec make"):
        Observer(dataclasses.replace(heard, codec=None))


def test_the_report_has_every_task_input_and_kind_of_outside_sound(calibrated):
    _, report, _ = calibrated
    assert set(report.outside) == {AUDIO, TRANSCRIPT} and set(report.right) == {"asr", "ast", "mt", "tts"}
    assert set(report.outside[AUDIO].kinds) == set(outside.TESTED_SOUNDS)
    assert all(0 <= entry.auc <= 1 for entry in report.outside.values())


def test_answers_have_the_confidence(calibrated):
    pack, *_ = calibrated
    model = AudioPaLM.from_pretrained(pack, verify=False)
    speech = [spoken(3.0), spoken(3.0, 3.0)]
    together = model(speech, "[ASR Spanish]", SAMPLE_RATE, decoding={"text_tokens": 5})
    alone = model(speech[1], "[ASR Spanish]", SAMPLE_RATE, decoding={"text_tokens": 5})
    assert 0 <= alone.confidence <= 1 and alone.inside in (True, False)
    assert (together[1].confidence, together[1].inside) == (alone.confidence, alone.inside)
    short = {"text_tokens": 5, "audio_tokens": 5}
    for task, value in (("[S2ST Spanish English]", {"speech": speech[0]}),
                        ("[MT Spanish English]", {"text": "uno dos"}),
                        ("[TTS English]", {"text": "one", "voice": (speech[0], SAMPLE_RATE)}),
                        ("[ASR AST S2ST Spanish English]", {"speech": speech[0]})):
        rate = SAMPLE_RATE if "speech" in value else None
        assert 0 <= model(task=task, sampling_rate=rate, decoding=short, **value).confidence <= 1, task
    silence = model(np.zeros(SAMPLE_RATE, np.float32), "[ASR Spanish]", SAMPLE_RATE)
    assert (silence.confidence, silence.inside) == (0.0, False)


def test_the_command_line_states_the_confidence_and_warns(calibrated, tmp_path, capsys):
    pack = tmp_path / "pack"
    shutil.copytree(calibrated[0], pack)
    values = json.loads((pack / "confidence.json").read_text())
    write_audio(tmp_path / "x.flac", spoken(2.0))
    arguments = ["transcribe", str(tmp_path / "x.flac"), "--from", "es", "--model", str(pack),
                 "--decoding", "text_tokens=5"]

    def transcribe(threshold, *more):
        values["inputs"][AUDIO][0]["threshold"] = threshold
        write_json(pack / "confidence.json", values)
        with pytest.raises(SystemExit) as ended:
            cli.main([*arguments, *more])
        assert ended.value.code == 0
        out, err = capsys.readouterr()
        return out.splitlines(), [line for line in err.splitlines() if "length limit" not in line]

    out, err = transcribe(1e-9)
    assert len(out) == 1 and len(err) == 1 and re.fullmatch(r"confidence [01]\.\d\d", err[0])
    _, err = transcribe(1.0)
    assert err[0].startswith("confidence ") and err[1].startswith("audiopalm: warning: ")
    assert err[1].endswith("this is not what the model was trained on; do not trust the answer") and len(err) == 2
    (line,), err = transcribe(1.0, "--json")
    assert json.loads(line)["inside"] is False and 0 <= json.loads(line)["confidence"] <= 1 and err == []


def test_a_calibration_of_another_model_is_refused(calibrated, tmp_path):
    pack, *_ = calibrated
    path = tmp_path / "confidence.json"
    shutil.copyfile(pack / "confidence.json", path)
    weights = sha256(pack / "lm" / "model.safetensors")
    assert Confidence.load(path, weights).tasks.keys() == {"asr", "ast", "mt", "tts"}
    with pytest.raises(AudioPaLMError, match="was calibrated for another language model; run stage 14"):
        Confidence.load(path, "0" * 64)
    values = json.loads(path.read_text())
    values["inputs"][AUDIO][0]["weights"].append(1.0)
    write_json(path, values)
    with pytest.raises(AudioPaLMError, match=r"inputs\.audio does not have 5 features"):
        Confidence.load(path, weights)


def test_answers_of_a_model_without_calibration_have_no_confidence(tmp_path):
    model = AudioPaLM.from_pretrained(make_pack(tmp_path / "pack"), verify=False)
    answer = model(task="[MT Spanish English]", text="uno dos", decoding={"text_tokens": 3})
    assert (answer.confidence, answer.inside) == (None, None)
