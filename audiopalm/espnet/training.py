"""Stage 8 by ESPnet's Trainer, with the rules of our own engine for finished and interrupted trainings."""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from audiopalm.core.config import load_config, to_dict
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import sha256
from audiopalm.core.lock import locked
from audiopalm.espnet.convert import from_espnet
from audiopalm.espnet.task import AudioPaLMTask
from audiopalm.lm.training import LMConfig
from audiopalm.training.record import begin, hash_data, hash_model, hash_tokens
from audiopalm.vocabulary.joint import load_vocabulary

# Options that do not change the result, and options whose inputs are recorded as hashes.
FREE = ("config", "output_dir", "num_workers", "log_interval", "log_level", "use_tensorboard", "use_wandb",
        "print_config", "dry_run", "ngpu", "resume", "train_data_dir", "train_tokens", "valid_data_dir",
        "valid_tokens", "init_lm", "vocabulary", "required")
WEIGHTS = "valid.loss.ave.pth"  # the mean of the best checkpoints


def train(options: list[str], output: Path) -> None:
    """Train with the `options` of AudioPaLMTask, then write the model to `output`, as our own engine does.

    A finished output of the same options and inputs stays as it is. Raises AudioPaLMError if they differ, and without
    --output_dir.
    """
    args = AudioPaLMTask.get_parser().parse_args(options)
    if args.output_dir is None:
        raise AudioPaLMError("--output_dir names the folder of ESPnet's Trainer; give it")
    with locked(output, "training"):
        if begin(output, "model.safetensors", made_from(args)):
            AudioPaLMTask.main(cmd=options)
            from_espnet(Path(args.output_dir) / WEIGHTS, output)


def made_from(args: argparse.Namespace) -> Mapping[str, Any]:
    """The options that change the result, and hashes of the inputs."""
    options = {name: value for name, value in vars(args).items() if name not in FREE}
    if isinstance(args.mixture, str):  # the contents of the file, which may change
        options["mixture"] = to_dict(load_config(LMConfig, args.mixture))["mixture"]
    options["init_param"] = [f"{value} {sha256(value.partition(':')[0])}" for value in args.init_param]
    return {"trainer": "espnet", "options": json.loads(json.dumps(options, default=str)),
            "vocabulary": load_vocabulary(args.vocabulary)[0].layout_hash, "init_lm": hash_model(args.init_lm),
            "train": {"data": hash_data(args.train_data_dir), "tokens": hash_tokens(args.train_tokens)},
            "dev": {"data": hash_data(args.valid_data_dir), "tokens": hash_tokens(args.valid_tokens)}}
