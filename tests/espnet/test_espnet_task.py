"""AudioPaLMTask on the digit sets: training by ESPnet's Trainer, its checkpoints, search, conversion."""

import argparse
import importlib.util
import io
import json
import os
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from commands import check, command
from lm_commands import Prepared
from prestarted import run_python

from audiopalm.core.errors import AudioPaLMError
from audiopalm.data.example_set import ExampleSet
from audiopalm.lm.generation.config import DecodingConfig
from audiopalm.lm.generation.sampling import generate
from audiopalm.lm.model import Decoder, ModelConfig
from audiopalm.lm.sequences import SequenceBuilder
from audiopalm.lm.storage import load_model, save_model
from audiopalm.tasks import get_task
from audiopalm.vocabulary.joint import load_vocabulary

if importlib.util.find_spec("espnet2") is None:
    pytest.skip("espnet is not installed", allow_module_level=True)

from audiopalm.bin import espnet_convert
from audiopalm.espnet.imports import AbsESPnetModel, AbsTask, BatchScorerInterface
from audiopalm.espnet.scorer import AudioPaLMScorer, beam_search
from audiopalm.espnet.task import AudioPaLMTask
from audiopalm.espnet.training import made_from, train
from audiopalm.lm.trained import read_trained

ROOT = Path(__file__).resolve().parents[2]
CONFIG = """
mixture: [{task: asr, weight: 2}, {task: mt}, {task: s2st}, {task: "asr+ast+s2st"}]
batch_size: 4
row_length: 128
num_iters_per_epoch: 20
max_epoch: 3
validation_sequences: 8
keep_nbest_models: [2]
optim_conf: {lr: 4.0e-3, betas: [0.9, 0.98], eps: 1.0e-9, weight_decay: 0.0, fused: true}
grad_clip: 1.0e+9
audio_rows: normal
num_workers: 0
use_matplotlib: false
use_tensorboard: false
"""
# The same training by our own loop.
OURS = ["training.steps=60", "training.log_every=20", "training.validate_every=20", "optimizer.name=adamw",
        "optimizer.schedule=constant", "optimizer.warmup_steps=0", "optimizer.weight_decay=0", "optimizer.clip=1e9",
        "audio_rows=normal"]

# The command of the training, which kills itself at the beginning of the second epoch.
KILLED = """
import os, signal
from audiopalm.bin import espnet_train_lm
from audiopalm.core.command import run
from audiopalm.espnet.task import AudioPaLMTask
train, epochs = AudioPaLMTask.trainer.train_one_epoch, []
def killed(*arguments, **options):
    epochs.append(1)
    if len(epochs) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return train(*arguments, **options)
AudioPaLMTask.trainer.train_one_epoch = killed
if __name__ == "__main__":
    run(espnet_train_lm.main)
"""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, digit_sets):
    made = Prepared(tmp_path_factory.mktemp("prepared"), digit_sets)
    made.data, made.tokens = digit_sets[:2]
    (made.path / "espnet.yaml").write_text(CONFIG)
    made.options = [str(option) for option in (
        "--config", made.path / "espnet.yaml", "--vocabulary", made.path / "vocabulary", "--init_lm",
        made.path / "textlm", "--train_data_dir", made.data, "--train_tokens", made.tokens, "--valid_data_dir",
        made.dev_data, "--valid_tokens", made.dev_tokens)]
    return made


@pytest.fixture(scope="module")
def trained(prepared):
    """The folder of a finished training."""
    in_process(*prepared.options, "--output_dir", prepared.path / "straight")
    return prepared.path / "straight"


def weights(path):
    return torch.load(path, weights_only=True)


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def in_process(*options):
    """What the command does, without the seconds that it takes to import ESPnet."""
    AudioPaLMTask.main(cmd=[str(option) for option in options])


def convert(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["espnet_convert", *map(str, arguments)])
    espnet_convert.main()


def test_it_is_a_task_of_espnet_and_prints_its_configuration(monkeypatch):
    assert issubclass(AudioPaLMTask, AbsTask) and issubclass(AudioPaLMScorer, BatchScorerInterface)
    monkeypatch.setattr(sys, "argv", ["espnet_train_lm", "--print_config"])
    printed = io.StringIO()
    AudioPaLMTask.print_config(printed)
    config = yaml.safe_load(printed.getvalue())
    assert config["iterator_type"] == "task" and config["max_epoch"] == 40 and config["row_length"] == 512
    assert config["best_model_criterion"] == [["valid", "loss", "min"]] and config["decoder_conf"] == {}


@pytest.mark.parametrize("conf", sorted([*ROOT.glob("conf/*/espnet_lm.yaml"), *ROOT.glob("egs/*/conf/espnet*.yaml")]),
                         ids=lambda path: "-".join(path.parts[-3:-1]))
def test_configurations_of_recipes_build_their_model(conf, prepared, tmp_path, monkeypatch):
    monkeypatch.chdir(conf.parent.parent)
    mixture_file = conf.parent / "lm.yaml"
    if not mixture_file.exists():  # conf/full has none, because each recipe of that scale has its own
        mixture_file = ROOT / "egs/covost2/conf/lm.yaml"
    in_process("--config", conf, "--mixture", mixture_file, "--vocabulary", prepared.path / "vocabulary",
               "--init_lm", prepared.path / "textlm", "--output_dir", tmp_path, "--dry_run", "true",
               "--iterator_type", "none")
    written = yaml.safe_load((tmp_path / "config.yaml").read_text())
    vocabulary, _ = load_vocabulary(prepared.path / "vocabulary")
    assert written["decoder_conf"]["vocabulary_size"] == vocabulary.size
    assert written["vocabulary_hash"] == vocabulary.layout_hash
    mixture = yaml.safe_load(mixture_file.read_text())["mixture"]
    assert [(entry["task"], entry["weight"]) for entry in written["mixture"]] == [
        (entry["task"], entry["weight"]) for entry in mixture]


def test_epochs_are_laid_out_as_espnet_does(trained):
    assert {path.name for path in trained.iterdir()} == {
        "config.yaml", "checkpoint.pth", "latest.pth", "2epoch.pth", "3epoch.pth", "valid.loss.best.pth",
        "valid.loss.ave.pth", "valid.loss.ave_2best.pth"}
    assert os.readlink(trained / "latest.pth") == os.readlink(trained / "valid.loss.best.pth") == "3epoch.pth"


def test_a_finished_output_is_left_alone_or_refused(prepared, tmp_path, caplog):
    """The rule of our own trainings: the same options find the model finished, any others show what differs."""
    caplog.set_level("INFO")
    options = [*prepared.options, "--output_dir", str(tmp_path / "espnet"), "--max_epoch", "1",
               "--num_iters_per_epoch", "2"]
    train(options, tmp_path / "lm")
    before = (tmp_path / "lm/model.safetensors").stat().st_mtime_ns
    assert read_trained(tmp_path / "lm")
    train([*options, "--num_workers", "0", "--log_interval", "7"], tmp_path / "lm")
    assert "is finished" in caplog.text and (tmp_path / "lm/model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(AudioPaLMError, match="other settings.*\n  options.num_iters_per_epoch: 2 -> 3"):
        train([*options[:-1], "3"], tmp_path / "lm")
    # The contents of a file with the mixture count, and not its name.
    (tmp_path / "lm.yaml").write_text("mixture: [{task: asr}]\n")
    named = [*options, "--mixture", str(tmp_path / "lm.yaml")]
    before = made_from(AudioPaLMTask.get_parser().parse_args(named))
    assert before == made_from(AudioPaLMTask.get_parser().parse_args(named))
    (tmp_path / "lm.yaml").write_text("mixture: [{task: asr, weight: 2}]\n")
    assert before != made_from(AudioPaLMTask.get_parser().parse_args(named))


def test_losses_are_those_of_our_own_loop(prepared, trained, tmp_path):
    check(command(*prepared.train_lm, "--output", tmp_path / "lm", *OURS))
    ours = [json.loads(line) for line in (tmp_path / "lm" / "log.jsonl").read_text().splitlines()]
    epochs = torch.load(trained / "checkpoint.pth", weights_only=False)["reporter"]["stats"]
    assert len(ours) == len(epochs) == 3 and ours[2]["loss"] < 0.8 * ours[0]["loss"]
    for epoch, row in enumerate(ours, start=1):
        assert epochs[epoch]["train"]["loss"] == pytest.approx(row["loss"], rel=1e-5)
        for task, loss in row["dev"].items():
            if task == "loss":  # the mean of the tasks
                continue
            assert epochs[epoch]["valid"][f"loss_{task}"] == pytest.approx(loss, rel=1e-4)


def test_a_killed_training_ends_with_the_same_weights(prepared, trained, tmp_path, caplog):
    (tmp_path / "killed.py").write_text(KILLED)
    options = [*prepared.options, "--output_dir", str(tmp_path / "exp")]
    killed = run_python(tmp_path / "killed.py", *options)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert (tmp_path / "exp/1epoch.pth").exists() and not (tmp_path / "exp/2epoch.pth").exists()
    caplog.set_level("INFO")
    in_process(*options)
    assert "The training was resumed" in caplog.text
    assert same(weights(tmp_path / "exp/3epoch.pth"), weights(trained / "3epoch.pth"))


def test_the_average_is_the_mean_and_loads_strictly(trained, tmp_path):
    model, args = AudioPaLMTask.build_model_from_file(trained / "config.yaml", trained / "valid.loss.ave.pth")
    assert isinstance(model, AbsESPnetModel) and args.max_epoch == 3
    second, third, mean = (weights(trained / f"{name}.pth") for name in ("2epoch", "3epoch", "valid.loss.ave"))
    assert same(mean, {name: (third[name] + second[name]) / 2 for name in third})
    assert same(mean, model.state_dict()) and not same(mean, third)

    torch.save({name: value for name, value in third.items() if name != "decoder.norm.weight"}, tmp_path / "less.pth")
    with pytest.raises(AudioPaLMError, match="less.pth does not fit .*decoder.norm.weight"):
        AudioPaLMTask.build_model_from_file(trained / "config.yaml", tmp_path / "less.pth")
    with pytest.raises(AudioPaLMError, match="checkpoint.pth (is not a file of weights|does not fit)"):
        AudioPaLMTask.build_model_from_file(None, trained / "checkpoint.pth")


@pytest.mark.parametrize("name", ["asr", "s2st", "asr+ast+s2st"])
def test_beam_search_of_one_is_greedy_decoding(prepared, trained, name):
    vocabulary, tokenizer = load_vocabulary(prepared.path / "vocabulary")
    model = AudioPaLMTask.build_model_from_file(None, trained / "latest.pth")[0].decoder
    task, builder, config = get_task(name), SequenceBuilder(vocabulary, tokenizer), DecodingConfig(6, 8)
    examples = ExampleSet(prepared.dev_data, prepared.dev_tokens)
    utterances = examples.utterances(task.fields(), "es", "en")[:4]
    prompts = [builder.prompt(task, examples.example(utterance, task.fields(), "en")) for utterance in utterances]
    greedy = generate(model, prompts, task, vocabulary, config)
    assert len({tuple(np.concatenate(answer.parts)) for answer in greedy}) > 1
    for prompt, expected in zip(prompts, greedy, strict=True):
        (score, found), = beam_search(model, prompt, task, vocabulary, config, 1)
        assert [part.tolist() for part in found.parts] == [part.tolist() for part in expected.parts]
        wider = beam_search(model, prompt, task, vocabulary, config, 4)
        assert [value for value, _ in wider] == sorted((value for value, _ in wider), reverse=True)
        assert len(wider) == 4 and all(len(answer.parts) == len(task.outputs) for _, answer in wider)
        assert len({tuple(np.concatenate(answer.parts)) for _, answer in wider}) > 1 and wider[0][0] > -np.inf


def test_weights_go_to_our_stages_and_back(prepared, trained, tmp_path, monkeypatch):
    convert(monkeypatch, "--model_file", trained / "latest.pth", "--output", tmp_path / "lm")
    vocabulary, _ = load_vocabulary(prepared.path / "vocabulary")
    ours = load_model(tmp_path / "lm", vocabulary, "the test").state_dict()
    theirs = weights(trained / "latest.pth")
    assert same({f"decoder.{name}": value for name, value in ours.items()}, theirs)
    check(command(*prepared.decode(tmp_path)))
    convert(monkeypatch, "--lm", tmp_path / "lm", "--vocabulary", prepared.path / "vocabulary", "--output",
            tmp_path / "back")
    assert same(weights(tmp_path / "back" / "model.pth"), theirs)
    AudioPaLMTask.build_model_from_file(None, tmp_path / "back" / "model.pth")

    in_process(*prepared.options, "--output_dir", tmp_path / "more", "--init_param", tmp_path / "back" / "model.pth",
               "--max_epoch", 1, "--num_iters_per_epoch", 1, "--optim_conf", "lr=0")
    assert same(weights(tmp_path / "more" / "1epoch.pth"), theirs)


@pytest.mark.parametrize("options, message", [
    (["--num_iters_per_epoch", "none"], "a mixture has no end"),
    (["--mixture", "[{task: asrr}]"], "unknown task 'asrr'; did you mean 'asr'?"),
    (["--mixture", "[]"], "mixture: it is empty"),
    (["--decoder_conf", "dim=32"], "decoder_conf is not that of --init_lm"),
    (["--decoder_conf", "dimension=32"], "unknown key 'dimension'"),
    (["--vocabulary_hash", "0123456789abcdef"], "vocabulary mismatch"),
    (["--train_data_path_and_name_and_type", "text,transcript,text"], "name the task with --task"),
    (["--num_att_plot", "1", "--use_matplotlib", "true"], "--num_att_plot must be 0"),
])
def test_bad_options_are_named(prepared, tmp_path, options, message):
    with pytest.raises(AudioPaLMError) as raised:
        in_process(*prepared.options, "--output_dir", tmp_path, *options)
    assert message in str(raised.value) and "\n" not in str(raised.value)


def test_tokens_of_other_units_are_refused(prepared, tmp_path):
    shutil.copytree(prepared.tokens, tmp_path / "tokens", ignore=shutil.ignore_patterns("*.arrow"))
    meta = json.loads((tmp_path / "tokens" / "meta.json").read_text())
    (tmp_path / "tokens" / "meta.json").write_text(json.dumps({**meta, "units_sha256": "others"}))
    with pytest.raises(AudioPaLMError, match="tokens was made with units others, the vocabulary with "):
        in_process(*prepared.options, "--output_dir", tmp_path / "exp", "--train_tokens", tmp_path / "tokens")

def test_an_lm_with_audio_rows_gets_no_others(prepared, tmp_path):
    vocabulary, _ = load_vocabulary(prepared.path / "vocabulary")
    joint = Decoder(ModelConfig(vocabulary.size, dim=32, layers=1))
    save_model(tmp_path / "joint", joint.config, joint.state_dict(), vocabulary.layout_hash, 0)
    arguments = argparse.Namespace(
        vocabulary=str(prepared.path / "vocabulary"), vocabulary_hash=None, output_dir=str(tmp_path / "exp"),
        resume=False, task=None, mixture=None, train_data_dir=None, train_tokens=None, init_lm=str(tmp_path / "joint"),
        audio_rows="zero", decoder_conf={"dropout": 0.1}, best_model_criterion=[], keep_nbest_models=1)
    model = AudioPaLMTask.build_model(arguments).decoder
    assert torch.equal(model.embedding.weight, joint.embedding.weight) and model.config.dropout == 0.1


def test_averages_that_espnet_takes_wrongly_are_refused(prepared, tmp_path, monkeypatch):
    monkeypatch.setattr("audiopalm.espnet.task.ESPNET", "202511")
    for options in (["--keep_nbest_models", "2", "3"], ["--best_model_criterion", "valid,loss,min", "train,loss,min"]):
        with pytest.raises(AudioPaLMError, match=f"averages checkpoints wrongly with several values of {options[0]};"):
            in_process(*prepared.options, "--output_dir", tmp_path, *options)


def test_another_vocabulary_than_that_of_the_run_is_refused(prepared, tmp_path):
    (tmp_path / "config.yaml").write_text("vocabulary_hash: 0123456789abcdef\n")
    with pytest.raises(AudioPaLMError, match="vocabulary mismatch: .*config.yaml was made with"):
        in_process(*prepared.options, "--output_dir", tmp_path)
