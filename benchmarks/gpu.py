"""Correctness, speed and memory on one GPU. At most 8 minutes; needs no network and nothing but the repository.

    benchmarks/gpu.sh                       # benchmarks/gpu.py in the environment of tools/setup.sh
    benchmarks/gpu.sh --device cpu --tiny   # every part at tiny shapes on a CPU

Parts, each of which may be chosen by `--parts`:

- `equality`: the device against the CPU in float32: losses and gradients of packed documents with windows and caps,
  greedy and sampled ids, and of the shipped model unit ids, codec ids, samples and SoundStorm's codes.
- `training`: tokens/s, share of the peak of products, and peak memory, at 135M and 1B parameters with random weights,
  bfloat16, AdamW, packed documents of 20 to 400 tokens. `--compile` compiles the blocks.
- `decode`: tokens/s at batch 1, 32 and 256, ours and ours with CUDA graphs beside transformers' generate.
- `speech`: real-time factors of units, SoundStorm and codec, of the shipped model.
- `resume`: a training by the engine of this package, stopped and resumed, has the losses of an undisturbed one.

`errors` names parts that fail or find a difference, and the exit code is then 1. `skipped` names parts for which no
time is left (`--seconds`). The last line is JSON; `--table` prints a row for benchmarks/README.md.
"""

import argparse
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from audiopalm.acoustic.registry import load_acoustic
from audiopalm.codec.registry import load_codec
from audiopalm.lm.generation.config import DecodingConfig
from audiopalm.lm.generation.sampling import generate
from audiopalm.lm.huggingface.pretrained import write_pretrained
from audiopalm.lm.model import Decoder, ModelConfig
from audiopalm.lm.packed_sizes import count_sizes
from audiopalm.lm.packing import IGNORED
from audiopalm.lm.training import Speed
from audiopalm.tasks import get_task
from audiopalm.training.config import TrainingConfig
from audiopalm.training.loop import Loss, Run, Training, run_training
from audiopalm.training.optimizer import OptimizerConfig, update_group
from audiopalm.units.registry import UnitTokenizer
from audiopalm.vocabulary.joint import Vocabulary

ROOT = Path(__file__).resolve().parents[1]
PACK = ROOT / "egs" / "mini" / "pretrained" / "pack"
TINY = ModelConfig(512, dim=64, layers=2, heads=4, kv_heads=2, hidden_dim=128)
SHAPES = {"135M": ModelConfig(50176, dim=576, layers=30, heads=9, kv_heads=3, hidden_dim=1536),
          "1B": ModelConfig(129280, dim=2048, layers=16, heads=32, kv_heads=8, hidden_dim=8192)}
FAMILIES = {"llama": {}, "window": {"window": 30, "local_layers": [0]},
            "window and cap": {"window": 30, "local_layers": [0], "attention_cap": 20.0, "logit_cap": 20.0}}
CLOSE = 1e-3  # relative difference of losses and gradients from the CPU's in float32
SAME = 0.98  # fraction of ids that must be equal; sums in another order may change the best of nearly equal candidates


class Bench:
    def __init__(self, arguments: argparse.Namespace):
        self.device, self.tiny, self.compile = torch.device(arguments.device), arguments.tiny, arguments.compile
        self.shapes = {"135M": TINY} if self.tiny else SHAPES
        self.errors: list[str] = []
        torch.manual_seed(0)

    def expect(self, good: bool, what: str) -> None:
        if not good:
            self.errors.append(what)

    def synchronise(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def seconds(self, run: Callable[[], Any], rounds: int = 3) -> float:
        """Median time of `run`, after one warm-up run."""
        times = []
        for _ in range(rounds + 1):
            self.synchronise()
            began = time.perf_counter()
            run()
            self.synchronise()
            times.append(time.perf_counter() - began)
        return median(times[1:])

    # ----- equality

    def equality(self) -> dict[str, Any]:
        return {"models": {name: self._same_model(options) for name, options in FAMILIES.items()},
                "shipped": self._same_speech()}

    def _same_model(self, options: dict[str, Any]) -> dict[str, float]:
        """Largest relative differences of loss and gradients, and the fraction of equal ids."""
        shape = vars(TINY) | {"head_dim": 0} | options
        model = random_model(ModelConfig(**shape))
        batch = packed_batch(2, 300, 512, np.random.default_rng(0), longest=120)
        losses, gradients, answers = [], [], []
        for device in ("cpu", self.device):
            model = model.to(device).train()
            loss, count = model(*(one.to(device) for one in batch), count_sizes(batch[1], batch[3]))
            (loss / count).backward()
            losses.append(float(loss.detach()) / count)
            gradients.append([one.grad.cpu() for one in model.parameters()])
            model.zero_grad()
            prompts = [np.random.default_rng(number).integers(0, 512, 5 + 9 * number) for number in range(9)]
            for temperature in (0.0, 1.0):
                answers.append(np.concatenate(decode(model.eval(), prompts, 40, 4, temperature)))
        differences = [float((one - other).norm() / other.norm().clamp(min=1e-12))
                       for one, other in zip(gradients[1], gradients[0], strict=True)]
        found = {"loss": abs(losses[1] / losses[0] - 1), "gradients": max(differences),
                 "greedy_ids": equal(answers[2], answers[0]), "sampled_ids": equal(answers[3], answers[1])}
        self.expect(found["loss"] < CLOSE and found["gradients"] < CLOSE, f"losses or gradients {options}: {found}")
        self.expect(min(found["greedy_ids"], found["sampled_ids"]) > SAME, f"ids {options}: {found}")
        return found

    def _same_speech(self) -> dict[str, float]:
        audio = [voice(seconds, number) for number, seconds in enumerate((2.0, 1.1, 3.03))]
        results = []
        for device in ("cpu", self.device):
            units, codec = UnitTokenizer.load(PACK / "units", device), load_codec(PACK / "codec", device)
            acoustic = load_acoustic(PACK / "acoustic", device)
            if not results:
                ids, codes = units.encode(audio), codec.encode(audio)
            results.append((np.concatenate(units.encode(audio)), np.concatenate(codec.encode(audio)),
                            np.concatenate(codec.decode(codes)),
                            np.concatenate(acoustic.generate(ids, [ids[0]] * 3, [codes[0]] * 3))))
        (unit_ids, code_ids, samples, acoustic_ids), (units_2, codes_2, samples_2, acoustic_2) = results
        found = {"unit_ids": equal(units_2, unit_ids), "codec_ids": equal(codes_2, code_ids),
                 "samples": float(np.abs(samples_2 - samples).max()), "soundstorm_ids": equal(acoustic_2, acoustic_ids)}
        # A different code changes the codes after it, so fewer codes of SoundStorm need to be equal.
        self.expect(found["unit_ids"] > SAME and found["codec_ids"] > 0.9 and found["samples"] < 1e-2
                    and found["soundstorm_ids"] > 0.8, f"shipped model: {found}")
        return found

    # ----- training

    def training(self) -> dict[str, Any]:
        rows, length = {"135M": (8, 2048), "1B": (4, 2048)}, 128
        return {name: self._train(shape, *((2, length) if self.tiny else rows[name]))
                for name, shape in self.shapes.items()}

    def _train(self, shape: ModelConfig, rows: int, length: int) -> dict[str, float]:
        with self.device:
            model = Decoder(shape).train()
        if self.compile:
            model.compile_blocks()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        group = update_group(model, OptimizerConfig(learning_rate=1e-4), 1000, clip_apart=("embedding",))
        batches = [packed_batch(rows, length, shape.vocabulary_size, np.random.default_rng(number))
                   for number in range(4)]

        def step(number: int) -> None:
            batch = batches[number % 4]
            sizes = count_sizes(batch[1], batch[3])
            with torch.autocast(self.device.type, torch.bfloat16):
                loss, _ = model(*(one.to(self.device, non_blocking=True) for one in batch), sizes)
            (loss / sizes.outputs).backward()
            group.update(number)

        steps = 2 if self.tiny else 12
        for number in range(4):
            step(number)
        self.synchronise()
        began = time.perf_counter()
        for number in range(steps):
            step(number)
        self.synchronise()
        seconds = (time.perf_counter() - began) / steps
        tokens = float(np.mean([int((batch[1] > 0).sum()) for batch in batches]))
        outputs = float(np.mean([int((batch[3] != IGNORED).sum()) for batch in batches]))
        speed = Speed(model, self.device, "bf16-mixed")
        return {"parameters": sum(one.numel() for one in model.parameters()), "tokens_per_second": tokens / seconds,
                "share_of_peak": speed.share(tokens, outputs, seconds), "peak_operations": speed.peak,
                "peak_memory_bytes": self._peak_memory()}

    def _peak_memory(self) -> int:
        return torch.cuda.max_memory_allocated() if self.device.type == "cuda" else 0

    # ----- decode

    def decode(self) -> dict[str, Any]:
        shape, batches, answer = (TINY, (1, 4), 16) if self.tiny else (SHAPES["135M"], (1, 32, 256), 100)
        model = random_model(shape).eval()
        with tempfile.TemporaryDirectory() as folder:
            from transformers import AutoModelForCausalLM

            write_pretrained(model, Path(folder), eos=0)
            dtype = torch.float32 if self.device.type == "cpu" else torch.bfloat16
            theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval().to(self.device)
        theirs.generation_config.eos_token_id = None
        model = model.to(self.device, dtype)
        found = {}
        for size in batches:
            prompts = [np.random.default_rng(number).integers(1, shape.vocabulary_size, 100) for number in range(size)]
            ids = torch.from_numpy(np.stack(prompts)).to(self.device)
            row = {"transformers": size * answer / self.seconds(torch.inference_mode()(lambda ids=ids: theirs.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=False, pad_token_id=0, max_new_tokens=answer)))}
            for name, graphs in (("ours", "0"), ("ours_cuda_graphs", "1"))[:2 if self.device.type == "cuda" else 1]:
                os.environ["AUDIOPALM_CUDA_GRAPHS"] = graphs
                made = decode(model, prompts, answer, size, 0.0)
                self.expect(sum(map(len, made)) == size * (answer + 1), f"decode {name}, batch {size}: an answer ended")
                row[name] = size * answer / self.seconds(
                    lambda prompts=prompts, size=size: decode(model, prompts, answer, size, 0.0))
            os.environ["AUDIOPALM_CUDA_GRAPHS"] = "0"
            found[str(size)] = row
        return found

    # ----- speech

    def speech(self) -> dict[str, float]:
        number, seconds = (2, 2.0) if self.tiny else (32, 10.0)
        audio = [voice(seconds, index) for index in range(number)]
        units, codec = UnitTokenizer.load(PACK / "units", self.device), load_codec(PACK / "codec", self.device)
        acoustic = load_acoustic(PACK / "acoustic", self.device)
        ids, codes = units.encode(audio), codec.encode(audio)
        runs = {"units": lambda: units.encode(audio), "codec_encode": lambda: codec.encode(audio),
                "codec_decode": lambda: codec.decode(codes),
                "soundstorm": lambda: acoustic.generate(ids, [ids[0]] * number, [codes[0]] * number)}
        return {name: self.seconds(run, 1 if self.tiny else 3) / (number * seconds) for name, run in runs.items()}

    # ----- resume

    def resume(self) -> dict[str, float]:
        """Losses of a training that an error stops after its snapshot, and of an undisturbed one."""
        logging.getLogger().setLevel(logging.WARNING)
        steps = 8
        with tempfile.TemporaryDirectory() as folder:
            losses = []
            for name, stops in (("whole", False), ("stopped", True)):
                config = TrainingConfig(steps=steps, log_every=1, save_every=3, validate_every=steps)
                output = Path(folder) / name
                run = Run(output, "model.json", 0, config, {"seed": 0})
                began = time.perf_counter()
                if stops:
                    with suppress(InterruptedError):
                        run_training(run, partial(Synthetic, output, 5))
                run_training(run, partial(Synthetic, output, None))
                seconds = time.perf_counter() - began
                rows = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
                losses.append([row["loss"] for row in rows])
        difference = max(abs(one - other) for one, other in zip(*losses, strict=True))
        self.expect(len(losses[0]) == steps and difference < 1e-4, f"resume: losses differ by {difference}")
        return {"largest_difference": difference, "seconds": seconds}


class Synthetic(Training):
    """Random documents; fails before micro-batch `fails_at`."""

    def __init__(self, output: Path, fails_at: int | None, fabric: Any):
        self.output, self.fabric, self.fails_at = output, fabric, fails_at
        self.model = Decoder(TINY)
        self.modules = {"model": self.model}

    def update_groups(self) -> dict[str, Any]:
        return {"model": update_group(self.model, OptimizerConfig(), 8)}

    def batches(self, numbers: range, state: Any) -> Iterator[Any]:
        for number in numbers:
            if number == self.fails_at:
                raise InterruptedError
            yield packed_batch(2, 128, TINY.vocabulary_size, np.random.default_rng(number), longest=60)

    def step(self, batch: Any, step: int) -> Iterator[Loss]:
        loss, count = self.model(*self.fabric.to_device(batch), count_sizes(batch[1], batch[3]))
        yield Loss(loss, count)

    def finish(self, weights: Any) -> None:
        (self.output / "model.json").write_text("{}")


def packed_batch(rows: int, length: int, vocabulary: int, random: np.random.Generator,
                 longest: int = 400) -> tuple[torch.Tensor, ...]:
    """ids, segments, positions and targets of random documents; the second half of each is its output."""
    ids = random.integers(0, vocabulary, (rows, length))
    segments, positions = np.zeros((2, rows, length), dtype=np.int64)
    targets = np.full((rows, length), IGNORED)
    for row in range(rows):
        start, number = 0, 1
        while (end := start + int(random.integers(min(20, longest), longest + 1))) <= length:
            segments[row, start:end], positions[row, start:end] = number, np.arange(end - start)
            middle = (start + end) // 2
            targets[row, middle:end - 1] = ids[row, middle + 1:end]
            start, number = end, number + 1
    return tuple(torch.from_numpy(one) for one in (ids, segments, positions, targets))


def decode(model: Decoder, prompts: list[np.ndarray], answer: int, batch: int, temperature: float) -> list[np.ndarray]:
    """Ids of the answers with their ends, for a model of `random_model`; nearly all answers end at the limit."""
    size = model.config.vocabulary_size
    vocabulary = Vocabulary(text_size=0, audio_size=size, eos=size - 1, newline=size - 1, text_sha256="",
                            units_sha256="", languages=[])
    config = DecodingConfig(audio_tokens=answer, audio_temperature=temperature)
    found = generate(model, prompts, get_task("s2st"), vocabulary, config, range(len(prompts)), batch)
    return [np.append(one.parts[0], size - 1) for one in found]


def random_model(shape: ModelConfig) -> Decoder:
    """A decoder whose last id, which ends answers, always has the logit 0, which is never the largest one."""
    model = Decoder(shape)
    with torch.no_grad():
        model.head_weight[-1].zero_()
    return model


def voice(seconds: float, seed: int) -> np.ndarray:
    """A made-up sound: harmonics of a moving pitch, and noise."""
    random, time_axis = np.random.default_rng(seed), np.arange(int(seconds * 16000)) / 16000
    pitch = 120 + 40 * np.sin(2 * np.pi * (0.5 + seed % 3) * time_axis)
    phase = 2 * np.pi * np.cumsum(pitch) / 16000
    sound = sum(np.sin(number * phase) / number for number in range(1, 12))
    return (0.1 * sound * (0.6 + 0.4 * np.sin(9 * time_axis)) + random.normal(0, 0.003, len(phase))).astype(np.float32)


def equal(found: np.ndarray, expected: np.ndarray) -> float:
    """The fraction of equal ids; 0 where the shapes differ."""
    return float((found == expected).mean()) if found.shape == expected.shape else 0.0


def table(found: dict[str, Any]) -> str:
    """The figures as a row of benchmarks/README.md."""
    parts = [found["device"]]
    for name, row in found.get("training", {}).items():
        parts.append(f"{name}: {row['tokens_per_second']:,.0f} tokens/s, {row['share_of_peak']:.2f} of the peak, "
                     f"at most {row['peak_memory_bytes'] / 2 ** 30:.1f} GiB")
    for size, row in found.get("decode", {}).items():
        ours = ", ".join(f"{name} {value:,.0f}" for name, value in row.items())
        parts.append(f"decode at batch {size}, tokens/s: {ours}")
    if "speech" in found:
        factors = ", ".join(f"{name} {value:.4f}" for name, value in found["speech"].items())
        parts.append(f"real-time factors: {factors}")
    return f"| `benchmarks/gpu.sh` | one GPU | {'; '.join(parts)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = ("equality", "training", "decode", "speech", "resume")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--parts", nargs="+", choices=parts, default=parts)
    parser.add_argument("--seconds", type=float, default=450, help="no part begins later than this")
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    if arguments.device != "cpu" and not torch.cuda.is_available():
        sys.exit("gpu.py: error: torch finds no GPU here; give --device cpu --tiny to test this script")
    bench, began = Bench(arguments), time.perf_counter()
    name = torch.cuda.get_device_name() if bench.device.type == "cuda" else "CPU"
    found: dict[str, Any] = {"device": name, "torch": torch.__version__, "tiny": bench.tiny, "skipped": []}
    for part in arguments.parts:
        if time.perf_counter() - began > arguments.seconds:
            found["skipped"].append(part)
            continue
        try:
            found[part] = getattr(bench, part)()
        except Exception as error:  # the other parts run all the same
            bench.errors.append(f"{part}: {type(error).__name__}: {error}")
        if bench.device.type == "cuda":
            torch.cuda.empty_cache()
        print(f"{part}: {time.perf_counter() - began:.0f} s: {json.dumps(found.get(part))}", flush=True)
    found |= {"seconds": round(time.perf_counter() - began, 1), "errors": bench.errors}
    if arguments.table:
        print(table(found))
    print(json.dumps(found))
    sys.exit(bool(bench.errors))


if __name__ == "__main__":
    main()
