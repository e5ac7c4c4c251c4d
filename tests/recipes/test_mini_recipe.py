"""egs/mini/run.sh from end to end, all stages, on a few of its own recordings with tiny models and few steps.

The tests of this file share one run and are in the order in which a user would meet them. The second run of stages 10
to 14 and the first interrupted training use the real Python; the others are forks (tests/prestarted.py).
"""

import base64
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from matplotlib import pyplot
from pausing import Pause
from prestarted import prestarted
from tiny import shrink
from waiting import LIMIT, RUN_LIMIT, wait_until

from audiopalm.data.datadir import invert, read_table, write_table

ROOT = Path(__file__).resolve().parents[2]
SETS = ("train", "dev", "test", "test_paraphrase", "texts/train", "texts/dev")
DECODE = {"tasks": [{"task": "asr"},
                    {"task": "ast", "sources": ["es"], "targets": ["en"]},
                    {"task": "mt", "sources": ["es"], "targets": ["en"]},
                    {"task": "tts", "sources": ["en"], "sets": ["test"]},
                    {"task": "asr+ast+s2st", "sources": ["es"], "targets": ["en"], "sets": ["test"]}],
          # The model has learnt in six steps: its most probable answer may be an empty one, a sampled one is not.
          "decoding": {"text_tokens": 8, "audio_tokens": 12, "text_temperature": 1.0, "audio_temperature": 1.0}}
OPTIONS = ("--test_sets", "test", "--conditions", "telephone", "--nj", "1", "--seed", "3")


def keep_few(directory, number):
    """Cut a data directory of stage 1 down to `number` composed sentences and one prompt of each language."""
    languages, speakers = read_table(directory / "utt2lang"), read_table(directory / "utt2spk")
    groups = {}
    for utterance in languages:
        groups.setdefault((languages[utterance], "prompt_" in utterance), []).append(utterance)
    kept = {utterance for (_, prompt), group in groups.items() for utterance in group[:1 if prompt else number]}
    for path in directory.iterdir():
        if path.name == "spk2utt":
            write_table(path, invert({key: speakers[key] for key in kept}))
        elif path.name != "wav.scp":
            write_table(path, {key: value for key, value in read_table(path).items() if key in kept})


class Recipe:
    def __init__(self, root):
        self.path = root / "egs" / "mini"
        shutil.copytree(ROOT / "egs" / "mini", self.path, symlinks=True,
                        ignore=shutil.ignore_patterns("data", "dump", "exp*", "recordings", "results.json", "*.md"))
        (root / "egs" / "TEMPLATE").symlink_to(ROOT / "egs" / "TEMPLATE")
        (self.path / "corpus" / "recordings").symlink_to(ROOT / "egs" / "mini" / "corpus" / "recordings")
        shrink(self.path / "conf", decode=DECODE)
        grammar = self.path / "corpus" / "grammar.yaml"
        few = re.sub(r"^sets: .*$", "sets: {train: 40, dev: 4, test: 4}", grammar.read_text("utf-8"), flags=re.M)
        grammar.write_text(few, "utf-8")

    def start(self, *arguments, python=None, pause=None):
        python = python or prestarted()["AUDIOPALM_PYTHON"]
        environment = {**os.environ, "AUDIOPALM_PYTHON": python, "OMP_NUM_THREADS": "2"}  # as on the smallest machine
        return subprocess.Popen([self.path / "run.sh", *OPTIONS, *arguments], cwd=self.path.parents[1], text=True,
                                env=pause.environment(environment) if pause else environment, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, start_new_session=True)

    def __call__(self, *arguments, python=None):
        process = self.start(*arguments, python=python)
        try:
            stdout, stderr = process.communicate(timeout=RUN_LIMIT)  # a minute on a machine that does nothing else
        finally:
            process.terminate()  # has no effect when it ended
        return subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)

    def command(self, name, *arguments):
        return subprocess.run([sys.executable, "-m", f"audiopalm.bin.{name}", *arguments], cwd=self.path, text=True,
                              capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "2"})


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """The recipe with its models up to stage 9 and everything after."""
    recipe = Recipe(tmp_path_factory.mktemp("recipe"))
    prepared = recipe("--stop_stage", "1")
    assert prepared.returncode == 0, prepared.stdout + prepared.stderr
    for name in SETS:
        keep_few(recipe.path / "data" / name, 4)
    recipe.first = recipe("--stage", "2", "--train_units", "true", "--train_codec", "true", "--train_acoustic", "true")
    assert recipe.first.returncode == 0, recipe.first.stdout[-3000:] + recipe.first.stderr
    return recipe


def test_every_stage_ran(recipe):
    for number in range(2, 15):
        assert f"\n{number:7d} " in recipe.first.stdout
        assert (recipe.path / "exp" / "log" / f"stage{number}.log").read_text().rstrip().endswith("MiB")
    for name in ("units", "codec", "textlm", "lm", "acoustic"):
        assert (recipe.path / "exp" / name / "model.safetensors").is_file()
    assert list(recipe.path.rglob(".*partial*")) == []


def test_decodes_are_spoken(recipe):
    decode = recipe.path / "exp" / "decode" / "test"
    names = {path.name for path in decode.iterdir()}
    assert names >= {"asr_es", "ast_es_en", "mt_es_en", "tts_en", "asr+ast+s2st_es_en"}
    for name in ("tts_en", "asr+ast+s2st_es_en"):
        spoken = read_table(decode / name / "wav.scp")
        assert sorted(spoken) == sorted(read_table(decode / name / "units.scp"))
        assert all((recipe.path / path).stat().st_size > 44 for path in spoken.values())


def test_scores(recipe):
    rows = json.loads((recipe.path / "exp/results.json").read_text(encoding="utf-8"))
    metrics = {(row["task"], row["metric"]) for row in rows if row["set"] == "test" and row["system"] == "model"}
    assert metrics >= {("asr", "wer"), ("ast", "bleu"), ("mt", "bleu")}
    # Distorted speech is recognised too, and other wordings, which are texts alone, are translated.
    assert {row["set"] for row in rows} == {"units", "dev", "test", "test_robust_telephone", "test_paraphrase"}
    assert {row["task"] for row in rows if row["set"] == "test_paraphrase"} == {"mt", "lm"}
    # What the finetuning has forgotten of texts.
    assert {row["system"] for row in rows if row["metric"] == "text_loss"} == {"text_lm", "model"}
    assert {row["metric"] for row in rows if row["set"] == "test_robust_telephone"} >= {"wer", "bleu"}
    assert {row["seed"] for row in rows} == {3}
    assert all(row["recipe"] == "mini" for row in rows)
    assert {row["tag"] for row in rows if row["task"] == "units"} == {"usm-v2"}
    assert not (recipe.path / "results.json").exists()  # it is published on request
    assert "| mini, test | this run | published |" in recipe.first.stdout
    assert "wer" in (recipe.path / "exp/RESULTS.md").read_text(encoding="utf-8").lower()


def test_page(recipe):
    page = (recipe.path / "exp" / "report" / "index.html").read_text(encoding="utf-8")
    assert '"mp3"' in page and "data:audio/mpeg;base64," in page
    for tag in ("[ASR ", "[AST ", "[TTS English]"):  # of each kind of decode where the model looked
        picture = re.search(rf'data:image/png;base64,([^"]+)" alt="{re.escape(tag)}[^"]*attention of layer', page)[1]
        assert pyplot.imread(io.BytesIO(base64.b64decode(picture))).std() > 0.1


def test_packed_model_answers(recipe):
    source = next(iter(read_table(recipe.path / "exp/decode/test/asr+ast+s2st_es_en/units.scp")))
    audio = recipe.path / read_table(recipe.path / "dump/raw/test/wav.scp")[source]
    result = recipe.command("infer", audio, "--task", "[ASR AST S2ST Spanish English]", "--model", "exp/pack",
                            "--out", "y.wav", "--decoding", "text_temperature=1", "audio_temperature=1")
    assert result.returncode == 0, result.stderr
    assert (recipe.path / "y.wav").stat().st_size > 44


def test_again_from_stage_10(recipe):
    before = (recipe.path / "exp/results.json").read_text(encoding="utf-8")
    result = recipe("--stage", "10", python=sys.executable)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr
    scores = [[{key: row[key] for key in ("set", "task", "source", "target", "metric", "value", "system")}
               for row in json.loads(text) if row["metric"] not in ("seconds", "rtf")]
              for text in (before, (recipe.path / "exp/results.json").read_text(encoding="utf-8"))]
    assert scores[0] == scores[1]


@pytest.mark.parametrize("command, missing, maker", [
    ("tokenize", "exp2/units", 3), ("train_lm", "exp2/vocabulary", 6), ("decode", "exp2/vocabulary", 6)])
def test_a_stage_before_its_inputs_exist(recipe, command, missing, maker):
    number = {"tokenize": 5, "train_lm": 8, "decode": 10}[command]
    result = recipe("--stage", str(number), "--expdir", "exp2")
    assert result.returncode == 1
    assert f"reads {missing}, which does not exist; run stage {maker} first: " in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_command_before_its_inputs_exist(recipe):
    """Without the driver the command itself says it."""
    result = recipe.command("tokenize", "--data_dir", "nothing", "--units", "exp/units", "--codec", "exp/codec",
                            "--output", "x")
    assert result.returncode == 1
    assert "run stage 2" in result.stderr.splitlines()[-1]
    assert not (recipe.path / "x").exists()


@pytest.mark.parametrize("number, name, python", [(3, "units", sys.executable), (8, "lm", None), (9, "acoustic", None)])
def test_an_interrupted_training_goes_on(recipe, number, name, python, tmp_path):
    experiment, pause = recipe.path / f"exp_{name}", Pause(tmp_path / "pause", 10)
    shutil.copytree(recipe.path / "exp", experiment, ignore=shutil.ignore_patterns(name, "decode", "report", "pack"))
    options = ["--stage", str(number), "--stop_stage", str(number), "--expdir", experiment.name, "--train_units",
               "true", "--train_acoustic", "true", f"--{name}_args", "training.steps=20 training.log_every=3"]
    process = recipe.start(*options, python=python, pause=pause)
    wait_until(pause.path.exists, process)
    folder = experiment / name
    assert (folder / "checkpoint").exists()
    os.killpg(process.pid, signal.SIGINT)  # what Ctrl-C in a terminal does
    stdout, stderr = process.communicate(timeout=LIMIT)
    assert process.returncode == 130, stdout + stderr
    assert stderr.splitlines()[-1].endswith(f"--stage {number} --stop_stage {number}")
    assert not (folder / "model.safetensors").exists()
    assert list(experiment.rglob(".*partial*")) == []
    again = recipe(*options)
    assert again.returncode == 0, again.stdout + again.stderr
    assert (folder / "model.safetensors").exists()
    logged = [json.loads(line)["step"] for line in (folder / "log.jsonl").read_text().splitlines()]
    assert logged[0] == 3 and logged[-1] == 20 and logged == sorted(set(logged))
