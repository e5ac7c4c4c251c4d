"""Peak memory of a process that trains a text LM: FSDP2 in several processes (gloo) against one process.

    python benchmarks/sharding.py --processes 1 2 4

The engine trains a decoder of 202 M parameters in float32 with AdamW on random ids: initial weights, two steps of four
micro-batches, two checkpoints, the finished model. The figure is the largest resident set (VmHWM) of any process. The
runs are interleaved. The last line is one JSON object. `ratio_2` and `ratio_4` are the memory of one of 2 and of 4
processes divided by that of a single process; the goals are 0.62 and 0.40. `limit_2` and `limit_4` are these ratios if
all memory were shared evenly, except that of a process that has imported torch and the package.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from audiopalm.core.weights import write_weights
from audiopalm.lm.initial import text_lm
from audiopalm.lm.model import ModelConfig
from audiopalm.training.config import TrainingConfig
from audiopalm.training.loop import Loss, Run, Training, Weights, run_training
from audiopalm.training.optimizer import OptimizerConfig, UpdateGroup, update_group
from audiopalm.training.parallel import fill

GOALS = {2: 0.62, 4: 0.40}
SHAPE = ("vocabulary", "dim", "layers", "hidden_dim", "tokens")  # options that the processes get too
MIB = 2 ** 20


def peak() -> int:
    """The largest resident set of this process so far, in bytes."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


class RandomText(Training):
    """A decoder on random ids."""

    shardable = True

    def __init__(self, shape: ModelConfig, tokens: int, output: Path):
        self.initial, self.tokens, self.output = text_lm(shape), tokens, output
        self.modules = {"model": self.initial.model}

    def fill(self) -> None:
        fill(self.initial.model, self.initial.weights)

    def update_groups(self) -> dict[str, UpdateGroup]:
        return {"model": update_group(self.initial.model, OptimizerConfig(), 100, clip_apart=("embedding",))}

    def batches(self, numbers: range, state: Mapping[str, Any]) -> Iterator[torch.Tensor]:
        size = self.initial.model.config.vocabulary_size
        for number in numbers:
            yield torch.randint(0, size, (1, self.tokens), generator=torch.Generator().manual_seed(number))

    def step(self, batch: torch.Tensor, step: int) -> Iterator[Loss]:
        positions = torch.arange(self.tokens)[None]
        loss, count = self.initial.model(batch, torch.ones_like(batch), positions, batch.roll(-1, 1))
        yield Loss(loss, count)

    def finish(self, weights: Weights) -> None:
        write_weights(self.output / "model.safetensors", weights["model"])


def train(args: argparse.Namespace, output: Path) -> None:
    """One process of a training; its figures go into a file of its own."""
    alone = peak()
    shape = ModelConfig(args.vocabulary, dim=args.dim, layers=args.layers, heads=16, kv_heads=4,
                        hidden_dim=args.hidden_dim)
    config = TrainingConfig(steps=2, micro_batches=4, strategy="fsdp", save_every=1, log_every=1)
    run_training(Run(output, "model.safetensors", 0, config, {}),
                 lambda fabric: RandomText(shape, args.tokens, output))
    rank = os.environ.get("RANK", "0")
    (output / f"memory.{rank}.json").write_text(json.dumps({"alone": alone, "peak": peak()}))


def measure(args: argparse.Namespace, processes: int) -> tuple[float, float, list[float]]:
    """(largest peak of a process, what importing takes, losses); memory in MiB."""
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
        words = [*(launcher if processes > 1 else []), __file__, "--train", folder,
                 *(f"--{name}={getattr(args, name)}" for name in SHAPE)]
        done = subprocess.run([sys.executable, *words], env={**os.environ, "OMP_NUM_THREADS": "1"}, text=True,
                              stderr=subprocess.PIPE)
        if done.returncode:
            sys.exit(done.stderr)
        found = [json.loads(path.read_text()) for path in Path(folder).glob("memory.*.json")]
        losses = [json.loads(line)["loss"] for line in (Path(folder) / "log.jsonl").read_text().splitlines()]
    return max(one["peak"] for one in found) / MIB, max(one["alone"] for one in found) / MIB, losses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--vocabulary", type=int, default=16384)
    parser.add_argument("--dim", type=int, default=1024)
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--hidden_dim", type=int, default=2944)
    parser.add_argument("--tokens", type=int, default=128, help="of a micro-batch")
    parser.add_argument("--folder", help="where checkpoints and models are written; default: that of temporary files")
    parser.add_argument("--train", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.train:
        return train(args, Path(args.train))
    found: dict[int, list[tuple[float, float, list[float]]]] = {number: [] for number in sorted({1, *args.processes})}
    for round_ in range(args.rounds):
        for number, runs in found.items():
            runs.append(measure(args, number))
            print(f"round {round_ + 1}, {number} processes: {runs[-1][0]:.0f} MiB, imports {runs[-1][1]:.0f} MiB, "
                  f"losses {runs[-1][2]}", flush=True)
    memory = {number: statistics.median(run[0] for run in runs) for number, runs in found.items()}
    alone = statistics.median(run[1] for runs in found.values() for run in runs)
    result: dict[str, Any] = {"mib": memory, "imports_mib": alone}
    for number in found:
        if number > 1:
            result[f"ratio_{number}"] = round(memory[number] / memory[1], 3)
            result[f"limit_{number}"] = round((alone + (memory[1] - alone) / number) / memory[1], 3)
            goal = f", the goal is {GOALS[number]}" if number in GOALS else ""
            print(f"{number} processes: {result[f'ratio_{number}']} times the memory of one{goal}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
