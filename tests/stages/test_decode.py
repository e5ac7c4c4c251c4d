"""Folders of stage 10: when a decode is finished, and that no file of an earlier decode stays.

A function that writes the files of the shards stands in for the jobs, so no model is needed.
"""

from pathlib import Path
from types import SimpleNamespace

import pytest
from commands import call

from audiopalm.core import lock
from audiopalm.core.config import from_dict
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import read_json, write_json
from audiopalm.core.lock import locked
from audiopalm.data.archive import TokenArchive
from audiopalm.data.datadir import read_table, write_table
from audiopalm.data.example_set import ExampleSet
from audiopalm.lm.trained import TrainedTask
from audiopalm.stages import decode as stage
from audiopalm.stages.decode import DecodeConfig, Folder, Job, decode, plan
from audiopalm.stages.jobs import Launcher
from audiopalm.tasks import get_task

VOCABULARY = SimpleNamespace(newline=4, text_size=500)
TOKENIZER = SimpleNamespace(decode=lambda ids: " ".join(map(str, ids)))


@pytest.fixture
def run(digit_sets, tmp_path, monkeypatch):
    """A function that decodes a task of the dev set into tmp_path / "out" and returns the shards that it decoded."""
    _, _, data, tokens = digit_sets
    decoded = []

    def run_jobs(launcher, worker, arguments, items, result, what):
        for shard in items:
            decoded.append(Path(shard.path).name)
            parts = [[7]] + [[501, 502]] * (shard.meta["task"] != "asr")
            best = {"parts": parts, "truncated": False, "score": -1.0}
            answers = {name: [best] * shard.meta["decoding"]["beam"] for name in shard.utterances}
            write_json(shard.path, {"meta": shard.meta, "seconds": 1.0, "answers": answers})
            if launcher.command == "stops" and len(decoded) == 2:
                raise AudioPaLMError("stopped after two shards")
            yield result()

    monkeypatch.setattr(stage, "run_jobs", run_jobs)

    def decode_task(task: str = "asr", data_dir=data, n_best: int = 2, model: str = "a",
                    command: str = "run.pl") -> list[str]:
        decoded.clear()
        examples, settings = ExampleSet(data_dir, tokens), stage.DecodingConfig(beam=n_best)
        rows = examples.rows({"audio"}, "es", None)
        meta = {"task": task, "decoding": {"beam": n_best}, "model_sha256": model}
        folder = Folder(tmp_path / "out", meta, Job(get_task(task), "es", "en", rows, settings), examples, 2)
        if not folder.is_finished():
            decode([folder], Launcher(command, 1, tmp_path / "jobs"), [], VOCABULARY, TOKENIZER)
        return decoded

    return decode_task


def contents(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_no_file_of_another_decode_or_of_its_speech_stays(run, tmp_path):
    assert run("ast+s2st", n_best=3)
    out = tmp_path / "out"
    assert {"ast", "units.scp", "3best_recog/text", "meta.json"} <= contents(out)
    units = TokenArchive(out / "units.scp")
    assert list(units) == list(read_table(out / "ast")) and all(ids.tolist() == [1, 2] for ids in units.values())
    for name in ("wav/a.wav", "wav.scp", "synthesis.json", "prompt.scp"):
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_text("")
    assert run("asr", n_best=1)
    assert contents(out) == {"asr", "meta.json", *(f"1best_recog/{name}" for name in ("text", "token_int", "score"))}


def test_a_decode_is_repeated_only_when_its_inputs_have_changed(run, tmp_path, digit_sets):
    assert run() and run() == []
    before = read_json(tmp_path / "out" / "meta.json")["input_sha256"]
    assert run(model="b")
    changed = tmp_path / "changed"
    for path in digit_sets[2].iterdir():
        write_table(changed / path.name, dict(list(read_table(path).items())[:-2]))  # the last are Spanish
    assert run(data_dir=changed, model="b")
    assert read_json(tmp_path / "out" / "meta.json")["input_sha256"] != before
    assert len(read_table(tmp_path / "out" / "asr")) == 8


def test_a_stopped_decode_goes_on_with_its_own_shards_only(run, tmp_path):
    with pytest.raises(AudioPaLMError, match="stopped after two shards"):
        run(command="stops")
    assert not (tmp_path / "out" / "meta.json").exists()
    (tmp_path / "out" / "asr").write_text("half a table")
    assert run() == ["2.json"]  # of three shards of four utterances
    assert len(read_table(tmp_path / "out" / "asr")) == 10
    with pytest.raises(AudioPaLMError):
        run(model="b", command="stops")
    assert run() == ["0.json", "1.json", "2.json"]


def test_two_entries_of_one_folder_are_refused(digit_sets):
    entries = [{"task": "asr"}, {"task": "asr", "sources": ["es"], "most": 3, "decoding": {"beam": 2}}]
    config = from_dict(DecodeConfig, {"tasks": entries}, "decode.yaml")
    trained = [TrainedTask("asr", language, None) for language in ("en", "es")]
    with pytest.raises(AudioPaLMError, match="two entries of the configuration decode asr_es of dev"):
        plan(config, ExampleSet(*digit_sets[2:]), "dev", trained)


def test_two_decodes_of_one_set_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "GRACE_SECONDS", 0.1)
    (tmp_path / "decode.yaml").write_text("tasks: [{task: asr}]\n")
    folders = (part for name in ("lm", "vocabulary", "data_dir", "tokens", "output")
               for part in (f"--{name}", tmp_path / name))
    with locked(tmp_path / "output", "synthesize"), pytest.raises(AudioPaLMError, match="output is being written by"):
        call("decode", *folders, "--config", tmp_path / "decode.yaml")
