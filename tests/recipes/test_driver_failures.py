"""What the driver egs/TEMPLATE/audiopalm.sh does about wrong options, missing input, failures and signals."""

import os
import signal
import subprocess

import pytest
from driver import make_pack_folders, toy_recipe
from waiting import LIMIT, wait_until

from audiopalm.core.processes import start_time


@pytest.fixture
def recipe(tmp_path):
    return toy_recipe(tmp_path)


@pytest.mark.parametrize("arguments, message", [
    (["--init_pack", "nothing"], "--init_pack nothing is no packed model of stage 14: it has no units"),
    (["--init_pack", "pack", "--init_lm", "lm"],
     "--init_pack brings its own LM: it goes with neither --init_lm nor --size"),
    (["--init_pack", "pack", "--size", "1B"],
     "--init_pack brings its own LM: it goes with neither --init_lm nor --size"),
    (["--init_pack", "pack", "--train_codec", "true"],
     "--init_pack brings its own codec: add --train_codec false"),
    (["--init_pack", "pack", "--expdir", "pack"],
     "--init_pack is the folder that the run would write; give another --expdir"),
])
def test_what_does_not_go_with_a_pack_is_refused(recipe, arguments, message):
    make_pack_folders(recipe.path / "pack")
    result = recipe(*arguments)
    assert result.returncode == 1 and result.stderr == f"audiopalm.sh: error: {message}\n"


def test_missing_input_names_the_stage_that_makes_it(recipe):
    result = recipe("--stage", "5")
    assert result.returncode == 1
    assert result.stderr.splitlines() == [
        "audiopalm.sh: error: stage 5 (tokenize) reads dump/raw/train, which does not exist; run stage 2 first: "
        f"{recipe.path}/run.sh --test_sets test --stage 2 --stop_stage 2"]
    assert not (recipe.path / "commands.txt").exists()


@pytest.mark.parametrize("arguments, message", [
    (["--stagee", "3"], "unknown option --stagee; did you mean --stage? (--help lists the options)"),
    (["--stage"], "option --stage needs a value"),
    (["--train_codec", "yes"], "option --train_codec takes true or false, not 'yes'"),
    (["--stage", "two"], "--stage and --stop_stage take a number from 1 to 14"),
    (["--stage", "15"], "no stage from --stage 15 to --stop_stage 14; there are 1 to 14"),
    (["--stage", "9", "--stop_stage", "9", "--skip_stages", "8 9"],
     "no stage from --stage 9 to --stop_stage 9 without 8 9; there are 1 to 14"),
    (["--skip_stages", "9,11"], "--skip_stages takes numbers from 1 to 14, separated by spaces"),
    (["3"], "unexpected argument '3' (--help lists the options)"),
    (["--corpus", "mini"], "unknown option --corpus (--help lists the options)"),
    (["--scale", "medium"], "--scale takes small or full, not 'medium'"),
    (["--text_dir", "x", "--trainer", "espnet"],
     "--text_dir is for --trainer own; ESPnet's trainer reads no such texts"),
    (["--num_nodes", "two"], "--ngpu and --num_nodes take numbers"),
    (["--inference_nj", "0"], "--inference_nj takes a number of jobs, from 1 on, not '0'"),
    (["--gpu_inference", "yes"], "--gpu_inference takes true or false, not 'yes'"),
    (["--audio_format", "mp3"], "--audio_format takes flac, flac.ark or wav, not 'mp3'"),
    (["--size", "2B"], "--size takes one of 128M 1B 8B not '2B'"),
    (["--train_set", "../train"], "--train_set takes names of data directories, not '../train'"),
])
def test_bad_options(recipe, arguments, message):
    result = recipe(*arguments)
    assert result.returncode == 1
    assert result.stderr == f"audiopalm.sh: error: {message}\n"


def test_failing_command(recipe):
    result = recipe("--stop_stage", "9", FAIL="train_units")
    assert result.returncode == 3
    assert "train_units: error: broken on purpose" in result.stdout  # both streams of a command go to screen and log
    assert result.stderr == ("audiopalm.sh: stage 3 (units) failed; log: exp/log/stage3.log; to go on: "
                             f"{recipe.path}/run.sh --test_sets test --stage 3 --stop_stage 9\n")
    assert not any(line.startswith("tokenize") for line in recipe.commands())


@pytest.mark.parametrize("number, to_group", [(signal.SIGINT, True), (signal.SIGINT, False), (signal.SIGTERM, False)])
def test_interrupt_reaches_the_command_once(recipe, number, to_group):
    """The command would go on for ten minutes."""
    process = subprocess.Popen([*recipe.command], env={**recipe.environment, "HANG": "train_units"}, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    wait_until((recipe.path / "hanging").exists, process)
    (os.killpg if to_group else os.kill)(process.pid, number)
    stdout, stderr = process.communicate(timeout=LIMIT)
    assert process.returncode == 130
    assert stdout.count("train_units: interrupted") == 1
    assert stderr == ("audiopalm.sh: interrupted in stage 3; to go on: "
                      f"{recipe.path}/run.sh --test_sets test --stage 3\n")
    assert recipe("--stage", "3", "--stop_stage", "3").returncode == 0


@pytest.mark.parametrize("whole_group", [False, True])
def test_a_killed_driver_takes_its_command_along(recipe, whole_group):
    """SIGKILL of run.sh alone, or with its helper, as the out-of-memory killer and time limits of clusters do."""
    process = subprocess.Popen([*recipe.command], env={**recipe.environment, "HANG": "train_units"},
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    command = recipe.path / "hanging"
    wait_until(command.exists, process)
    (os.killpg if whole_group else os.kill)(process.pid, signal.SIGKILL)
    assert process.wait(timeout=LIMIT) == -signal.SIGKILL
    number = int(command.read_text())
    wait_until(lambda: start_time(number) is None)
