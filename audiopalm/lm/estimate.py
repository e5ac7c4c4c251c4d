"""Estimates of what a finetuning needs, by formula: memory of a device, operations, hours. Nothing is run."""

from dataclasses import dataclass

import torch

from audiopalm.core.errors import AudioPaLMError
from audiopalm.lm.model import MAX_LOGITS, Decoder, ModelConfig
from audiopalm.lm.training import LMConfig

GIB = 2 ** 30
TOTAL = "Total"  # the name that torch's memory trackers give to the sum over all kinds of tensors


@dataclass(frozen=True)
class Device:
    """The devices of a training.

    number: how many devices. peak: operations per second of one device in the precision of the training; the default is
    NVIDIA's figure for bfloat16 on an H100, without sparsity. share: the fraction of `peak` that the training reaches;
    the default is a guess.
    """

    number: int = 1
    peak: float = 989e12
    share: float = 0.35


@dataclass(frozen=True)
class Estimate:
    """What a training needs.

    weights to gathered: bytes on one device. operations: of the whole training. device_hours: the hours of one device,
    or the sum over all devices.
    """

    parameters: int
    tokens_per_step: int
    tokens: int
    weights: float
    gradients: float
    optimizer: float
    activations: float
    logits: float
    gathered: float
    operations: float
    device_hours: float

    @property
    def memory(self) -> float:
        return (self.weights + self.gradients + self.optimizer + self.activations + self.logits + self.gathered)


def estimate(shape: ModelConfig, config: LMConfig, device: Device, output_share: float = 1.0) -> Estimate:
    """The estimate for a model of `shape`, audio ids included.

    Rows count as full, and the fraction `output_share` of their tokens as outputs. Weights, gradients and moments are
    float32, as in bf16-mixed. Each token costs 6 operations per weight (8 in blocks that are recomputed). Attention
    itself and the optimizer's steps are not counted. Raises AudioPaLMError for a training of adapters.
    """
    if config.lora is not None:
        raise AudioPaLMError("lora: the estimate is of trainings of all weights; leave `lora` out")
    training = config.training
    bf16 = training.precision != "32-true"
    with torch.device("meta"):
        model = Decoder(shape)
    sizes = {name: parameter.shape for name, parameter in model.named_parameters()}
    parameters = sum(size.numel() for size in sizes.values())
    embedding = shape.vocabulary_size * shape.dim
    blocks = parameters - embedding * (1 if shape.tied else 2)
    sharing = device.number if training.strategy == "fsdp" else 1
    row_tokens = config.batch.rows * config.batch.row_length
    per_block = activation_bytes(shape, bf16)
    copies = 2 * blocks if bf16 else 0  # bfloat16 copies of the weights, for products and their gradients
    if config.recompute:
        activations = (row_tokens * (4 * shape.dim * shape.layers + per_block)
                       + copies / (shape.layers if sharing > 1 else 1))
    else:
        activations = row_tokens * per_block * shape.layers + copies
    outputs = min(row_tokens * output_share, max(MAX_LOGITS // shape.vocabulary_size, 1))
    # FSDP2 gathers the block that computes and the next one, and the embedding and softmax together with gradients.
    gathered = 8 * blocks / shape.layers + 8 * (parameters - blocks) if sharing > 1 else 0.0
    tokens_per_step = row_tokens * training.micro_batches
    tokens = tokens_per_step * training.steps
    operations = tokens * ((8 if config.recompute else 6) * blocks + 6 * embedding * output_share)
    return Estimate(
        parameters, tokens_per_step, tokens, weights=4 * parameters / sharing, gradients=4 * parameters / sharing,
        optimizer=optimizer_bytes(config.optimizer.name, sizes) / sharing, activations=activations,
        logits=outputs * shape.vocabulary_size * 4 * 3,  # the logits, their softmax, its gradient
        gathered=gathered, operations=operations, device_hours=operations / (device.peak * device.share) / 3600)


def activation_bytes(shape: ModelConfig, bf16: bool) -> int:
    """The bytes that one token stores in one block for the gradient, counted from audiopalm/lm/model.py.

    The attention kernel stores no scores.
    """
    heads, hidden = shape.heads * shape.head_dim, shape.hidden_dim
    if bf16:  # the residual stream and its norms are float32
        return 16 * shape.dim + 2 * (7 * shape.dim + 4 * heads + 4 * hidden)
    return 4 * (8 * shape.dim + 4 * heads + 4 * hidden)


def optimizer_bytes(name: str, sizes: dict[str, torch.Size]) -> int:
    """The bytes of the optimizer's state, for the shapes `sizes` of the parameters by name.

    AdamW stores two moments, Muon one for a matrix, Adafactor one row and one column for a matrix.
    """
    if name == "adafactor":
        return sum(4 * (size[0] + size[1]) if len(size) == 2 else 4 * size.numel() for size in sizes.values())
    muon = {key for key, size in sizes.items() if name == "muon" and len(size) == 2 and key.startswith("blocks.")}
    return sum((4 if key in muon else 8) * size.numel() for key, size in sizes.items())


def table(needs: Estimate, devices: int, tracked: dict[str, int] | None = None) -> str:
    """The estimate for `devices` devices as lines of text, then the result of `audiopalm.lm.tracking.track`."""
    memory = [(name, getattr(needs, name)) for name in
              ("weights", "gradients", "optimizer", "activations", "logits", "gathered", "memory")]
    lines = [f"{needs.parameters / 1e6:.0f} M parameters, {needs.tokens_per_step} tokens a step, "
             f"{needs.tokens / 1e9:.2f} G tokens"]
    lines += [f"{name:12s} {value / GIB:8.2f} GiB{' in all, of one device' if name == 'memory' else ''}"
              for name, value in memory]
    lines.append(f"{needs.operations:.2e} operations: {needs.device_hours:.0f} device hours, "
                 f"{needs.device_hours / devices:.0f} h on {devices} (estimates)")
    if tracked:
        kinds = ", ".join(f"{kind} {number / GIB:.2f}" for kind, number in tracked.items() if number and kind != TOTAL)
        lines.append(f"{'tracked':12s} {tracked[TOTAL] / GIB:8.2f} GiB at the peak of a step, of one device: {kinds}")
    return "\n".join(lines)
