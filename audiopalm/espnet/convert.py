"""Conversion of a model of ESPnet's Trainer (config.yaml and weights) to a model of stage 8, and back."""

from pathlib import Path

import torch
import yaml

from audiopalm.core.config import to_dict
from audiopalm.core.files import atomic_path, read_json, write_text
from audiopalm.espnet.model import ESPnetAudioPaLMModel
from audiopalm.espnet.task import AudioPaLMTask
from audiopalm.lm.storage import load_model, save_model
from audiopalm.lm.trained import read_trained, trained_from_json, trained_to_json
from audiopalm.vocabulary.joint import load_vocabulary


def from_espnet(model_file: str | Path, output: str | Path, config_file: str | Path | None = None) -> None:
    """Write config.json and model.safetensors into `output`.

    model_file: weights of ESPnet's Trainer. config_file: by default config.yaml beside the weights. Raises
    AudioPaLMError as `AudioPaLMTask.build_model_from_file` does.
    """
    model, args = AudioPaLMTask.build_model_from_file(config_file, model_file)
    trained = trained_from_json(getattr(args, "trained", []), str(config_file or model_file))
    save_model(output, model.decoder.config, model.decoder.state_dict(), args.vocabulary_hash, args.seed, trained)


def to_espnet(lm: str | Path, vocabulary_dir: str | Path, output: str | Path) -> None:
    """Write config.yaml and model.pth into `output`, for `--init_param`, `build_model_from_file` and the pack.

    lm: folder of stage 8. Raises AudioPaLMError for missing files and for a vocabulary that is not the model's.
    """
    vocabulary, _ = load_vocabulary(vocabulary_dir)
    decoder = load_model(lm, vocabulary, "stage 8 (finetune)")
    config = {"vocabulary": str(vocabulary_dir), "vocabulary_hash": vocabulary.layout_hash,
              "decoder_conf": to_dict(decoder.config), "seed": read_json(Path(lm) / "config.json")["seed"],
              "trained": trained_to_json(read_trained(lm))}
    write_text(Path(output) / "config.yaml", yaml.safe_dump(config, sort_keys=False))
    with atomic_path(Path(output) / "model.pth") as temporary:
        torch.save(ESPnetAudioPaLMModel(decoder).state_dict(), temporary)
