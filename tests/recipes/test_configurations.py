"""Every YAML file of conf/ and of the recipes' conf/ is valid for its stage, and names existing tasks and languages."""

import subprocess
from math import prod
from pathlib import Path

import pytest
import torch

from audiopalm.ablations.design import Design
from audiopalm.acoustic.registry import KINDS as ACOUSTIC_KINDS
from audiopalm.acoustic.trainings import TRAININGS as ACOUSTIC_TRAININGS
from audiopalm.acoustic.trainings import load_training as load_acoustic_training
from audiopalm.codec.soundstream_training import SoundStreamTraining
from audiopalm.codec.spectral import SpectralModel
from audiopalm.codec.spectral_training import CodecTraining
from audiopalm.core.config import load_config, load_kind_config, to_dict
from audiopalm.data.domain import Domain
from audiopalm.languages import language_name
from audiopalm.lm.model import Decoder, ModelConfig
from audiopalm.lm.training import LMConfig
from audiopalm.scoring.goals import Goals
from audiopalm.stages.decode import DecodeConfig
from audiopalm.stages.make_vocabulary import VocabularyConfig
from audiopalm.tasks import get_task
from audiopalm.training.optimizer import learning_rate, make_optimizers
from audiopalm.units.registry import KINDS as UNIT_KINDS
from audiopalm.units.training import load_training

ROOT = Path(__file__).resolve().parents[2]
CLASSES = {"vocabulary": VocabularyConfig, "textlm": LMConfig, "lm": LMConfig, "decode": DecodeConfig, "goals": Goals,
           "domain": Domain}
ACOUSTIC = tuple(config for config, _ in ACOUSTIC_TRAININGS.values())
# espnet_*.yaml are for ESPnet's own parser: tests/espnet/test_espnet_task.py
FILES = sorted(path for path in [*ROOT.glob("conf/**/*.yaml"), *ROOT.glob("egs/*/conf/**/*.yaml")]
               if not path.name.startswith("espnet_"))


def load(path: Path):
    stage = path.stem.partition("_")[0]
    if stage == "tables":
        return load_config(Design, path)
    if stage == "units":
        return load_training(path)
    if stage == "acoustic":
        return load_acoustic_training(path)[1]
    if stage == "codec":
        return load_kind_config(path, [], {"spectral": CodecTraining, "soundstream": SoundStreamTraining}, "spectral")
    return load_config(CLASSES[stage], path)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_configuration_is_valid_and_makes_a_model(path):
    config = load(path)
    entries = config.mixture if isinstance(config, LMConfig) else getattr(config, "tasks", [])
    for entry in entries:
        get_task(entry.task)
        for code in [*entry.sources, *entry.targets]:
            language_name(code)
    with torch.device("meta"):  # only shapes are needed
        if isinstance(config, LMConfig):
            model = Decoder(ModelConfig(32000, **to_dict(config.model)))
            make_optimizers(config.optimizer, model)
            assert 0 < learning_rate(config.optimizer, config.training.steps)(0) <= config.optimizer.learning_rate
        elif isinstance(config, CodecTraining):
            SpectralModel(config.model)
        elif isinstance(config, ACOUSTIC):
            model = config.model
            model.units_size, model.levels, model.codec_size = 1024, model.levels or 12, 1024
            ACOUSTIC_KINDS[config.kind].model(model)
        elif path.stem.startswith("units") and config.kind != "huggingface":  # its shapes are in the pretrained encoder
            UNIT_KINDS[config.kind][1](config.model)


def test_every_stage_that_a_recipe_runs_has_its_configuration():
    needed = {3: "units", 4: "codec", 6: "vocabulary", 7: "textlm", 8: "lm", 9: "acoustic", 10: "decode"}
    for run in (ROOT / "egs").glob("*/run.sh"):
        script = run.read_text(encoding="utf-8")
        skipped = script.partition('--skip_stages "')[2].partition('"')[0].split()
        stages = {number for number in needed if str(number) not in skipped}
        if "--train_codec true" not in script:
            stages -= {4}
        folders = (run.parent / "conf", ROOT / "conf" / "full")  # as the driver looks for them
        missing = [needed[number] for number in sorted(stages)
                   if not any((folder / f"{needed[number]}.yaml").is_file() for folder in folders)]
        assert missing == [], run


def test_full_configurations_have_the_settings_of_the_paper():
    folder = ROOT / "conf" / "full"
    units, codec, acoustic = (load(folder / f"{name}.yaml") for name in ("units", "codec", "acoustic"))
    assert units.model.size == 1024 and (codec.model.levels, codec.model.size) == (12, 1024)
    assert (codec.kind, prod(codec.model.ratios)) == ("soundstream", 320)
    assert (acoustic.masking.level_bias, acoustic.masking.cut_share, acoustic.masking.whole_share) == (1, 1, 0)
    assert acoustic.generation.iterations == [16, 1]
    for recipe in ("covost2", "cvss", "voxpopuli"):
        config = load(ROOT / "egs" / recipe / "conf" / "lm.yaml")
        rate, steps = learning_rate(config.optimizer, config.training.steps), config.training.steps
        assert config.optimizer.name == "adafactor" and config.dropout == 0.2 and config.audio_rows == "zero"
        assert max(map(rate, range(steps))) == pytest.approx(1e-4) and rate(steps) == pytest.approx(1e-5)


@pytest.mark.parametrize("recipe", ["covost2", "cvss", "voxpopuli"])
def test_options_for_two_cores_name_valid_configurations(recipe):
    folder = ROOT / "egs" / recipe
    script = """file=../../conf/small/options.conf; . $file
        for name in $(sed -n "s/^\\([a-z_]*\\)=.*/\\1/p" $file); do echo $name: ${!name}; done"""
    shown = subprocess.run(["bash", "-c", script], cwd=folder, text=True, capture_output=True, check=True).stdout
    options = dict(line.split(": ", 1) for line in shown.splitlines())
    assert sorted(options) == ["acoustic_config", "codec_config", "lm_args", "textlm_config", "units_config",
                               "vocabulary_config"]
    for name in ("units", "codec", "vocabulary", "textlm", "acoustic"):
        load(folder / options[f"{name}_config"])
    config = load_config(LMConfig, folder / "conf" / "lm.yaml", options["lm_args"].split())
    assert (config.optimizer.name, config.training.micro_batches, config.dropout) == ("muon", 1, 0.0)
