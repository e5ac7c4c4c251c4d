"""The driver egs/TEMPLATE/audiopalm.sh: which command runs in which stage, with which arguments."""

import os
import re
import shutil
import subprocess

import pytest
from driver import ROOT, make_pack_folders, toy_recipe


@pytest.fixture
def recipe(tmp_path):
    return toy_recipe(tmp_path)


def test_all_stages_in_order(recipe):
    result = recipe("--seed", "7")
    assert result.returncode == 0, result.stderr
    names = [line.split()[0] for line in recipe.commands()]
    assert names == ["prepare", "data_dir", "format_audio", "train_units", "tokenize", "make_vocabulary", "train_lm",
                     "train_lm", "train_acoustic", "decode", *["synthesize"] * 2, "score", "report", "calibrate",
                     "pack"]
    seeded = [line.split()[0] for line in recipe.commands() if "--seed 7" in line]
    assert seeded == ["train_units", "train_lm", "train_lm", "train_acoustic", "decode", *["synthesize"] * 2,
                      "score", "calibrate"]
    for number in range(1, 15):
        assert f"== stage {number}: " in result.stdout
        assert (recipe.path / "exp" / "log" / f"stage{number}.log").is_file()
    assert f"next    {recipe.path}/run.sh --test_sets test --seed 7 --stage 9" in result.stdout
    assert "output of train_acoustic" in result.stdout
    assert "output of train_acoustic" in (recipe.path / "exp" / "log" / "stage9.log").read_text()
    assert result.stdout.splitlines()[-1].startswith("in all ")


def test_parts_of_the_shipped_model_are_taken(recipe):
    result = recipe("--train_units", "false", "--train_acoustic", "false")
    assert result.returncode == 0, result.stderr
    names = [line.split()[0] for line in recipe.commands()]
    assert "units_report" in names and not {"train_units", "train_codec", "train_acoustic"} & set(names)
    for part in ("units", "codec", "acoustic"):
        assert (recipe.path / "exp" / part / "config.json").read_text() == "{}"
    tokenize = next(line for line in recipe.commands() if line.startswith("tokenize "))
    assert "--units_only dump/raw/train --acoustic pretrained/pack/acoustic " in tokenize
    for option, value in (("--units_config", "units_logmel.yaml"), ("--units_args", "training.steps=1"),
                          ("--acoustic_args", "training.steps=1")):
        unused = recipe("--train_units", "false", "--train_acoustic", "false", option, value)
        assert unused.returncode != 0 and f"{option.partition('_')[0]}_config" in unused.stderr
    for options in ((), ("--train_units", "false", "--pretrained_units", "other_units")):
        refused = recipe("--train_acoustic", "false", *options)
        assert refused.returncode != 0 and "goes with --train_units false" in refused.stderr
    for options in (("--pretrained_units", "other"), ("--pretrained_codec", "other", "--train_codec", "true"),
                    ("--pretrained_acoustic", "other"), ("--pretrained_codec", "other", "--init_pack", "shipped")):
        ignored = recipe(*options)
        assert ignored.returncode != 0 and f"{options[0]} is for --train_" in ignored.stderr


CMD_SH = """export train_cmd="slurm.pl --mem 4G" cuda_cmd="slurm.pl -p a100" decode_cmd=queue.pl\n"""


def launched(recipe) -> dict[str, str]:
    """{stage: options of the launch of its training} of the last call, and {command: options of its jobs}."""
    trainings = {line.rpartition("/")[2]: line for line in (recipe.path / "launched.txt").read_text().splitlines()}
    jobs = {line.split()[0]: line[line.index("--nj"):] for line in recipe.commands() if "--nj" in line}
    (recipe.path / "launched.txt").unlink()
    (recipe.path / "commands.txt").unlink()
    return trainings | jobs


def test_jobs_and_trainings_go_to_their_launchers(recipe):
    (recipe.path / "cmd.sh").write_text(CMD_SH)
    assert recipe("--stop_stage", "11", "--nj", "7", "--inference_nj", "9").returncode == 0
    found = launched(recipe)
    assert found["format_audio"] == "--nj 7 --cmd slurm.pl --mem 4G --job_dir exp/log/stage2"
    assert found["tokenize"] == "--nj 7 --cmd queue.pl --job_dir exp/log/stage5"
    assert found["decode"] == "--nj 9 --cmd queue.pl --job_dir exp/log/stage10"
    assert found["synthesize"] == "--nj 9 --cmd queue.pl --job_dir exp/log/stage11"
    for stage in ("stage3", "stage7", "stage8", "stage9"):
        assert found[stage] == ("--cmd slurm.pl -p a100 --ngpu 0 --num_nodes 1 --job_dir "
                                f"exp/log/{stage}")
    assert recipe("--stop_stage", "11", "--ngpu", "4", "--num_nodes", "2").returncode == 0
    found = launched(recipe)
    assert "--ngpu 4 --num_nodes 2" in found["stage8"] and "--cmd slurm.pl --mem 4G --job" in found["format_audio"]
    for command in ("tokenize", "decode", "synthesize"):
        assert "--nj 2 --cmd slurm.pl -p a100 --gpu 1 --job_dir" in found[command]
    assert recipe("--stop_stage", "10", "--ngpu", "4", "--gpu_inference", "false", "--cmd", "run.pl").returncode == 0
    found = launched(recipe)
    assert {line.split("--cmd ")[1].split()[0] for line in found.values()} == {"run.pl"}
    assert "--gpu" not in found["decode"] and "--ngpu 4" in found["stage3"]


def test_the_format_of_audio_reaches_stages_2_and_11(recipe):
    for options, audio, speech in (([], "flac", False), (["--audio_format", "flac.ark"], "flac.ark", True)):
        assert recipe("--stop_stage", "11", *options).returncode == 0
        commands = {line.split()[0]: line for line in recipe.commands()}
        assert f"--audio_format {audio} --nj" in commands["format_audio"]
        assert ("--audio_format flac.ark" in commands["synthesize"]) == speech


def test_stage_and_stop_stage(recipe):
    assert recipe("--stop_stage", "2").returncode == 0
    (recipe.path / "commands.txt").unlink()
    result = recipe("--stage", "2", "--stop-stage", "3")
    assert result.returncode == 0, result.stderr
    assert [line.split()[0] for line in recipe.commands()] == ["format_audio", "train_units"]
    assert f"next    {recipe.path}/run.sh --test_sets test --stage 4\n" in result.stdout


def test_what_comes_next_is_not_skipped(recipe):
    result = recipe("--stop_stage", "2", "--skip_stages", "3 4")
    assert f"next    {recipe.path}/run.sh --test_sets test --skip_stages 3\\ 4 --stage 5\n" in result.stdout


def test_a_text_lm_is_imported_instead_of_trained(recipe):
    assert recipe("--init_lm", "some models/a lm", "--stop_stage", "8").returncode == 0
    vocabulary, textlm, finetune = recipe.commands()[5:]
    assert vocabulary.startswith("make_vocabulary ") and "--init_lm some models/a lm" in vocabulary
    assert textlm == "import_lm --init_lm some models/a lm --vocabulary exp/vocabulary --output exp/textlm --seed 0"
    assert finetune.startswith("train_lm ") and "--init_lm exp/textlm" in finetune


def test_a_pack_goes_on_training(recipe):
    make_pack_folders(recipe.path / "a pack")
    result = recipe("--init_pack", "a pack", "--stop_stage", "9")
    assert result.returncode == 0, result.stderr
    units, tokenize, vocabulary, textlm, finetune, acoustic = recipe.commands()[3:]
    assert units == "units_report --units exp/units --data_dir dump/raw/dev"
    assert (recipe.path / "exp/units/config.json").is_file() and (recipe.path / "exp/codec/config.json").is_file()
    assert tokenize.startswith("tokenize ") and "--init_pack a pack --output exp/vocabulary" in vocabulary
    assert textlm == "import_lm --init_pack a pack --vocabulary exp/vocabulary --output exp/textlm --seed 0"
    assert finetune.startswith("train_lm ") and "--init_lm exp/textlm" in finetune
    assert "--init_model a pack/acoustic --output exp/acoustic" in acoustic


def test_scores_are_of_the_run_and_published_on_request(recipe):
    assert recipe("--stop_stage", "12").returncode == 0
    score = recipe.commands()[-1]
    assert "--results exp/results.json --report exp/RESULTS.md" in score and "--publish" not in score
    assert recipe("--stage", "12", "--publish", "true").returncode == 0
    score, report, _, pack = recipe.commands()[-4:]
    assert " --publish " in score
    assert "--results exp/results.json" in report and "--results exp/results.json" in pack
    assert not (recipe.path / "results.json").exists() and not (recipe.path / "RESULTS.md").exists()


def test_espnet_trains_instead_of_our_loop(recipe):
    assert recipe("--trainer", "espnet", "--stop_stage", "8", "--seed", "3").returncode == 0
    (train,) = recipe.commands()[7:]
    assert train.startswith("espnet_train_lm --config conf/espnet_lm.yaml --mixture conf/lm.yaml ")
    assert "--seed 3" in train and " --output_dir exp/espnet_lm --output exp/lm " in train
    result = recipe("--trainer", "espnett")
    assert result.returncode == 1 and result.stderr == (
        "audiopalm.sh: error: --trainer takes own or espnet, not 'espnett'\n")


def test_distorted_copies_and_sets_of_texts_are_decoded_too(recipe):
    result = recipe("--conditions", "telephone noise10", "--text_sets", "sayings", "--stop_stage", "12")
    assert result.returncode == 0, result.stderr
    commands = {}
    for name, _, rest in (line.partition(" ") for line in recipe.commands()):
        commands.setdefault(name, []).append(rest)
    assert [re.search(r"--condition (\w+)", line)[1] for line in commands["distort"]] == ["telephone", "noise10"]
    heard = "test_robust_telephone test_robust_noise10"
    assert any(line.startswith("copy_data_dir.sh") and "sayings" in line for line in commands["data_dir"])
    assert f"dump/raw/{' dump/raw/'.join(heard.split())} --units" in commands["tokenize"][0]
    decoded = re.findall(r"exp/decode/(\w+)", commands["decode"][0])
    assert decoded == ["dev", "test", *heard.split(), "sayings"]
    # Nothing speaks in these sets, so that stage 11 leaves them out.
    assert [re.search(r"exp/decode/(\w+)", line)[1] for line in commands["synthesize"]] == ["dev", "test"]


def test_a_configuration_of_the_recipe_goes_before_the_shared_one(recipe):
    """And the screen says which it is; --scale and a bare file name choose among the shared ones."""
    (recipe.path / "conf/textlm.yaml").unlink()
    assert recipe("--stop_stage", "6").returncode == 0
    result = recipe("--stage", "7", "--stop_stage", "8", "--scale", "small")
    assert "reads   ../../conf/small/textlm.yaml (shared by recipes)\n" in result.stdout
    assert "reads   conf/lm.yaml (of the recipe)\n" in result.stdout
    assert [line.split()[2] for line in recipe.commands()[-2:]] == ["../../conf/small/textlm.yaml", "conf/lm.yaml"]
    (recipe.path / "other.yaml").write_text("")
    result = recipe("--stage", "7", "--stop_stage", "7", "--textlm_config", "./other.yaml")
    assert "reads   ./other.yaml\n" in result.stdout
    result = recipe("--stage", "3", "--stop_stage", "3", "--units_config", "units_huggingface.yaml")
    assert "reads   ../../conf/full/units_huggingface.yaml (shared by recipes)\n" in result.stdout
    result = recipe("--stage", "3", "--stop_stage", "3", "--units_config", "unit.yaml")
    assert result.returncode == 1 and result.stderr == (
        "audiopalm.sh: error: stage 3 (units) needs the configuration unit.yaml: there is no ../../conf/full/unit.yaml "
        "and no conf/unit.yaml\n")


def test_folders_with_spaces_are_passed_on_whole(recipe):
    result = recipe("--datadir", "my data", "--dumpdir", "my dump", "--expdir", "my exp", "--downloads", "the corpus",
                    "--text_dir", "my texts", "--nj", "1")
    assert result.returncode == 0, result.stderr
    commands = {line.split()[0]: line for line in recipe.commands()}
    assert "--downloads the corpus" in commands["prepare"] and (recipe.path / "my data/test").is_dir()
    assert "--input my data/train my data/dev my data/test --output my dump/raw/train" in commands["format_audio"]
    assert "--text_dir my texts/train --dev_text_dir my texts/dev" in commands["train_lm"]
    assert sorted(path.name for path in (recipe.path / "my exp/decode").iterdir()) == ["dev", "test"]
    assert not {"my", "exp", "dump"} & {path.name for path in recipe.path.iterdir()}


def test_a_text_lm_by_size(recipe):
    assert recipe("--size", "1B", "--stop_stage", "7").returncode == 0
    assert recipe.commands()[-1].startswith("import_lm --init_lm meta-llama/Llama-3.2-1B ")
    (recipe.path / "commands.txt").unlink()
    result = recipe("--size", "1B", "--init_lm", "mine", "--ngpu", "2", "--lm_args", "training.rows=2",
                    "--stage", "7", "--stop_stage", "8")
    assert result.returncode == 0 and recipe.commands()[0].startswith("import_lm --init_lm mine ")
    assert recipe.commands()[1].endswith("training.micro_batches=16 training.workers=2 training.rows=2")


def test_another_seed_reuses_the_audio_and_tokens(recipe):
    assert recipe("--stop_stage", "5").returncode == 0
    (recipe.path / "commands.txt").unlink()
    result = recipe("--stage", "6", "--seed", "1", "--expdir", "exp_seed1",
                    "--codec_exp", "exp/codec", "--units-exp", "exp/units")
    assert result.returncode == 0, result.stderr
    finetune = next(line for line in recipe.commands() if line.startswith("train_lm") and "--init_lm" in line)
    assert "--vocabulary exp_seed1/vocabulary --init_lm exp_seed1/textlm" in finetune
    assert "--data_dir dump/raw/train --tokens dump/tokens/train" in finetune
    assert "--codec exp/codec" in next(line for line in recipe.commands() if line.startswith("synthesize"))
    assert not (recipe.path / "exp" / "lm").exists()


def test_stages_are_skipped_and_models_come_from_another_recipe(recipe):
    for name in ("units", "codec", "vocabulary", "lm"):
        (recipe.path / "../other/exp" / name).mkdir(parents=True)
    arguments = ("--models", "../other/exp", "--skip_stages", "3 4 6 7 8 9 11 14", "--train_set", "dev")
    result = recipe(*arguments)
    assert result.returncode == 0, result.stderr
    commands = {line.split()[0]: line for line in recipe.commands()}
    assert list(commands) == ["prepare", "data_dir", "format_audio", "tokenize", "decode", "score", "report"]
    assert "--input data/dev data/test --output" in commands["format_audio"]  # each set once
    assert "--units ../other/exp/units --codec ../other/exp/codec" in commands["tokenize"]
    assert "--lm ../other/exp/lm --vocabulary ../other/exp/vocabulary" in commands["decode"]
    assert "--output exp/decode/dev exp/decode/test" in commands["decode"]
    shutil.rmtree(recipe.path / "../other/exp/lm")
    result = recipe(*arguments, "--stage", "10")
    assert result.returncode == 1
    assert result.stderr == ("audiopalm.sh: error: stage 10 (decode) reads ../other/exp/lm, which does not exist; "
                             "stage 8 is skipped here: --models names the EXPDIR of a recipe that has run it\n")


def test_what_a_command_imports_stays_compiled():
    result = subprocess.run(["bash", "-c", ". egs/TEMPLATE/path.sh; env"], cwd=ROOT, text=True, capture_output=True,
                            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})
    assert "PYTHONPATH=" in result.stdout and "PYTHONDONTWRITEBYTECODE" not in result.stdout


def test_a_file_of_options_overrides_the_recipe_and_the_command_line_overrides_the_file(recipe, tmp_path):
    (tmp_path / "options").write_text("valid_set=sayings\nseed=3\nnj=5\n")
    result = recipe("--nj", "7", "--config", str(tmp_path / "options"), "--stop_stage", "5")
    assert result.returncode == 0, result.stderr
    commands = {line.split()[0]: line for line in recipe.commands()}
    assert "--input data/train data/sayings data/test" in commands["format_audio"]  # run.sh has --valid_set dev
    assert "--seed 3" in commands["train_units"] and "--nj 7" in commands["format_audio"]


def test_help_lists_every_option_and_needs_no_setup(recipe):
    result = recipe("--help", AUDIOPALM_PYTHON="/nonexistent")
    assert result.returncode == 0
    driver = (ROOT / "egs" / "TEMPLATE" / "audiopalm.sh").read_text()
    defaults = driver.split("set -euo pipefail\n")[1].split("root=$(")[0]
    names = {line.split("=")[0] for line in defaults.splitlines() if "=" in line} - {"called_as"}
    assert len(names) > 30
    assert sorted(name for name in names if f"--{name}" not in result.stdout) == []
