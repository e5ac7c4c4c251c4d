"""A packed model with tiny random parts of the real kinds, and recordings for it."""

import dataclasses
import functools
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import soundfile
import torch
from safetensors.torch import save_file

from audiopalm.acoustic.soundstorm.generation import GenerationConfig
from audiopalm.acoustic.soundstorm.model import ModelConfig as SoundStormConfig
from audiopalm.acoustic.soundstorm.model import SoundStorm
from audiopalm.codec.registry import hash_codes
from audiopalm.codec.source_filter import SourceFilterConfig
from audiopalm.codec.spectral import SpectralConfig, SpectralModel
from audiopalm.core.files import read_json, sha256, write_json
from audiopalm.lm.model import Decoder, ModelConfig
from audiopalm.lm.storage import save_model
from audiopalm.lm.trained import TrainedTask
from audiopalm.tasks import TASKS, Task
from audiopalm.units.registry import save_units
from audiopalm.units.usm_v2 import UnitConfig, UnitModel
from audiopalm.vocabulary.joint import make_vocabulary
from audiopalm.vocabulary.text import train_tokenizer


def trained_on(tasks: Iterable[Task]) -> list[TrainedTask]:
    """The tasks from Spanish and from English, into the other language where they translate; MT from Spanish alone."""
    return [TrainedTask(task.name, source, target if task.translates else None)
            for task in tasks for source, target in (("es", "en"), ("en", "es"))
            if (task.name, source) != ("mt", "en")]


def make_pack(root: Path) -> Path:
    """A folder as stage 14 makes it."""
    torch.manual_seed(0)
    train_tokenizer(["uno dos tres", "one two three", "[ASR AST S2ST MT TTS Spanish English]"] * 20,
                    root / "vocabulary" / "text.model", 400)
    unit_config = UnitConfig(bands=20, dim=16, heads=2, encoder_blocks=1, code_dim=4, size=16, characters="ab ")
    units = UnitModel(unit_config)
    units.quantiser.codebook.data.normal_()
    save_units(units, root / "units")
    units_sha256 = sha256(root / "units" / "model.safetensors")
    vocabulary = make_vocabulary(root / "vocabulary", 16, units_sha256, ["en", "es"])
    lm = Decoder(ModelConfig(vocabulary.size, dim=32, layers=1, hidden_dim=32))
    lm.embedding.weight.data[vocabulary.eos] = 0  # a logit of 0 is never the largest
    save_model(root / "lm", lm.config, lm.state_dict(), vocabulary.layout_hash, seed=0,
               trained=trained_on(TASKS.values()))
    codec_config = SpectralConfig(bands=8, encoder_dim=8, encoder_blocks=1, latent_dim=4,
                                  decoder=SourceFilterConfig(dim=8, blocks=1), levels=2, size=16)
    storm_config = SoundStormConfig(16, 2, 16, dim=16, layers=1, heads=2, feedforward=16)
    codec, storm = SpectralModel(codec_config), SoundStorm(storm_config)
    codec.codebooks.normal_()
    for name, model, config in (
        ("codec", codec, dataclasses.asdict(codec_config)),
        ("acoustic", storm, {"model": dataclasses.asdict(storm_config),
                             "generation": dataclasses.asdict(GenerationConfig()), "units_size": 16,
                             "codec_levels": 2, "codec_size": 16}),
    ):
        write_json(root / name / "config.json", config)
        save_file(model.state_dict(), root / name / "model.safetensors")
    hashes = {"units_sha256": sha256(root / "units" / "model.safetensors"), "codes_sha256": hash_codes(root / "codec")}
    write_json(root / "acoustic" / "config.json", {**read_json(root / "acoustic" / "config.json"), **hashes})
    return root


def tone(path, rate=16000, seconds=1.0, channels=1):
    time = np.arange(int(rate * seconds)) / rate
    samples = 0.1 * np.sin(2 * np.pi * 220 * time)
    soundfile.write(path, np.stack([samples] * channels, axis=1), rate)
    return path


@functools.cache
def spoken(seconds: float = 3.0, start: float = 0.0) -> np.ndarray:
    """A speaker of the embedded corpus, float32 `[T]` at 16 kHz."""
    path = Path(__file__).parents[1] / "egs" / "mini" / "corpus" / "recordings" / "allison-es.ogg"
    with soundfile.SoundFile(path) as file:
        assert file.samplerate == 16000
        file.seek(round(start * 16000))
        return file.read(round(seconds * 16000), dtype="float32")
