"""Stage 14: the folder with its manifest and card, and a zip with the same bytes in every run."""

import json
import xml.etree.ElementTree as ElementTree
import zipfile

import pytest
import yaml
from commands import call
from scoring_data import result_row, write_set

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import sha256, write_json
from audiopalm.data.domain import Domain
from audiopalm.scoring.results import write_rows
from audiopalm.stages.pack import CONTENTS

TRAINED = [{"task": "asr", "source": "es", "target": None}, {"task": "asr", "source": "ru", "target": None},
           {"task": "asr+ast+s2st", "source": "es", "target": "en"}]


@pytest.fixture
def expdir(tmp_path, monkeypatch):
    (tmp_path / "mini").mkdir()
    monkeypatch.chdir(tmp_path / "mini")
    for name, (files, _) in CONTENTS.items():
        folder = tmp_path / "mini/exp" / name
        folder.mkdir(parents=True)
        for file in files:
            (folder / file).write_text(json.dumps({"of": name, "file": file, "trained": TRAINED}))
        (folder / "log.jsonl").write_text("not needed for inference\n")
    (tmp_path / "mini/exp/vocabulary/text.model").write_text("a tokenizer")
    return tmp_path / "mini/exp"


def make_pack(*arguments):
    call("pack", "--output", "exp/pack", *arguments)


def test_the_pack_has_the_listed_files_and_the_zip_is_the_same_in_every_run(expdir):
    make_pack()
    manifest = json.loads((expdir / "pack/audiopalm.json").read_text())
    files = {path.relative_to(expdir / "pack").as_posix() for path in (expdir / "pack").rglob("*") if path.is_file()}
    assert files == {*manifest["files"], "audiopalm.json"} and "lm/log.jsonl" not in files
    assert all(sha256(expdir / "pack" / name) == entry["sha256"] for name, entry in manifest["files"].items())
    card = (expdir / "pack/README.md").read_text()
    assert "Apache-2.0" in card and "- Languages: English, Spanish, Russian." in card and "Scores" not in card
    assert "  - `[ASR ...]`: Spanish, Russian\n  - `[ASR AST S2ST ...]`: Spanish to English\n" in card
    assert 'model("x.wav", task="[ASR AST S2ST Spanish English]")' in card and "[TTS" not in card
    with zipfile.ZipFile(expdir / "pack.zip") as archive:
        assert {f"pack/{name}" for name in files} == set(archive.namelist())
    first = sha256(expdir / "pack.zip")
    (expdir / "pack/stale").write_text("of an earlier run")
    make_pack()
    assert sha256(expdir / "pack.zip") == first and not (expdir / "pack/stale").exists()


def test_a_folder_that_is_no_pack_is_not_replaced(expdir):
    before = {path.relative_to(expdir) for path in expdir.rglob("*")}
    for output in (expdir, expdir / "lm"):
        with pytest.raises(AudioPaLMError, match="exists and is no pack, so it is not replaced"):
            make_pack("--output", output)
    assert {path.relative_to(expdir) for path in expdir.rglob("*")} == before


def test_the_card_has_the_domain_and_the_reliability_of_confidence(expdir):
    (expdir.parent / "conf").mkdir()
    (expdir.parent / "conf/domain.yaml").write_text("sentence: It knows numbers.\nexamples: [one two, три]\n")
    groups = [{"confidence": 0.25, "right": 0.2, "count": 17}, {"confidence": 0.95, "right": 1.0, "count": 31}]
    right = {"error": 0.0312, "auc": 0.875, "right": 0.7167, "count": 48, "groups": groups}
    outside = {"auc": 0.998, "inside": 0.97, "count": 100, "outside": 0.42,
               "kinds": {"music": {"auc": 0.991, "inside": 0.05, "count": 20}}}
    model = sha256(expdir / "lm/model.safetensors")
    write_json(expdir / "confidence.json", {
        "model_sha256": model, "inputs": {}, "tasks": {},
        "report": {"right": {"mt": {**right, "auc": None}, "asr": right}, "outside": {"audio": outside},
                   "judge": "moonshine"}})
    make_pack()
    card = (expdir / "pack/README.md").read_text()
    assert '## What can be said\n\nIt knows numbers.\n\n- "one two"\n- "три"\n' in card
    assert Domain.of_pack(expdir / "pack/domain.json").examples == ["one two", "три"]
    assert "(reliability.svg)" in card and "| ASR | 48 | 0.72 | 0.031 | 0.875 |\n| MT | 48 | 0.72 | 0.031 |  |" in card
    assert "| speech | 0.998 | 0.97 | 0.42 |" in card and "| speech, music | 20 | 0.991 | 0.05 |" in card
    assert "The words of TTS are those that moonshine hears." in card
    picture = ElementTree.fromstring((expdir / "pack/reliability.svg").read_text())
    texts = [text.text for text in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert {"ASR, 48 answers, error 0.031", "MT, 48 answers, error 0.031", "stated confidence"} <= set(texts)
    assert texts.count("17") == texts.count("31") == 2
    first = sha256(expdir / "pack.zip")
    make_pack()
    assert sha256(expdir / "pack.zip") == first
    write_json(expdir / "confidence.json", {"model_sha256": model, "inputs": {}, "tasks": {}, "report": {}})
    make_pack()
    assert not (expdir / "pack/reliability.svg").exists()
    assert "How sure" not in (expdir / "pack/README.md").read_text()


def header(card):
    """The YAML header with which a card begins."""
    before, values, _ = card.split("---\n", 2)
    assert not before
    return yaml.safe_load(values)


def test_the_hub_understands_the_header(expdir):
    write_rows(expdir / "results.json", [
        result_row("asr", "wer", 0.25, model=sha256(expdir / "lm/model.safetensors")[:16]),
        result_row("asr", "cer", 0.125, model=sha256(expdir / "lm/model.safetensors")[:16])])
    make_pack()
    card = (expdir / "pack/README.md").read_text()
    values = header(card)
    assert {key: values[key] for key in values if key != "model-index"} == {
        "license": "other", "license_name": "licences-of-the-recordings", "language": ["en", "es", "ru"],
        "pipeline_tag": "audio-to-audio", "library_name": "audiopalm",
        "tags": ["audiopalm", "speech", "asr", "ast", "s2st"]}
    make_pack("--license", "cc-by-sa-3.0")
    licensed = (expdir / "pack/README.md").read_text()
    assert header(licensed)["license"] == "cc-by-sa-3.0" and "license_name" not in header(licensed)
    assert "Apache-2.0 for the code, cc-by-sa-3.0 for the weights." in licensed
    hub = pytest.importorskip("huggingface_hub")
    data = hub.ModelCard(card).data
    [result] = data.eval_results
    assert (result.task_type, result.dataset_name, result.dataset_config, result.metric_type, result.metric_value) == (
        "automatic-speech-recognition", "mini, set test", "es", "wer", 0.25)
    assert data.license == "other" and data.pipeline_tag == "audio-to-audio"


def test_the_card_has_the_scores_and_an_example_of_this_model(expdir, caplog):
    write_set(expdir.parent)
    model = sha256(expdir / "lm/model.safetensors")
    rows = [result_row("asr", "wer", 0.25, model=model[:16]),
            result_row("asr", "wer", 0.125, source="fr", model="f" * 16),
            result_row("tts", "asr_wer", 0.5, model=model[:16], source="en"),
            result_row("tts", "asr_wer", 0.0625, source="en", model=None, system="true_audio")]
    write_rows(expdir / "results.json", rows)
    make_pack()
    card = (expdir / "pack/README.md").read_text()
    assert "| ASR WER, mean of languages | 0.250 |" in card and "| 0.500 | 0.500 | 0.062 |" in card
    assert [(result["task"]["type"], result["dataset"]["config"], result["metrics"][0]["type"],
             result["metrics"][0]["value"]) for result in header(card)["model-index"][0]["results"]] == [
        ("automatic-speech-recognition", "es", "wer", 0.25), ("text-to-speech", "en", "asr_wer", 0.5)]
    assert "An example" not in card and "has no decode of the packed model" in caplog.text
    for path in [expdir / "decode/test/decodes.json", *expdir.glob("decode/test/*/meta.json")]:
        path.write_text(path.read_text().replace("a" * 64, model))
    make_pack()
    card = (expdir / "pack/README.md").read_text()
    assert 'the recording `ana-es-a`, in which is said "tengo dos", the model answers to `[asr+ast+s2st]`' in card
    assert '- ast "i have two" (reference: "i have two")' in card
    write_rows(expdir / "results.json", rows[1:2])
    make_pack()
    assert "has no score of the packed model" in caplog.text
    assert "Scores" not in (expdir / "pack/README.md").read_text()


def test_a_model_that_does_not_state_its_trained_tasks_is_refused(expdir):
    config = expdir / "lm/config.json"
    write_json(config, {"model": {}})
    with pytest.raises(AudioPaLMError, match=r"lm/config.json does not say .* trained on; run stage 8 \(finetune\)"):
        make_pack()
    for broken in ("asr", [{"task": "asr"}], [{"task": "asr", "source": 1, "target": None}], None):
        write_json(config, {"trained": broken})
        with pytest.raises(AudioPaLMError, match="'trained' is not a list of task, source and target"):
            make_pack()
    assert not (expdir / "pack").exists()


def test_the_tokenizer_of_an_imported_lm_is_packed(expdir):
    tokenizer = expdir / "vocabulary" / "text.model"
    tokenizer.rename(expdir / "vocabulary" / "tokenizer.json")
    make_pack()
    assert (expdir / "pack/vocabulary/tokenizer.json").read_text() == "a tokenizer"
    assert not (expdir / "pack/vocabulary/text.model").exists()


def test_a_part_may_come_from_another_folder(expdir, tmp_path):
    (expdir / "codec").rename(tmp_path / "pretrained")
    with pytest.raises(AudioPaLMError, match=r"exp/codec/config.json does not exist; run stage 4 \(codec\) first"):
        make_pack()
    assert not (expdir / "pack").exists() and not (expdir / ".pack.partial").exists()
    make_pack("--codec", str(tmp_path / "pretrained"))
    assert (expdir / "pack/codec/model.safetensors").is_file()
