"""Stages 6, 7, 8 and 10 by their real commands on a miniature set that a small model can learn."""

import json
import re
import signal
from dataclasses import replace

import pytest
from commands import call, check, command
from lm_commands import Prepared
from prestarted import run_python
from safetensors.numpy import load_file
from trainings import write_killed

from audiopalm.core.errors import AudioPaLMError
from audiopalm.data.archive import TokenArchive
from audiopalm.data.datadir import read_table
from audiopalm.data.example_set import ExampleSet
from audiopalm.lm.trained import TrainedTask, read_trained, write_trained
from audiopalm.stages.decode import DecodeConfig, DecodeEntry, plan

# A launcher that decodes one shard and then kills the command, as the out-of-memory killer does.
KILLER = """#!/usr/bin/env bash
set -euo pipefail
shift 2  # the range of jobs and the log
todo=${@: -3:1}
sed -i 2,\\$d "${todo/JOB/1}"
"${@//JOB/1}"
kill -KILL "${PPID}"
"""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, digit_sets):
    return Prepared(tmp_path_factory.mktemp("prepared"), digit_sets)


def test_chain_learns_and_decodes(tmp_path, prepared):
    """Digits in units are recognised, translated and spoken on sentences that were never seen."""
    check(command(*prepared.train_lm, "--output", tmp_path / "lm"))
    log = [json.loads(line) for line in (tmp_path / "lm" / "log.jsonl").read_text().splitlines()]
    assert log[-1]["dev"]["asr"] < 0.5 * log[4]["dev"]["asr"] and log[-1]["step"] == 500
    check(command(*prepared.decode(tmp_path)))
    text, english = (read_table(prepared.dev_data / name) for name in ("text", "text.en"))
    asr = read_table(tmp_path / "decode" / "asr_es" / "asr") | read_table(tmp_path / "decode" / "asr_en" / "asr")
    assert sum(asr[utterance] == text[utterance] for utterance in text) >= 0.7 * len(text)
    combined = tmp_path / "decode" / "asr+ast+s2st_es_en"
    translated = read_table(combined / "ast")
    assert sum(translated[name] == english[name] for name in translated) >= 0.5 * len(translated)
    units = TokenArchive(combined / "units.scp")
    assert set(units) == set(translated) and all(0 <= u < 12 for name in units for u in units[name])
    meta = json.loads((combined / "meta.json").read_text())
    assert meta["tag"] == "[ASR AST S2ST Spanish English]" and meta["count"] == len(translated)

    again = command(*prepared.decode(tmp_path))
    assert again.stderr.count("is finished") == 6  # asr en es, mt both ways, s2st, combined
    check_other_ways(tmp_path, prepared)


def check_other_ways(tmp_path, prepared):
    """The same bytes from an export, and after a kill by two jobs with other batches; and what ESPnet's tools read."""
    expected = files(tmp_path / "decode")
    decode = [*map(str, prepared.decode(tmp_path)[:-1])]
    check(command("export", "--lm", tmp_path / "lm", "--vocabulary", prepared.path / "vocabulary", "--output",
                  tmp_path / "export"))
    check(command(*decode, tmp_path / "exported", "--nj", 1, "--lm", tmp_path / "export"))
    found = files(tmp_path / "exported")
    names_the_model = ("meta.json", "decodes.json")
    same = {path: content for path, content in expected.items() if path.name not in names_the_model}
    assert {path: content for path, content in found.items() if path.name not in names_the_model} == same

    output, killer = tmp_path / "killed", tmp_path / "killer.sh"
    killer.write_text(KILLER)
    killer.chmod(0o755)
    whole = [*decode, str(output), "--nj", "2", "batch_size=1"]
    killed = command(*whole, "--cmd", killer)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(list(output.glob("*/shards/*.json"))) == 1 and not list(output.glob("*/meta.json"))
    result = command(*whole)
    check(result)
    assert "decoded 17 shards" in result.stderr  # of 18: three of 4 utterances in each of six folders
    assert files(output) == expected

    best = tmp_path / "decode" / "asr+ast+s2st_es_en" / "1best_recog"
    text, scores = read_table(best / "text"), read_table(best / "score")
    asr, ast = (read_table(best.parent / part) for part in ("asr", "ast"))
    assert text == {name: f"{asr[name]} | {ast[name]}" for name in asr} and set(scores) == set(asr)
    assert all(float(score) < 0 for score in scores.values()) and set(read_table(best / "token_int")) == set(asr)


def files(folder):
    """{path in the folder: bytes}; where arks lie stands in scp files."""
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*"))
            if path.is_file() and path.suffix != ".scp" and "jobs" not in path.parts}


def test_killed_training_ends_with_the_same_weights(tmp_path, prepared):
    whole = [*prepared.train_lm, "training.steps=30", "training.micro_batches=2", "training.workers=2", "dropout=0.1",
             "optimizer.name=muon"]
    check(command(*whole, "--output", tmp_path / "straight"))
    # In step 23 the checkpoint of step 10 has its name, and that of step 20 is being written.
    killed = run_python(write_killed(tmp_path, "train_lm", 23), *whole[1:], "--output", tmp_path / "killed")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (tmp_path / "killed" / "model.safetensors").exists()
    resumed = command(*whole, "--output", tmp_path / "killed")
    check(resumed)
    assert "going on from step 10 " in resumed.stderr
    straight, killed = (load_file(tmp_path / name / "model.safetensors") for name in ("straight", "killed"))
    for name in straight:
        assert (straight[name] == killed[name]).all(), name


def test_a_batch_is_shown(tmp_path, prepared, capsys):
    call(*prepared.train_lm, "--output", tmp_path / "lm", "--show_batch")
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"row 1 of 4: \d+ of 128 tokens, \d+ with loss", lines[0])
    assert lines[1].startswith("  document 1, ") and " positions 0 to " in lines[1]
    transcribed = next(number for number, line in enumerate(lines) if line.endswith("[ASR Spanish]"))
    tag, units, newline, text = lines[transcribed:transcribed + 4]
    assert tag.split()[:2] == ["input", "text"] and newline.split()[:2] == ["input", "text"]
    assert units.split()[:2] == ["input", "audio"] and " units " in units
    assert text.split()[:2] == ["output", "text"] and text.endswith("</s>")
    assert not (tmp_path / "lm").exists()


@pytest.mark.parametrize("args, message", [
    (["mixtures=[]"], "unknown key 'mixtures'; did you mean 'mixture'?"),
    (["mixture=[{task: asrr}]"], "unknown task 'asrr'; did you mean 'asr'?"),
    (["mixture=[{task: asr, sources: [ru]}]"], "no utterance"),
    (["mixture=[{task: tts, speakers: [bella]}]"], "speakers ['bella']"),
    (["mixture=[]"], "mixture: it is empty"),
    (["training.rows=4"], "it is now batch.rows"),
    (["batch.row_length=8"], "no sequence fits"),
    (["--init_lm", "nowhere"], "run stage 7"),
])
def test_bad_input_is_one_line(tmp_path, prepared, args, message):
    with pytest.raises(AudioPaLMError) as error:
        call(*prepared.train_lm, "--output", tmp_path / "bad", *args)
    assert message in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "bad" / "model.safetensors").exists()


def test_decode_before_training_names_the_stage(tmp_path, prepared):
    result = command(*prepared.decode(tmp_path))
    lines = [line for line in result.stderr.splitlines() if "error:" in line]
    assert result.returncode == 1 and len(lines) == 1 and "run stage 8 (finetune) first" in lines[0]
    assert "Traceback" not in result.stderr


def planned(prepared, trained, *entries):
    """The folders that stage 10 would make of the dev set."""
    examples = ExampleSet(prepared.dev_data, prepared.dev_tokens)
    return [job.name for job in plan(DecodeConfig(list(entries)), examples, "dev", trained)]


def test_unknown_languages_are_not_decoded(prepared):
    with pytest.raises(AudioPaLMError, match="unknown language 'sp'"):
        planned(prepared, [], DecodeEntry("asr", sources=["sp"]))


def test_what_was_not_trained_is_skipped_or_refused(prepared, caplog):
    caplog.set_level("INFO")
    trained = [TrainedTask("asr", "es", None), TrainedTask("mt", "es", "en")]
    assert planned(prepared, trained, DecodeEntry("asr"), DecodeEntry("mt"), DecodeEntry("s2st")) == [
        "asr_es", "mt_es_en"]
    assert "not trained on them: asr_en, mt_en_es, s2st_en_es, s2st_es_en" in caplog.text
    assert planned(prepared, trained, DecodeEntry("mt", targets=["en"])) == ["mt_es_en"]
    for entry, tag in ((DecodeEntry("asr", sources=["es", "en"]), r"\[ASR English\]"),
                       (DecodeEntry("mt", sources=["en"]), r"\[MT English Spanish\]"),
                       (DecodeEntry("mt", targets=["es"]), r"\[MT English Spanish\]"),
                       (DecodeEntry("s2st", ["es"], ["en"]), r"\[S2ST Spanish English\]")):
        with pytest.raises(AudioPaLMError, match=f"not trained on {tag}, which the configuration.*`untrained: true`"):
            planned(prepared, trained, entry)
        assert planned(prepared, trained, replace(entry, untrained=True))
    with pytest.raises(AudioPaLMError, match="nothing to decode: .* that the model was trained on"):
        planned(prepared, trained, DecodeEntry("s2st"))


def test_a_model_states_what_it_was_trained_on(tmp_path, prepared):
    found = read_trained(prepared.path / "textlm")
    assert TrainedTask("lm", "es", None) in found and TrainedTask("mt", "en", "es") in found and len(found) == 4
    write_trained(tmp_path, found)
    assert read_trained(tmp_path) == found  # of an export
