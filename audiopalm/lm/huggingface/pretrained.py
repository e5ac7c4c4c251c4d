"""Language models in Hugging Face's layout, read into a Decoder and written."""

from dataclasses import fields, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from audiopalm.core.config import from_dict
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import read_object, write_json
from audiopalm.core.tensors import Stored
from audiopalm.core.weights import damaged, stored_weights, write_weights
from audiopalm.lm.huggingface.family import Unsupported, expect
from audiopalm.lm.huggingface.registry import ADAPTERS, get_adapter
from audiopalm.lm.model import Decoder, ModelConfig

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
SHARD_BYTES = 5_000_000_000


def read_config(directory: Path) -> ModelConfig:
    """config.json of `directory`. Raises AudioPaLMError for a family or a setting that the decoder does not support."""
    path = directory / "config.json"
    settings = read_object(path)
    family = str(settings.get("model_type"))
    try:
        expect(settings, "quantization_config", None)
        values = {**get_adapter(family, path).read(settings), "family": family}
    except Unsupported as error:
        raise AudioPaLMError(f"{path}: {error} cannot be computed here; take another model") from None
    except KeyError as error:
        raise AudioPaLMError(f"{path} does not say {error}, which a {family} model needs") from None
    except (TypeError, AttributeError, ValueError) as error:
        raise AudioPaLMError(f"{path} has a value of a wrong type: {error}") from None
    return from_dict(ModelConfig, values, str(path))


def read_eos(directory: Path) -> int:
    """The id that ends a document; the first where a model has several. Raises AudioPaLMError where there is none."""
    eos = read_object(directory / "config.json").get("eos_token_id")
    eos = eos[0] if isinstance(eos, list) and eos else eos
    if not isinstance(eos, int) or isinstance(eos, bool) or eos < 0:
        raise AudioPaLMError(f"{directory}/config.json has no eos_token_id; write there which id ends a document")
    return eos


def read_pretrained(directory: Path) -> Decoder:
    """The model of `directory` in float32. Its weights are read one by one: memory holds one copy of them."""
    config, weights = stored_pretrained(directory)
    with torch.device("meta"):
        model = Decoder(config)
    model.load_state_dict({name: weight.whole() for name, weight in weights.items()}, assign=True)
    return model


def stored_pretrained(directory: Path) -> tuple[ModelConfig, dict[str, Stored]]:
    """Configuration and weights of `directory`. Each weight is read in float32 when it is needed.

    Raises AudioPaLMError for a model that the decoder cannot compute, and for weights that are missing, additional or
    wrongly shaped. Reading a weight raises it for numbers that are not finite.
    """
    config, files = read_config(directory), _weight_files(directory)
    adapter = ADAPTERS[config.family]
    with torch.device("meta"):
        shapes = {name: tuple(value.shape) for name, value in Decoder(config).state_dict().items()}
    our_names = {adapter.family_name(name): name for name in shapes}
    if missing := sorted(our_names.keys() - files.keys()):
        raise AudioPaLMError(f"{directory} lacks {len(missing)} weights of a {config.family} model, e.g. {missing[0]}")
    unknown = sorted(name for name in files.keys() - our_names.keys()
                     if not name.endswith("rotary_emb.inv_freq") and not (config.tied and name == "lm_head.weight"))
    if unknown:
        raise AudioPaLMError(f"{directory} has {len(unknown)} weights that its config.json does not speak of, "
                             f"e.g. {unknown[0]}")
    weights = {}
    for file in sorted(set(files.values())):
        for family_name, weight in stored_weights(file).items():
            if (name := our_names.get(family_name)) is None:
                continue
            if weight.shape != shapes[name]:
                raise AudioPaLMError(f"{file}: {family_name} has shape {weight.shape}, by config.json it has "
                                     f"{shapes[name]}")
            weights[name] = _converted(weight, adapter.offset(name))
    if missing := sorted(shapes.keys() - weights.keys()):
        raise AudioPaLMError(f"{directory / INDEX} names {len(missing)} weights that the files lack, e.g. "
                             f"{adapter.family_name(missing[0])}")
    return config, weights


def _converted(weight: Stored, offset: float) -> Stored:
    return Stored(weight.shape, torch.float32,
                  lambda first, last: weight.rows(first, last).to(torch.float32, copy=True).add_(offset))


def _weight_files(directory: Path) -> dict[str, Path]:
    """{name of a weight: the file that holds it}"""
    if (directory / INDEX).exists():
        files = read_object(directory / INDEX, keys={"weight_map": dict})["weight_map"]
        for file in files.values():
            if not isinstance(file, str) or Path(file).name != file:
                raise AudioPaLMError(f"{directory / INDEX} names {file!r}, which is no file beside it")
        return {name: directory / file for name, file in files.items()}
    if not (directory / WEIGHTS).exists():
        raise AudioPaLMError(f"{directory} has neither {WEIGHTS} nor {INDEX}; weights in other formats are not read")
    try:
        with safe_open(directory / WEIGHTS, framework="pt") as stream:
            return dict.fromkeys(stream.keys(), directory / WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise damaged(directory / WEIGHTS, error) from None


def write_pretrained(model: Decoder, directory: Path, eos: int, shard_bytes: int = SHARD_BYTES) -> None:
    """Write config.json, generation_config.json and the weights in float32 to `directory`.

    Weights of more than `shard_bytes` bytes become several files. Raises AudioPaLMError for a model that its family
    cannot express, such as a model with parallel blocks.
    """
    config, state = _as_family(model)
    adapter = ADAPTERS[config.family]
    ends = {"bos_token_id": eos, "eos_token_id": eos, "pad_token_id": eos}  # see vocabulary/export.py
    write_json(directory / "generation_config.json", {"do_sample": False, **ends})
    write_json(directory / "config.json", {
        "architectures": [adapter.architecture], "model_type": config.family, "torch_dtype": "float32",
        "use_cache": True, **ends, **adapter.write(config)})
    shards: list[dict[str, Tensor]] = [{}]
    free_bytes = shard_bytes
    for name, value in state.items():
        if value.nbytes > free_bytes and shards[-1]:
            shards.append({})
            free_bytes = shard_bytes
        shards[-1][adapter.family_name(name)] = value - adapter.offset(name)
        free_bytes -= value.nbytes
    names = [WEIGHTS] if len(shards) == 1 else [f"model-{number:05d}-of-{len(shards):05d}.safetensors"
                                                for number in range(1, len(shards) + 1)]
    for name, shard in zip(names, shards, strict=True):
        write_weights(directory / name, shard, {"format": "pt"})  # transformers 4 demands this entry
    if len(shards) > 1:
        write_json(directory / INDEX, {
            "metadata": {"total_size": sum(value.nbytes for value in state.values())},
            "weight_map": {weight: name for name, shard in zip(names, shards, strict=True) for weight in shard}})


def _as_family(model: Decoder) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Configuration and weights of an equal model that the config.json of its family can describe."""
    config, state = replace(model.config, dropout=0.0), model.state_dict()
    readable = _written_and_read(config)
    if config.scale_embedding and not readable.scale_embedding:
        # Our inputs are embeddings times sqrt(dim), and the family has no such factor. The embeddings are therefore
        # multiplied by it, and the softmax, which shared them, gets a copy of the original.
        state["head.weight"] = model.head_weight
        state["embedding.weight"] = model.embedding.weight * config.dim ** 0.5
        config = replace(config, scale_embedding=False, tied=False)
        readable = _written_and_read(config)
    lost = [f"{field.name}={getattr(config, field.name)!r}" for field in fields(ModelConfig)
            if getattr(config, field.name) != getattr(readable, field.name)]
    if lost:
        raise AudioPaLMError(f"models of the family {config.family} have no {', '.join(lost)}: this model cannot be "
                             "exported")
    return config, {name: value.detach().float() for name, value in state.items()}


def _written_and_read(config: ModelConfig) -> ModelConfig:
    adapter = ADAPTERS[config.family]
    return ModelConfig(**adapter.read(adapter.write(config)), family=config.family)
