"""Stage 14: the folder, its manifest and a zip that is the same each time."""

import json
import sys
import xml.etree.ElementTree as ElementTree
import zipfile

import pytest
import yaml
from scoring_data import result_row, write_set

from audiopalm.bin import pack
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


def command(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["pack", "--output", "exp/pack", *arguments])
    pack.main()


def test_folder_manifest_and_zip(expdir, monkeypatch):
    command(monkeypatch)
    manifest = json.loads((expdir / "pack/audiopalm.json").read_text())
    found = {path.relative_to(expdir / "pack").as_posix() for path in (expdir / "pack").rglob("*") if path.is_file()}
    assert found == {*manifest["files"], "audiopalm.json"} and "lm/log.jsonl" not in found
    assert all(sha256(expdir / "pack" / name) == entry["sha256"] for name, entry in manifest["files"].items())
    card = (expdir / "pack/README.md").read_text()
    assert "Apache-2.0" in card and "- Languages: English, Spanish, Russian." in card and "Scores" not in card
    assert "  - `[ASR ...]`: Spanish, Russian\n  - `[ASR AST S2ST ...]`: Spanish to English\n" in card
    assert 'model("x.wav", task="[ASR AST S2ST Spanish English]")' in card and "[TTS" not in card
    with zipfile.ZipFile(expdir / "pack.zip") as archive:
        assert {f"pack/{name}" for name in found} == set(archive.namelist())
    first = sha256(expdir / "pack.zip")
    (expdir / "pack/stale").write_text("left by someone")
    command(monkeypatch)
    assert sha256(expdir / "pack.zip") == first and not (expdir / "pack/stale").exists()


def test_the_card_says_what_can_be_said_and_how_sure_the_model_is(expdir, monkeypatch):
    (expdir.parent / "conf").mkdir()
    (expdir.parent / "conf/domain.yaml").write_text("sentence: It knows numbers.\nexamples: [one two, три]\n")
    groups = [{"confidence": 0.25, "right": 0.2, "count": 17}, {"confidence": 0.95, "right": 1.0, "count": 31}]
    right = {"error": 0.0312, "auc": 0.875, "right": 0.7167, "count": 48, "groups": groups}
    outside = {"auc": 0.998, "inside": 0.97, "count": 100, "outside": 0.42, "kinds": {}}
    model = sha256(expdir / "lm/model.safetensors")
    write_json(expdir / "confidence.json", {
        "model_sha256": model, "inputs": {}, "tasks": {},
        "report": {"right": {"mt": {**right, "auc": None}, "asr": right}, "outside": {"audio": outside}}})
    command(monkeypatch)
    card = (expdir / "pack/README.md").read_text()
    assert '## What can be said\n\nIt knows numbers.\n\n- "one two"\n- "три"\n' in card
    assert Domain.of_pack(expdir / "pack/domain.json").examples == ["one two", "три"]
    assert "(reliability.svg)" in card and "| ASR | 48 | 0.72 | 0.031 | 0.875 |\n| MT | 48 | 0.72 | 0.031 |  |" in card
    assert "| speech | 0.998 | 0.97 | 0.42 |" in card
    picture = ElementTree.fromstring((expdir / "pack/reliability.svg").read_text())
    texts = [text.text for text in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert {"ASR, 48 answers, error 0.031", "MT, 48 answers, error 0.031", "stated confidence"} <= set(texts)
    assert texts.count("17") == texts.count("31") == 2
    first = sha256(expdir / "pack.zip")
    command(monkeypatch)
    assert sha256(expdir / "pack.zip") == first
    write_json(expdir / "confidence.json", {"model_sha256": model, "inputs": {}, "tasks": {}, "report": {}})
    command(monkeypatch)
    assert not (expdir / "pack/reliability.svg").exists()
    assert "How sure" not in (expdir / "pack/README.md").read_text()


def header(card):
    """The YAML header of a card, which must be all of its beginning."""
    before, found, _ = card.split("---\n", 2)
    assert not before
    return yaml.safe_load(found)


def test_the_hub_understands_the_header(expdir, monkeypatch):
    write_rows(expdir / "results.json", [
        result_row("asr", "wer", 0.25, model=sha256(expdir / "lm/model.safetensors")[:16]),
        result_row("asr", "cer", 0.125, model=sha256(expdir / "lm/model.safetensors")[:16])])
    command(monkeypatch)
    card = (expdir / "pack/README.md").read_text()
    values = header(card)
    assert {key: values[key] for key in values if key != "model-index"} == {
        "license": "other", "license_name": "licences-of-the-recordings", "language": ["en", "es", "ru"],
        "pipeline_tag": "audio-to-audio", "library_name": "audiopalm",
        "tags": ["audiopalm", "speech", "asr", "ast", "s2st"]}
    command(monkeypatch, "--license", "cc-by-sa-3.0")
    licensed = (expdir / "pack/README.md").read_text()
    assert header(licensed)["license"] == "cc-by-sa-3.0" and "license_name" not in header(licensed)
    assert "Apache-2.0 for the code, cc-by-sa-3.0 for the weights." in licensed
    hub = pytest.importorskip("huggingface_hub")
    data = hub.ModelCard(card).data
    [result] = data.eval_results
    assert (result.task_type, result.dataset_name, result.dataset_config, result.metric_type, result.metric_value) == (
        "automatic-speech-recognition", "mini, set test", "es", "wer", 0.25)
    assert data.license == "other" and data.pipeline_tag == "audio-to-audio"


def test_the_card_has_the_scores_and_an_example_of_this_model(expdir, monkeypatch, caplog):
    write_set(expdir.parent)
    model = sha256(expdir / "lm/model.safetensors")
    rows = [result_row("asr", "wer", 0.25, model=model[:16]),
            result_row("asr", "wer", 0.125, source="fr", model="f" * 16),
            result_row("tts", "asr_wer", 0.5, model=model[:16], source="en"),
            result_row("tts", "asr_wer", 0.0625, source="en", model=None, system="true_audio")]
    write_rows(expdir / "results.json", rows)
    command(monkeypatch)
    card = (expdir / "pack/README.md").read_text()
    assert "| ASR WER, mean of languages | 0.250 |" in card and "| 0.500 | 0.500 | 0.062 |" in card
    assert [(result["task"]["type"], result["dataset"]["config"], result["metrics"][0]["type"],
             result["metrics"][0]["value"]) for result in header(card)["model-index"][0]["results"]] == [
        ("automatic-speech-recognition", "es", "wer", 0.25), ("text-to-speech", "en", "asr_wer", 0.5)]
    assert "An example" not in card and "has no decode of the packed model" in caplog.text  # they are of another model
    for path in [expdir / "decode/test/decodes.json", *expdir.glob("decode/test/*/meta.json")]:
        path.write_text(path.read_text().replace("a" * 64, model))
    command(monkeypatch)
    card = (expdir / "pack/README.md").read_text()
    assert 'the recording `ana-es-a`, in which is said "tengo dos", the model answers to `[asr+ast+s2st]`' in card
    assert '- ast "i have two" (reference: "i have two")' in card
    write_rows(expdir / "results.json", rows[1:2])
    command(monkeypatch)
    assert "has no score of the packed model" in caplog.text
    assert "Scores" not in (expdir / "pack/README.md").read_text()


def test_a_model_that_does_not_say_what_it_was_trained_on(expdir, monkeypatch):
    config = expdir / "lm/config.json"
    write_json(config, {"model": {}})
    with pytest.raises(AudioPaLMError, match=r"lm/config.json does not say .* trained on; run stage 8 \(finetune\)"):
        command(monkeypatch)
    for broken in ("asr", [{"task": "asr"}], [{"task": "asr", "source": 1, "target": None}], None):
        write_json(config, {"trained": broken})
        with pytest.raises(AudioPaLMError, match="'trained' is not a list of task, source and target"):
            command(monkeypatch)
    assert not (expdir / "pack").exists()


def test_the_tokenizer_of_an_imported_lm_goes_along(expdir, monkeypatch):
    tokenizer = expdir / "vocabulary" / "text.model"
    tokenizer.rename(expdir / "vocabulary" / "tokenizer.json")
    command(monkeypatch)
    assert (expdir / "pack/vocabulary/tokenizer.json").read_text() == "a tokenizer"
    assert not (expdir / "pack/vocabulary/text.model").exists()


def test_folders_from_elsewhere(expdir, monkeypatch, tmp_path):
    (expdir / "codec").rename(tmp_path / "pretrained")
    with pytest.raises(AudioPaLMError, match=r"exp/codec/config.json does not exist; run stage 4 \(codec\) first"):
        command(monkeypatch)
    assert not (expdir / "pack").exists() and not (expdir / ".pack.partial").exists()
    command(monkeypatch, "--codec", str(tmp_path / "pretrained"))
    assert (expdir / "pack/codec/model.safetensors").is_file()
