"""Inference of the shipped model: single sentences, a batch of them, a long recording, start-up.

    cd egs/mini && ./run.sh --stop_stage 2 && . ./path.sh
    python ../../benchmarks/inference.py

Sentences of the test set are translated from speech to speech, one by one and as a list, alternately in each round. The
benchmark checks that the answers are equal. The long recording consists of sentences with pauses, and `model.stream`
answers it. Start-up is measured on new processes, also alternately.

All times are CPU times (user and system, all threads), because other processes on the machine change wall times much
more. Divided by the seconds of input, that is an upper limit of the real-time factor on idle cores. The limit is the
time of the matrix products at the speed of a large square product in float32. PyTorch counts the products of
SoundStorm, units and codec for four sentences; those of the language model are twice its weights for each token.

The last line is JSON: list_ratio, real_time_factor, first_audio_seconds, start_seconds.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from audiopalm import inference
from audiopalm.answer import Answer
from audiopalm.data.audio import SAMPLE_RATE, read_audio, write_audio
from audiopalm.data.datadir import read_table
from audiopalm.inference import AudioPaLM
from audiopalm.training.precision import peak_operations

TAG = "[ASR AST S2ST Spanish English]"
PAUSE = 1.0  # seconds between the sentences of the long recording
COMMANDS = {
    "--help": ["--help"],
    "translate to text": ["translate", "{input}", "--from", "Spanish", "--to", "English"],
    "translate to speech": ["translate", "{input}", "--from", "Spanish", "--to", "English", "-o", "{output}"],
}


class Shares:
    """CPU time of each step of a model."""

    def __init__(self, model: AudioPaLM):
        self.seconds: dict[str, float] = {}
        self._time(inference, "pieces", "read", collect=True)
        self._time(model.units, "encode", "units")
        self._time(model, "generate", "LM")
        self._time(model, "assess", "confidence")
        self._time(model.acoustic, "generate", "SoundStorm")
        self._time(model.codec, "encode", "codec")
        self._time(model.codec, "decode", "codec")

    def _time(self, owner: object, name: str, step: str, collect: bool = False) -> None:
        function = getattr(owner, name)

        def measured(*arguments, **options):
            began = time.process_time()
            result = function(*arguments, **options)
            if collect:  # a generator computes only when it is read
                result = iter(list(result))
            self.seconds[step] = self.seconds.get(step, 0.0) + time.process_time() - began
            return result

        setattr(owner, name, measured)

    @contextmanager
    def measure(self) -> Iterator[dict[str, float]]:
        """The seconds of each step within the block, and of the `whole`."""
        found: dict[str, float] = {}
        self.seconds.clear()
        began = time.process_time()
        yield found
        found |= {"whole": time.process_time() - began, **self.seconds}


def equal(one: Answer, other: Answer) -> bool:
    """Whether texts and units are equal, and speech up to rounding."""
    return (one.text == other.text and np.array_equal(one.units, other.units) and one.audio.shape == other.audio.shape
            and bool(np.abs(one.audio - other.audio).max(initial=0) < 1e-3))


def sentences(recipe: Path, number: int) -> list[Path]:
    """`number` Spanish recordings of the test set, spread over its speakers."""
    data = recipe / "dump" / "raw" / "test"
    language = read_table(data / "utt2lang")
    found = [recipe / path for name, path in sorted(read_table(data / "wav.scp").items()) if language[name] == "es"]
    return found[::max(1, len(found) // number)][:number]


def product_limit(model: AudioPaLM, inputs: list[tuple[np.ndarray, int]]) -> float:
    """Seconds of the matrix products of `inputs`, one by one, for each second of input."""
    tokens = 0

    def count(function: Callable) -> Callable:
        def counted(task, examples, *arguments):
            nonlocal tokens
            found = function(task, examples, *arguments)
            builder = model.builder
            tokens += sum(len(builder.prompt(task, example)) for example in examples)
            tokens += sum(len(part) + 1 for best, *_ in found for part in best.parts)
            return found
        return counted

    original, model.generate = model.generate, count(model.generate)
    with FlopCounterMode(display=False) as counter:
        for one in inputs:
            model(one, TAG)
    model.generate = original
    weights = sum(parameter.numel() for parameter in model.lm.parameters())
    speed = peak_operations(torch.float32)
    print(f"large products: {speed / 1e9:.0f} GFLOP/s; {tokens / len(inputs):.0f} tokens of the LM for a sentence")
    heard = sum(len(samples) for samples, _ in inputs) / SAMPLE_RATE
    return (counter.get_total_flops() + 2 * weights * tokens) / speed / heard


def measure_sentences(model: AudioPaLM, inputs: list[tuple[np.ndarray, int]], rounds: int) -> dict[str, float]:
    heard = sum(len(samples) for samples, _ in inputs) / SAMPLE_RATE
    model(inputs[0], TAG)  # warm-up
    limit = product_limit(model, inputs[:4]) * heard
    shares = Shares(model)
    times: dict[str, list[dict[str, float]]] = {"one by one": [], "as a list": []}
    for _ in range(rounds):
        with shares.measure() as single:
            alone = [model(one, TAG) for one in inputs]
        with shares.measure() as batch:
            together = model(inputs, TAG)
        if not all(map(equal, alone, together)):
            sys.exit("a list has other answers than its elements")
        times["one by one"].append(single)
        times["as a list"].append(batch)
    for way, found in times.items():
        whole = median(one["whole"] for one in found)
        steps = ", ".join(f"{step} {median(one[step] / one['whole'] for one in found):.0%}"
                          for step in found[0] if step != "whole")
        print(f"{len(inputs)} sentences {way}: {whole:.2f} s, real-time factor {whole / heard:.3f}, "
              f"{whole / limit:.1f} times the limit of {limit:.2f} s; {steps}", flush=True)
    ratio = median(single["whole"] / batch["whole"]
                   for single, batch in zip(*times.values(), strict=True))
    print(f"a list has {ratio:.2f} times the throughput of one by one")
    return {"list_ratio": ratio, "real_time_factor": median(one["whole"] for one in times["one by one"]) / heard}


def measure_stream(model: AudioPaLM, inputs: list[tuple[np.ndarray, int]], seconds: float,
                   rounds: int) -> dict[str, float]:
    pause, parts, length = np.zeros(round(PAUSE * SAMPLE_RATE), dtype=np.float32), [], 0
    while length < seconds * SAMPLE_RATE:
        for samples, _ in inputs:
            parts += [samples, pause]
            length += len(samples) + len(pause)
    recording = np.concatenate(parts)[:round(seconds * SAMPLE_RATE)]
    firsts = []
    for _ in range(rounds):
        began = time.process_time()
        segment = next(model.stream(recording, TAG, SAMPLE_RATE))
        firsts.append(time.process_time() - began)
    print(f"first audio of a recording of {seconds:.0f} s: {median(firsts):.2f} s, of a segment of "
          f"{segment.end - segment.start:.1f} s", flush=True)
    return {"first_audio_seconds": median(firsts)}


def measure_starts(recording: np.ndarray, rounds: int) -> dict[str, dict[str, float]]:
    """CPU seconds of each command of `audiopalm`, and of importing torch, in processes of their own."""
    with tempfile.TemporaryDirectory() as folder:
        write_audio(Path(folder) / "x.wav", recording)
        files = {"input": f"{folder}/x.wav", "output": f"{folder}/y.wav"}
        times: dict[str, list[float]] = {name: [] for name in (*COMMANDS, "import torch")}
        for number in range(rounds + 1):  # the first round fills caches
            for name in times:
                command = ["-m", "audiopalm.cli", *(word.format(**files) for word in COMMANDS.get(name, ()))]
                found = child_seconds(command if name in COMMANDS else ["-c", "import torch"])
                if number:
                    times[name].append(found)
    print("start-up: " + ", ".join(f"{name} {median(found):.2f} s" for name, found in times.items()))
    return {"start_seconds": {name: median(found) for name, found in times.items()}}


def child_seconds(arguments: list[str]) -> float:
    """User and system seconds of a Python process."""
    before = os.times()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", type=Path, default=Path(__file__).resolve().parents[1] / "egs" / "mini",
                        help="its stage 2 has run")
    parser.add_argument("--model", help="folder of a pack (default: the shipped model)")
    parser.add_argument("--sentences", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=180.0, help="of the long recording")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--parts", nargs="+", default=["sentences", "stream", "starts"],
                        choices=["sentences", "stream", "starts"])
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    inputs = [(read_audio(path), SAMPLE_RATE) for path in sentences(args.recipe, args.sentences)]
    print(f"{args.threads} threads, CPU times, median of {args.rounds} rounds", flush=True)
    figures: dict = {}
    if "starts" in args.parts:
        figures |= measure_starts(inputs[0][0], args.rounds)
    if {"sentences", "stream"} & set(args.parts):
        model = AudioPaLM.from_pretrained(args.model)
        if "stream" in args.parts:
            model(inputs[0], TAG)  # warm-up
            figures |= measure_stream(model, inputs, args.seconds, args.rounds)
        if "sentences" in args.parts:
            figures |= measure_sentences(model, inputs, args.rounds)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
