"""The language model as a task of ESPnet: its options, its data and the model that ESPnet's Trainer trains.

Everything else (optimizers, epochs, checkpoints, config.yaml, --print_config, --dry_run, ...) comes from
espnet2.tasks.abs_task.
"""

import argparse
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml

from audiopalm.core.config import from_dict, load_config, to_dict
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import require
from audiopalm.data.datadir import read_table
from audiopalm.data.example_set import ExampleSet
from audiopalm.espnet.data import (
    LANGUAGE,
    MixtureIterFactory,
    TaskPreprocessor,
    ValidationIterFactory,
    collate_sequences,
)
from audiopalm.espnet.imports import ESPNET, AbsIterFactory, AbsTask, NestedDictAction, str_or_none
from audiopalm.espnet.model import ESPnetAudioPaLMModel
from audiopalm.lm.initial import joint_lm
from audiopalm.lm.mixture import Mixture, MixtureEntry, expand, trained_tasks
from audiopalm.lm.model import Decoder, ModelConfig
from audiopalm.lm.sequences import SequenceBuilder
from audiopalm.lm.storage import INITIALISATIONS
from audiopalm.lm.trained import TrainedTask, trained_to_json
from audiopalm.lm.training import LMConfig
from audiopalm.tasks import AUDIO_FIELDS, TRANSCRIPT, TRANSLATION, get_task
from audiopalm.vocabulary.joint import Vocabulary, load_vocabulary


class AudioPaLMTask(AbsTask):
    """The data are our mixture of tasks (`--iterator_type task`), or those of ESPnet's readers and samplers, for one
    task.

    The `args` of all methods have the options below and those of ESPnet.
    """

    @classmethod
    def add_task_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Add the options of the task to ESPnet's."""
        group = parser.add_argument_group("AudioPaLM: the model")
        group.add_argument("--vocabulary", type=str_or_none, help="directory of stage 6")
        group.add_argument("--vocabulary_hash", type=str_or_none, help="stands in config.yaml and is compared")
        group.add_argument("--init_lm", type=str_or_none, help="LM of stage 7 to start from; else from nothing")
        group.add_argument("--audio_rows", choices=INITIALISATIONS, default="zero", help="how new rows start")
        group.add_argument("--decoder_conf", action=NestedDictAction, default={},
                           help="keys of ModelConfig in audiopalm/lm/model.py; with --init_lm only dropout")
        group = parser.add_argument_group("AudioPaLM: a mixture of tasks")
        group.add_argument("--mixture", type=yaml.safe_load, help="list of {task: ...}, or conf/lm.yaml, which has one")
        for name in ("train", "valid"):
            group.add_argument(f"--{name}_data_dir", type=str_or_none, help="data directory of stage 2")
            group.add_argument(f"--{name}_tokens", type=str_or_none, help="its tokens of stage 5; none for text only")
        group.add_argument("--row_length", type=int, default=512, help="tokens of a row; --batch_size is rows")
        group.add_argument("--validation_sequences", type=int, default=64, help="for each task")
        group = parser.add_argument_group("AudioPaLM: one task by ESPnet's readers")
        group.add_argument("--task", type=str_or_none, help="a name of audiopalm/tasks.py, for example asr")
        group.add_argument("--target_language", type=str_or_none, help="code of the translation's language")
        parser.set_defaults(
            required=[*parser.get_default("required"), "vocabulary"], iterator_type="task", optim="adamw", resume=True,
            best_model_criterion=[("valid", "loss", "min")],
            num_att_plot=0,  # the fused attention does not return its weights
        )

    @classmethod
    def build_model(cls, args: argparse.Namespace) -> ESPnetAudioPaLMModel:
        """The model that a training starts from. Afterwards `args`, which become config.yaml, describe it completely.

        Raises AudioPaLMError for another vocabulary, and for a decoder_conf that --init_lm contradicts.
        """
        vocabulary, _ = load_vocabulary(args.vocabulary)
        _check_vocabulary(args, vocabulary)
        _check_averages(args)
        if isinstance(args.mixture, str):
            args.mixture = to_dict(load_config(LMConfig, args.mixture))["mixture"]
        if args.init_lm is None:
            decoder = Decoder(from_dict(ModelConfig, {**args.decoder_conf, "vocabulary_size": vocabulary.size},
                                        "decoder_conf"))
        else:
            decoder = joint_lm(args.init_lm, vocabulary, args.decoder_conf.get("dropout", 0.0), args.audio_rows).make()
            shape = to_dict(decoder.config)
            if from_dict(ModelConfig, {**shape, **args.decoder_conf}, "decoder_conf") != decoder.config:
                raise AudioPaLMError(f"decoder_conf is not that of --init_lm {args.init_lm}; with --init_lm only its "
                                     "dropout can be changed")
        args.decoder_conf, args.vocabulary_hash = to_dict(decoder.config), vocabulary.layout_hash
        args.trained = _trained(args)
        return ESPnetAudioPaLMModel(decoder)

    @classmethod
    def build_model_from_file(cls, config_file: str | Path | None = None, model_file: str | Path | None = None,
                              device: str = "cpu") -> tuple[ESPnetAudioPaLMModel, argparse.Namespace]:
        """The model of a checkpoint and the contents of its config.yaml, by default the file beside the checkpoint.

        No other file is needed. Raises AudioPaLMError if the two do not fit. (AbsTask would load the matching weights
        and ignore the others.)
        """
        if config_file is None:
            if model_file is None:
                raise AudioPaLMError("a model needs its config.yaml or its weights; give one of them")
            config_file = Path(model_file).parent / "config.yaml"
        config_file = require(config_file)
        args = argparse.Namespace(**yaml.safe_load(config_file.read_text(encoding="utf-8")))
        model = ESPnetAudioPaLMModel(Decoder(from_dict(ModelConfig, args.decoder_conf, f"{config_file}: decoder_conf")))
        if model_file is not None:
            try:
                model.load_state_dict(torch.load(require(model_file), map_location="cpu", weights_only=True))
            except pickle.UnpicklingError:
                raise AudioPaLMError(f"{model_file} is not a file of weights, like latest.pth") from None
            except RuntimeError as error:
                line = " ".join(str(error).split())
                raise AudioPaLMError(f"{model_file} does not fit {config_file}: {line}") from None
        return model.to(device), args

    @classmethod
    def build_task_iter_factory(cls, args: argparse.Namespace, iter_options: Any, mode: str) -> AbsIterFactory:
        """The batches of a mode, `train` or `valid`, from the mixture. Raises AudioPaLMError for missing options."""
        if mode == "train":
            if args.num_iters_per_epoch is None:
                raise AudioPaLMError("a mixture has no end: --num_iters_per_epoch says how many batches an epoch has")
            distributed = iter_options.distributed
            rank = torch.distributed.get_rank() if distributed else 0
            world_size = torch.distributed.get_world_size() if distributed else 1
            mixture = _mixture(args, args.train_data_dir, args.train_tokens, args.batch_size)
            return MixtureIterFactory(mixture, args.num_iters_per_epoch, args.num_workers, rank, world_size)
        if mode == "valid":
            mixture = _mixture(args, args.valid_data_dir, args.valid_tokens, args.valid_batch_size or args.batch_size)
            return ValidationIterFactory(mixture.validation(args.validation_sequences))
        raise AudioPaLMError(f"there is no data to {mode}: --num_att_plot must be 0")

    @classmethod
    def build_preprocess_fn(cls, args: argparse.Namespace, train: bool) -> TaskPreprocessor | None:
        """The preprocessor of ESPnet's readers; None for the mixture."""
        if args.task is None:
            if args.train_data_path_and_name_and_type:
                raise AudioPaLMError("ESPnet's readers give the data of one task; name the task with --task")
            return None
        return TaskPreprocessor(train, _builder(args), get_task(args.task), args.target_language)

    @classmethod
    def build_collate_fn(cls, args: argparse.Namespace, train: bool) -> Callable:
        return collate_sequences

    @classmethod
    def required_data_names(cls, train: bool = True, inference: bool = False) -> tuple[str, ...]:
        return (LANGUAGE,)

    @classmethod
    def optional_data_names(cls, train: bool = True, inference: bool = False) -> tuple[str, ...]:
        return (*AUDIO_FIELDS, TRANSCRIPT, TRANSLATION)


def _builder(args: argparse.Namespace) -> SequenceBuilder:
    return SequenceBuilder(*load_vocabulary(args.vocabulary))


def _mixture(args: argparse.Namespace, data_dir: str | None, tokens: str | None, rows: int) -> Mixture:
    if data_dir is None:
        raise AudioPaLMError("a mixture needs --train_data_dir and --valid_data_dir")
    builder, examples = _builder(args), ExampleSet(data_dir, tokens, saved=True)
    if examples.meta:
        builder.vocabulary.check_units(examples.meta["units_sha256"], str(tokens))
    entries = [from_dict(MixtureEntry, entry, "mixture") for entry in args.mixture or []]
    return Mixture(entries, examples, builder, args.row_length, rows, args.seed)


def _trained(args: argparse.Namespace) -> list[dict]:
    """The tasks and languages of the training data, for config.yaml: of the mixture, or of --task with `utt2lang`."""
    if args.task:
        languages = {code for path, name, _ in args.train_data_path_and_name_and_type if name == LANGUAGE
                     for code in read_table(path).values()}
        return trained_to_json(TrainedTask(args.task, code, args.target_language) for code in languages)
    if not args.mixture or args.train_data_dir is None:
        return []
    examples = ExampleSet(args.train_data_dir, args.train_tokens, saved=True)
    entries = [from_dict(MixtureEntry, entry, "mixture") for entry in args.mixture]
    return trained_to_json(trained_tasks(expand(entries, examples)))


def _check_vocabulary(args: argparse.Namespace, vocabulary: Vocabulary) -> None:
    """Raise AudioPaLMError unless a given config.yaml and the run that is resumed have this vocabulary."""
    if args.vocabulary_hash is not None:
        vocabulary.check(args.vocabulary_hash, "the configuration")
    earlier = Path(args.output_dir) / "config.yaml"
    if args.resume and earlier.exists():
        vocabulary.check(yaml.safe_load(earlier.read_text(encoding="utf-8"))["vocabulary_hash"], str(earlier))


def _check_averages(args: argparse.Namespace) -> None:
    """Refuse several averages: ESPnet 202511 sums into the first checkpoint in place, which spoils the next average."""
    several = [name for name in ("best_model_criterion", "keep_nbest_models")
               if not isinstance(getattr(args, name), int) and len(getattr(args, name)) > 1]
    if several and ESPNET < "202611":
        raise AudioPaLMError(f"ESPnet {ESPNET} averages checkpoints wrongly with several values of --{several[0]}; "
                             "give one")
