"""Language models in Hugging Face's layout: found, read into a Decoder, and written."""

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
    """config.json of `directory`; raises AudioPaLMError for a family or a setting that the decoder does not know."""
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
    """The id that ends a document; the first of them where a model has several."""
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
    model.load_state_dict({name: one.whole() for name, one in weights.items()}, assign=True)
    return model


def stored_pretrained(directory: Path) -> tuple[ModelConfig, dict[str, Stored]]:
    """Configuration and weights of `directory`, each weight to be read in float32 when it is needed.

    Raises AudioPaLMError for a model that cannot be computed here, and for weights that are missing, additional,
    wrongly shaped or, when they are read, no finite numbers.
    """
    config, files = read_config(directory), _weight_files(directory)
    adapter = ADAPTERS[config.family]
    with torch.device("meta"):
        shapes = {name: tuple(value.shape) for name, value in Decoder(config).state_dict().items()}
    here = {adapter.there(name): name for name in shapes}
    if missing := sorted(here.keys() - files.keys()):
        raise AudioPaLMError(f"{directory} lacks {len(missing)} weights of a {config.family} model, e.g. {missing[0]}")
    unknown = sorted(name for name in files.keys() - here.keys()
                     if not name.endswith("rotary_emb.inv_freq") and not (config.tied and name == "lm_head.weight"))
    if unknown:
        raise AudioPaLMError(f"{directory} has {len(unknown)} weights that its config.json does not speak of, "
                             f"e.g. {unknown[0]}")
    found = {}
    for file in sorted(set(files.values())):
        for there, one in stored_weights(file).items():
            if (name := here.get(there)) is None:
                continue
            if one.shape != shapes[name]:
                raise AudioPaLMError(f"{file}: {there} has shape {one.shape}, by config.json it has {shapes[name]}")
            found[name] = _converted(one, adapter.offset(name))
    if missing := sorted(shapes.keys() - found.keys()):
        raise AudioPaLMError(f"{directory / INDEX} names {len(missing)} weights that the files lack, e.g. "
                             f"{adapter.there(missing[0])}")
    return config, found


def _converted(one: Stored, offset: float) -> Stored:
    return Stored(one.shape, torch.float32,
                  lambda first, last: one.rows(first, last).to(torch.float32, copy=True).add_(offset))


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
    """config.json, generation_config.json and the weights in float32, in several files where they are large.

    Raises AudioPaLMError for a model that its family cannot express, such as one of parallel blocks.
    """
    config, state = _as_family(model)
    adapter = ADAPTERS[config.family]
    ends = {"bos_token_id": eos, "eos_token_id": eos, "pad_token_id": eos}  # see vocabulary/export.py
    write_json(directory / "generation_config.json", {"do_sample": False, **ends})
    write_json(directory / "config.json", {
        "architectures": [adapter.architecture], "model_type": config.family, "torch_dtype": "float32",
        "use_cache": True, **ends, **adapter.write(config)})
    shards: list[dict[str, Tensor]] = [{}]
    room = shard_bytes
    for name, value in state.items():
        if value.nbytes > room and shards[-1]:
            shards.append({})
            room = shard_bytes
        shards[-1][adapter.there(name)] = value - adapter.offset(name)
        room -= value.nbytes
    names = [WEIGHTS] if len(shards) == 1 else [f"model-{number:05d}-of-{len(shards):05d}.safetensors"
                                                for number in range(1, len(shards) + 1)]
    for name, shard in zip(names, shards, strict=True):
        write_weights(directory / name, shard, {"format": "pt"})  # transformers 4 reads no others
    if len(shards) > 1:
        write_json(directory / INDEX, {
            "metadata": {"total_size": sum(value.nbytes for value in state.values())},
            "weight_map": {weight: name for name, shard in zip(names, shards, strict=True) for weight in shard}})


def _as_family(model: Decoder) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Configuration and weights of an equal model that the config.json of its family can describe."""
    config, state = replace(model.config, dropout=0.0), model.state_dict()
    held = _written_and_read(config)
    if config.scale_embedding and not held.scale_embedding:
        # Inputs are embeddings times sqrt(dim): the family has no such factor, so the embeddings get it, and the
        # softmax, which shared them, keeps them as they were.
        state["head.weight"] = model.head_weight
        state["embedding.weight"] = model.embedding.weight * config.dim ** 0.5
        config = replace(config, scale_embedding=False, tied=False)
        held = _written_and_read(config)
    lost = [f"{field.name}={getattr(config, field.name)!r}" for field in fields(ModelConfig)
            if getattr(config, field.name) != getattr(held, field.name)]
    if lost:
        raise AudioPaLMError(f"models of the family {config.family} have no {', '.join(lost)}: this model cannot be "
                             "exported")
    return config, {name: value.detach().float() for name, value in state.items()}


def _written_and_read(config: ModelConfig) -> ModelConfig:
    adapter = ADAPTERS[config.family]
    return ModelConfig(**adapter.read(adapter.write(config)), family=config.family)
