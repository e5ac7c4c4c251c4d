"""The section `training:` of every configuration: the settings that all trainings share."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from audiopalm.core.config import chosen, ranged
from audiopalm.training.parallel import STRATEGIES
from audiopalm.training.precision import PRECISIONS

KEEP = ("best", "last")


def free(default: Any, **limits: float) -> Any:
    """A field that does not change what is learned: a resumed run may have another value."""
    return field(default=default, metadata={**limits, "free": True})


@dataclass
class TrainingConfig:
    """The length of a training, its precision and processes, its validation, its checkpoints and its log.

    A step consists of `micro_batches` micro-batches, which the processes share evenly: what is learned does not depend
    on the number of processes.

    The best checkpoint is the one with the lowest mean loss on the dev set. Without a dev set, the last checkpoint
    becomes the model.
    """

    # {key that an earlier version had in this section: the key that replaces it}
    RENAMED: ClassVar[dict[str, str]] = {
        "rows": "batch.rows", "row_length": "batch.row_length", "validation_sequences": "batch.validation_sequences",
        "voices": "batch.voices", "targets": "batch.targets", "prompt_seconds": "batch.prompt_seconds",
        "target_seconds": "batch.target_seconds", "language_weights": "batch.language_weights",
        "dev_batch": "batch.dev_rows", "dev_every": "training.validate_every",
        "checkpoint_every": "training.save_every", "optimizer": "optimizer.name",
        "learning_rate": "optimizer.learning_rate", "warmup": "optimizer.warmup_steps",
        "weight_decay": "optimizer.weight_decay", "clip": "optimizer.clip", "recompute": "recompute, beside training",
        "level_bias": "masking.level_bias", "whole_share": "masking.whole_share", "cut_share": "masking.cut_share",
        "own_share": "own_share, beside training",
        "accumulate": "training.micro_batches, those of all processes together"}

    steps: int = ranged(1000, low=1)
    micro_batches: int = ranged(1, low=1)  # in a step, in all processes together
    precision: str = chosen("32-true", PRECISIONS)  # or bf16-mixed, or auto: the faster of the two
    strategy: str = chosen("ddp", STRATEGIES)  # of several processes; fsdp for models that one device cannot hold
    validate_every: int = ranged(200, low=1)
    keep: str = chosen("best", KEEP)  # the checkpoint that becomes the model: best or last
    patience: int = ranged(0, low=0)  # training ends after so many validations without a lower dev loss; 0: never
    save_every: int = free(200, low=1)
    log_every: int = free(20, low=1)
    workers: int = free(0, low=0)  # processes that prepare batches; 0: a thread of this process
    wandb_project: str = free("")  # the project of Weights & Biases that gets the numbers of log.jsonl
