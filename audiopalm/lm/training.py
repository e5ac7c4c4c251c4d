"""Training of the language model: text-only pretraining (stage 7) and joint finetuning (stage 8)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from audiopalm.core.config import chosen, ranged, to_dict
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.optional import load_peft
from audiopalm.data.example_set import ExampleSet
from audiopalm.lm.initial import InitialModel, joint_lm, text_lm
from audiopalm.lm.lora import AdapterConfig, adapted, frozen_weights, merged
from audiopalm.lm.mixture import Mixture, MixtureEntry, trained_tasks
from audiopalm.lm.model import ArchitectureConfig, Decoder, ModelConfig
from audiopalm.lm.packed_sizes import Sizes, count_sizes
from audiopalm.lm.packing import PackedBatch
from audiopalm.lm.sequences import SequenceBuilder
from audiopalm.lm.show import show_batch
from audiopalm.lm.storage import INITIALISATIONS, save_model
from audiopalm.training.batches import load_ahead
from audiopalm.training.config import TrainingConfig, free
from audiopalm.training.loop import Loss, Run, Training, Weights, run_training
from audiopalm.training.optimizer import OptimizerConfig, UpdateGroup, update_group
from audiopalm.training.parallel import fill
from audiopalm.training.precision import choose_precision, peak_operations
from audiopalm.training.record import hash_model, settings_of
from audiopalm.vocabulary.joint import Vocabulary, load_vocabulary
from audiopalm.vocabulary.text import TextTokenizer


@dataclass
class BatchConfig:
    """A micro-batch of one process: `rows` packed rows of `row_length` tokens."""

    rows: int = ranged(8, low=1)
    row_length: int = ranged(512, low=2)
    validation_sequences: int = ranged(64, low=1)  # of the dev set, for each task


@dataclass
class LMConfig:
    """conf/textlm.yaml and conf/lm.yaml."""

    mixture: list[MixtureEntry]
    batch: BatchConfig = field(default_factory=BatchConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    model: ArchitectureConfig = field(default_factory=ArchitectureConfig)
    dropout: float = ranged(0.0, low=0, high=0.99)
    # Only so many hours of the recordings that the mixture reads, drawn by the seed; texts are not limited. None: all.
    speech_hours: float | None = ranged(None, above=0)
    audio_rows: str = chosen("zero", INITIALISATIONS)  # initialisation of new rows; the paper: zero
    recompute: bool = free(False)  # a third more computation, but activations of one block at a time in memory
    compile: bool = free(False)  # torch.compile of every block: fewer and larger kernels on a GPU; takes minutes
    lora: AdapterConfig | None = None  # train adapters and audio rows; the paper and the default: all weights

    def __post_init__(self) -> None:
        if self.lora is not None and self.optimizer.name == "muon":
            raise AudioPaLMError("lora: optimizer.name muon makes updates of whole matrices orthogonal, an adapter is "
                                 "two thin matrices; give adamw or adafactor")


@dataclass(frozen=True)
class LMData:
    """The inputs of a training: the vocabulary, the training set `examples`, the dev set, and the initial LM."""

    vocabulary: Vocabulary
    tokenizer: TextTokenizer
    examples: ExampleSet
    dev: ExampleSet
    init_lm: str | Path | None = None

    def __post_init__(self) -> None:
        for examples in (self.examples, self.dev):
            if examples.meta:
                self.vocabulary.check_units(examples.meta["units_sha256"], str(examples.tokens or examples.data_dir))

    def mixture(self, config: LMConfig, examples: ExampleSet, seed: int) -> Mixture:
        """The task mixture over `examples`, the training set or the dev set."""
        builder = SequenceBuilder(self.vocabulary, self.tokenizer)
        hours = config.speech_hours if examples is self.examples else None
        return Mixture(config.mixture, examples, builder, config.batch.row_length, config.batch.rows, seed, hours)

    def made_from(self) -> dict[str, Any]:
        """Hashes of all inputs that change the result."""
        return {"vocabulary": self.vocabulary.layout_hash, "init_lm": hash_model(self.init_lm),
                "train": self.examples.hashes(), "dev": self.dev.hashes()}


@dataclass(frozen=True)
class LMInputs:
    """The folders that a training reads, as `ExampleSet` describes them. The fields are the options of its command.

    Raises AudioPaLMError unless each of `distorted_data_dir` has its folder in `distorted_tokens`.
    """

    vocabulary: str | Path
    data_dir: str | Path
    dev_data_dir: str | Path
    tokens: str | Path | None = None
    dev_tokens: str | Path | None = None
    text_dir: str | Path | None = None
    dev_text_dir: str | Path | None = None
    distorted_data_dir: Sequence[str] = ()
    distorted_tokens: Sequence[str] = ()
    init_lm: str | None = None

    def __post_init__(self) -> None:
        if len(self.distorted_data_dir) != len(self.distorted_tokens):
            raise AudioPaLMError("--distorted_tokens must name as many folders as --distorted_data_dir")


def read_data(inputs: LMInputs) -> LMData:
    """Read the inputs of a training. Raises AudioPaLMError as `ExampleSet` does, and for a vocabulary of other units.
    """
    distorted = tuple(zip(inputs.distorted_data_dir, inputs.distorted_tokens, strict=True))
    return LMData(*load_vocabulary(inputs.vocabulary),
                  ExampleSet(inputs.data_dir, inputs.tokens, inputs.text_dir, distorted, saved=True),
                  ExampleSet(inputs.dev_data_dir, inputs.dev_tokens, inputs.dev_text_dir, saved=True), inputs.init_lm)


def train(config: LMConfig, data: LMData, output: Path, seed: int) -> None:
    """Train, and write config.json, model.safetensors and log.jsonl to `output`. Resumes from a checkpoint there.

    Raises AudioPaLMError for adapters without an initial LM, and if `output` was made with other settings.
    """
    if config.lora is not None:
        load_peft()
        if data.init_lm is None:
            raise AudioPaLMError("lora: adapters need an LM that is trained already; give --init_lm, or leave "
                                 "`lora` out")
    made_from = {"config": settings_of(config), "seed": seed, **data.made_from()}
    run = Run(output, "model.safetensors", seed, config.training, made_from)
    run_training(run, lambda fabric: LMTraining(config, data, output, seed, fabric))


def first_batch(config: LMConfig, data: LMData, seed: int) -> str:
    """The first batch of a training as text."""
    return show_batch(next(data.mixture(config, data.examples, seed).batches()), data.vocabulary, data.tokenizer)


def initial_model(config: LMConfig, vocabulary: Vocabulary, init_lm: str | Path | None) -> InitialModel:
    """A text LM with random weights, or the LM of `init_lm` with audio rows."""
    if init_lm is None:
        return text_lm(ModelConfig(vocabulary.text_size, **to_dict(config.model), dropout=config.dropout))
    return joint_lm(init_lm, vocabulary, config.dropout, config.audio_rows)


class LMTraining(Training):
    """The decoder on a task mixture. All output tokens of a step have the same weight."""

    shardable = True

    def __init__(self, config: LMConfig, data: LMData, output: Path, seed: int, fabric: Fabric):
        self.config, self.data, self.output, self.seed, self.fabric = config, data, output, seed, fabric
        self.base = self.initial = initial_model(config, data.vocabulary, data.init_lm)
        if config.lora is not None:
            self.initial = adapted(self.base, config.lora, data.vocabulary.text_size)
            self.frozen = {"model": frozen_weights(self.initial.model)}
        self.model = self.initial.model
        self.model.recompute = config.recompute
        if config.compile:
            self.model.compile_blocks()
        self.modules = {"model": self.model}
        self.mixture = data.mixture(config, data.examples, seed)
        self.validation = data.mixture(config, data.dev, seed).validation(config.batch.validation_sequences)
        self.speed = Speed(self.model, fabric.device, choose_precision(config.training.precision, output))

    def fill(self) -> None:
        fill(self.model, self.initial.weights)

    def update_groups(self) -> dict[str, UpdateGroup]:
        return {"model": update_group(self.model, self.config.optimizer, self.config.training.steps,
                                      clip_apart=("embedding",))}

    def batches(self, numbers: range, state: Mapping[str, Any]) -> Iterator[PackedBatch]:
        self.mixture.prepare()
        return load_ahead(self.mixture.batch, numbers, self.config.training.workers)

    def step(self, batch: PackedBatch, step: int) -> Iterator[Loss]:
        loss, count = self.model(*self._inputs(batch))
        yield Loss(loss, count, counts={"tokens": batch.tokens, "outputs": count})

    def _inputs(self, batch: PackedBatch) -> tuple[torch.Tensor | Sizes, ...]:
        """The arguments of `Decoder.forward`: tensors on the device, and sizes counted on the host."""
        tensors = self.fabric.to_device((batch.ids, batch.segments, batch.positions, batch.targets))
        return *tensors, count_sizes(batch.segments, batch.targets)

    def evaluate(self) -> dict[str, float]:
        """Mean loss per output token in nats, by task. Tasks without dev sequences are missing."""
        losses = {}
        for name, group in self.validation.items():
            sums = [self.model(*self._inputs(batch)) for batch in group]
            losses[name] = float(sum(loss for loss, _ in sums)) / sum(count for _, count in sums)
        return losses

    def utterances(self, batch: PackedBatch) -> list[str]:
        return batch.utterances

    def measure(self, counts: Mapping[str, float], seconds: float) -> dict[str, float]:
        tokens, outputs = (counts[name] / self.fabric.world_size for name in ("tokens", "outputs"))
        return {"tokens_per_second": round(counts["tokens"] / seconds),
                "matmul_share": round(self.speed.share(tokens, outputs, seconds), 3)}

    def finish(self, weights: Weights) -> None:
        final = weights["model"]
        if self.config.lora is not None:
            final = merged(self.base.weights, final, self.config.lora)
        save_model(self.output, self.model.config, final, self.data.vocabulary.layout_hash, self.seed,
                   trained_tasks(self.mixture.drawn_cells))


class Speed:
    """The fraction of a device's peak matrix operations that a training performs (model FLOPs utilisation)."""

    def __init__(self, model: Decoder, device: torch.device, precision: str):
        self.head = self.rest = 0  # operations per output and per token
        for name, parameter in model.named_parameters():
            operations = (6 if parameter.requires_grad else 4) * parameter.numel()
            if name.startswith("embedding." if model.config.tied else "head."):
                self.head += operations
            elif not name.startswith("embedding."):
                self.rest += operations
        self.dtype, self.device = torch.bfloat16 if "bf16" in precision else torch.float32, device
        self.peak: float | None = None

    def share(self, tokens: float, outputs: float, seconds: float) -> float:
        """The fraction for `tokens` tokens, including `outputs` tokens with logits, in `seconds` seconds.

        A token costs 6 operations per weight, and 4 per frozen weight. Attention, padding and the optimizer are not
        counted.
        """
        if self.peak is None:
            self.peak = peak_operations(self.dtype, self.device)
        return (self.rest * tokens + self.head * outputs) / seconds / self.peak
