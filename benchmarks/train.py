"""Training speed of the language model: ours, transformers' Trainer padded and packed, ESPnet's Trainer, alternately.

    cd egs/mini && ./run.sh --stop_stage 6 && . ./path.sh
    pip install accelerate && python ../../benchmarks/train.py

All train the same architecture (ours, exported) on the documents of the same batches of egs/mini, with AdamW,
clipping, the same precision and threads, and the loss on the same outputs. Speeds count tokens without padding.
Each round has `--steps` steps after as many warm-up steps. The limit is the time of the matrix products: 6 operations
for each product of a weight and a token (audiopalm/lm/training.py, Work) at the speed of a large square product.

`--memory` trains 135 M parameters on 2,048 tokens a step, each way in a process of its own, and prints its peak
memory; ours with `recompute`, the others by default. `--lora` adds ours with only adapters and audio rows trained.

The last line is JSON: {"tokens_per_second": {way: median}, "matmul_share"}, with `--memory` {way: {"tokens_per_second",
"gib"}}.
"""

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path
from statistics import median

import torch

from audiopalm.core.config import load_config, to_dict
from audiopalm.data.example_set import ExampleSet
from audiopalm.lm.huggingface.pretrained import write_pretrained
from audiopalm.lm.mixture import Mixture
from audiopalm.lm.model import ArchitectureConfig, Decoder, ModelConfig
from audiopalm.lm.packing import IGNORED, PackedBatch
from audiopalm.lm.sequences import SequenceBuilder
from audiopalm.lm.storage import save_model
from audiopalm.lm.training import LMConfig, LMData, train
from audiopalm.vocabulary.joint import load_vocabulary

# The shape of SmolLM2-135M, and one of 20 M parameters
LARGE = ArchitectureConfig(dim=576, layers=30, heads=9, kv_heads=3, hidden_dim=1536)
MIDDLE = ArchitectureConfig(dim=384, layers=10, heads=6, kv_heads=2, hidden_dim=1152)
LARGE_TEXT = 49152  # ids of its tokenizer
WAYS = ("audiopalm", "padded", "flattened", "espnet")


class Bench:
    def __init__(self, recipe: Path, architecture: ArchitectureConfig, rows: int, row_length: int, precision: str,
                 steps: int, lora: bool = False):
        self.recipe, self.steps, self.precision = recipe, steps, precision
        self.shares: list[float] = []  # fraction of the peak of matrix products, of our loop in each round
        self.vocabulary, self.tokenizer = load_vocabulary(recipe / "exp" / "vocabulary")
        if architecture is LARGE:
            self.vocabulary = replace(self.vocabulary, text_size=LARGE_TEXT)
        self.config = load_config(LMConfig, recipe / "conf" / "lm.yaml", [
            f"batch.rows={rows}", f"batch.row_length={row_length}", f"training.steps={2 * steps}",
            f"training.log_every={steps}", f"training.precision={precision}", "training.validate_every=1000000",
            "batch.validation_sequences=1", "training.save_every=1000000", "optimizer.name=adamw",
            f"recompute={str(architecture is LARGE).lower()}", *(["lora={}"] if lora else [])])
        self.config.model = architecture
        self.examples = ExampleSet(recipe / "dump" / "raw" / "train", recipe / "dump" / "tokens" / "train")
        mixture = Mixture(self.config.mixture, self.examples, SequenceBuilder(self.vocabulary, self.tokenizer),
                          row_length, rows, seed=0)
        self.batches = list(islice(mixture.batches(), 2 * steps))
        self.tokens = sum(batch.tokens for batch in self.batches[steps:])

    def audiopalm(self) -> float:
        """Tokens a second of our loop, the command's own, over the second half of its steps."""
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder) / "lm"
            data = LMData(self.vocabulary, self.tokenizer, self.examples, self.examples, self._text_lm(folder))
            train(self.config, data, output, 0)
            row = json.loads((output / "log.jsonl").read_text().splitlines()[-1])
            print(f"audiopalm: {row['matmul_share']:.2f} of the matrix products that this machine can do", flush=True)
            self.shares.append(row["matmul_share"])
            return row["tokens_per_second"]

    def _text_lm(self, folder: str) -> Path:
        """The initial model of our loop and of ESPnet's."""
        model = Decoder(ModelConfig(self.vocabulary.text_size, **to_dict(self.config.model)))
        save_model(Path(folder) / "textlm", model.config, model.state_dict(), self.vocabulary.layout_hash, seed=0)
        return Path(folder) / "textlm"

    def espnet(self) -> float:
        """ESPnet's Trainer on our model and batches, the second of two epochs; it has only float32 on a CPU."""
        data = [part for name, set_name in (("train", "train"), ("valid", "dev")) for part in (
            f"--{name}_data_dir", self.recipe / "dump" / "raw" / set_name,
            f"--{name}_tokens", self.recipe / "dump" / "tokens" / set_name)]
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "audiopalm.bin.espnet_train_lm", "--output_dir", folder, *data,
                       "--mixture", self.recipe / "conf" / "lm.yaml",
                       "--vocabulary", self.recipe / "exp" / "vocabulary",
                       "--init_lm", self._text_lm(folder), "--audio_rows", "normal", "--optim", "adamw",
                       "--batch_size", self.config.batch.rows, "--row_length", self.config.batch.row_length,
                       "--num_iters_per_epoch", self.steps, "--max_epoch", 2, "--grad_clip", 1.0]
            result = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True)
            second = re.search(r"2epoch results: \[train\].*?train_time=([\d.]+)", result.stdout + result.stderr)
            return self.tokens / self.steps / float(second.group(1))

    def padded(self) -> float:
        return self._transformers(pad)

    def flattened(self) -> float:
        return self._transformers(flatten)

    def _transformers(self, collate) -> float:
        from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments

        times = []

        class Clock(TrainerCallback):
            def on_step_end(self, args, state, control, **others):
                times.append(time.monotonic())

        size = self.vocabulary.text_size + self.vocabulary.audio_size
        start = Decoder(ModelConfig(size, **to_dict(self.config.model)))
        with tempfile.TemporaryDirectory() as folder:
            write_pretrained(start, Path(folder), self.vocabulary.eos)
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
            arguments = TrainingArguments(
                output_dir=folder, max_steps=2 * self.steps, per_device_train_batch_size=1, use_cpu=True,
                bf16=self.precision == "bf16-mixed", optim="adamw_torch_fused", max_grad_norm=1.0, report_to=[],
                logging_strategy="no", save_strategy="no", disable_tqdm=True, remove_unused_columns=False)
            Trainer(model, arguments, train_dataset=[documents(batch) for batch in self.batches],
                    data_collator=lambda items: collate(items[0]), callbacks=[Clock()]).train()
        return self.tokens / (times[-1] - times[self.steps - 1])


def documents(batch: PackedBatch) -> list[dict]:
    """ids and labels of each document of a packed batch, as in transformers: a label is at its token's position."""
    found = []
    for ids, segments, targets in zip(batch.ids, batch.segments, batch.targets, strict=True):
        for number in range(1, int(segments.max()) + 1):
            here = segments == number
            labels = torch.cat([torch.tensor([IGNORED]), targets[here][:-1]])
            found.append({"input_ids": ids[here], "labels": labels})
    return found


def pad(items: list[dict]) -> dict:
    """One document in each row, padded to the longest."""
    rows = {"input_ids": 0, "labels": IGNORED, "attention_mask": 0}
    full = [item | {"attention_mask": torch.ones_like(item["input_ids"])} for item in items]
    return {name: torch.nn.utils.rnn.pad_sequence([item[name] for item in full], True, value)
            for name, value in rows.items()}


def flatten(items: list[dict]) -> dict:
    """All documents in one row, separated by their positions: transformers' own collator."""
    from transformers import DataCollatorWithFlattening

    return DataCollatorWithFlattening(return_tensors="pt")([{name: value.tolist() for name, value in item.items()}
                                                            for item in items])


def memory(args: argparse.Namespace) -> None:
    """Peak memory of each way, in a process of its own, including Python and the libraries."""
    found: dict[str, dict[str, float]] = {}
    ours = [["audiopalm", "--lora"]] if args.lora else []
    for way in [*([one] for one in args.ways), *ours]:
        command = [sys.executable, __file__, "--recipe", str(args.recipe), "--memory", "--one", *way, "--steps", "2"]
        result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=os.environ)
        shown, figures = result.stdout.splitlines()[-2:]
        print(shown, flush=True)
        found |= json.loads(figures)
    print(json.dumps(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", type=Path, default=Path(__file__).resolve().parents[1] / "egs" / "mini")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rows", type=int, default=7)
    parser.add_argument("--row_length", type=int, default=320)
    parser.add_argument("--precision", default="bf16-mixed", choices=["bf16-mixed", "32-true"])
    parser.add_argument("--ways", nargs="+", default=WAYS, choices=WAYS)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--lora", action="store_true", help="with --memory: LoRA as well")
    parser.add_argument("--one", choices=WAYS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.memory and not args.one:
        return memory(args)
    if args.one:
        bench = Bench(args.recipe, LARGE, 4, 512, args.precision, args.steps, args.lora)
        speed = getattr(bench, args.one)()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2 ** 20
        name = f"{args.one} --lora" if args.lora else args.one
        print(f"{name:16} 135 M parameters, 2,048 tokens a step: {speed:6.0f} tokens/s, at most {peak:.2f} GiB")
        print(json.dumps({name: {"tokens_per_second": speed, "gib": peak}}))
        return None
    bench = Bench(args.recipe, MIDDLE, args.rows, args.row_length, args.precision, args.steps)
    speeds: dict[str, list[float]] = {way: [] for way in args.ways}
    for number in range(1, args.rounds + 1):
        for way in args.ways:
            speeds[way].append(getattr(bench, way)())
            print(f"round {number}: {way:10} {speeds[way][-1]:7.0f} tokens/s", flush=True)
    first = median(speeds[args.ways[0]])
    for way in args.ways[1:]:
        print(f"{args.ways[0]} is {first / median(speeds[way]):.2f} times as fast as {way}")
    shares = {"matmul_share": median(bench.shares)} if bench.shares else {}
    print(json.dumps({"tokens_per_second": {way: median(values) for way, values in speeds.items()}, **shares}))
    return None


if __name__ == "__main__":
    main()
