"""How OpenMP threads should wait for each other: training speed on an idle machine and beside a busy process.

    python benchmarks/busy_machine.py

PyTorch's wheels use GNU's OpenMP (libgomp). A thread that has no work spins GOMP_SPINCOUNT times, about 300,000 by
default, before it sleeps; with OMP_WAIT_POLICY=PASSIVE it sleeps at once. Spinning is fast while every thread has a
core of its own. If threads share a core, a spinning thread takes the core from the thread that it waits for.

Each policy trains in a process of its own, which holds its model between the rounds. The policies run alternately in
each round, once on the idle machine and once beside `--busy` processes that compute without end. The last line is
JSON: {policy: {"idle": tokens/s, "busy": tokens/s, "worst": the smaller of both as a fraction of the best policy
there}}.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from statistics import median

SPIN_COUNTS = (1_000, 3_000, 10_000, 100_000, 1_000_000)
POLICIES = {"default": {}, "passive": {"OMP_WAIT_POLICY": "PASSIVE"},
            **{f"spin {count:,}": {"GOMP_SPINCOUNT": str(count)} for count in SPIN_COUNTS}}


def worker(arguments: argparse.Namespace) -> None:
    """Train for a round at each line of standard input; answer with tokens/s."""
    import torch

    from audiopalm.lm.model import Decoder, ModelConfig

    torch.manual_seed(0)
    model = Decoder(ModelConfig(2_000))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    shape = (arguments.rows, arguments.row_length)
    ids = torch.randint(0, 2_000, shape)
    segments, positions = torch.ones(shape, dtype=torch.int64), torch.arange(shape[1]).expand(shape)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=not arguments.float32):
            loss, count = model(ids, segments, positions, ids)
        (loss / count).backward()
        optimizer.step()
        optimizer.zero_grad()

    for _ in range(2):
        step()
    print("ready", flush=True)
    for _ in sys.stdin:
        steps, start = 0, time.perf_counter()
        while (seconds := time.perf_counter() - start) < arguments.seconds:
            step()
            steps += 1
        print(steps * ids.numel() / seconds, flush=True)


def start(environment: dict[str, str], arguments: argparse.Namespace) -> subprocess.Popen:
    inherited = {name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    options = ["--rows", str(arguments.rows), "--row_length", str(arguments.row_length), "--seconds",
               str(arguments.seconds), *(["--float32"] if arguments.float32 else [])]
    process = subprocess.Popen([sys.executable, __file__, "--worker", *options], stdin=subprocess.PIPE, text=True,
                               stdout=subprocess.PIPE,
                               env={**inherited, **environment, "OMP_NUM_THREADS": str(arguments.threads)})
    process.stdout.readline()
    return process


def measure(process: subprocess.Popen) -> float:
    process.stdin.write("\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def main() -> None:
    cores = len(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=cores)
    parser.add_argument("--busy", type=int, default=1, help="processes that compute beside the training")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--rows", type=int, default=7)
    parser.add_argument("--row_length", type=int, default=320)
    parser.add_argument("--float32", action="store_true", help="instead of bfloat16")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        worker(arguments)
        return
    workers = {name: start(environment, arguments) for name, environment in POLICIES.items()}
    speeds: dict[str, dict[str, list[float]]] = {name: {"idle": [], "busy": []} for name in POLICIES}
    for _ in range(arguments.rounds):
        for load, others in (("idle", 0), ("busy", arguments.busy)):
            loads = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(others)]
            try:
                for name, process in workers.items():
                    speeds[name][load].append(measure(process))
            finally:
                for process in loads:
                    process.kill()
                    process.wait()
    for process in workers.values():
        process.stdin.close()
        process.wait()
    report(speeds, arguments, cores)


def report(speeds: dict[str, dict[str, list[float]]], arguments: argparse.Namespace, cores: int) -> None:
    """Print the medians as a table, then as JSON."""
    middle = {name: {load: median(values) for load, values in found.items()} for name, found in speeds.items()}
    best = {load: max(found[load] for found in middle.values()) for load in ("idle", "busy")}
    print(f"{arguments.threads} threads on {cores} cores, {arguments.busy} busy process(es), median of "
          f"{arguments.rounds} rounds of {arguments.seconds:g} s, tokens/s")
    for name, found in middle.items():
        found["worst"] = round(min(found[load] / best[load] for load in best), 3)
        print(f"{name:16} idle {found['idle']:7.0f}  busy {found['busy']:7.0f}  worst {found['worst']:.2f} of the best")
    print(json.dumps(middle))


if __name__ == "__main__":
    main()
