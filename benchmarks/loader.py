"""Costs of the loader of the task mixture as data sets grow: memory, start, speed of workers, bytes read, resume.

    python benchmarks/loader.py --utterances 1000000 --json

The data set is artificial: utterances in eight languages, each with a text, a translation and a spoken translation. All
share the unit vectors of 20,000 utterances, so that the archives fit on any disk. `audiopalm.bin.make_index` makes the
indices. Each measurement runs in a process of its own:

- ready: from opening the existing indices to the first batch, without imports
- memory: private memory (USS of /proc/self/smaps_rollup) of a training process without workers beside another one, and
  of a worker, less that with 1,000 utterances; `bytes_per_utterance` is the larger one
- workers: tokens/s of one and of two workers alternately, the median of the rounds. These figures mean little on a busy
  machine, so it also prints tokens for each CPU second of the slower worker
- bytes: the bytes that each of two workers has read, and the bytes in its batches
- resume: from opening the indices to the batch of step 1,000,000

The last line is one JSON object.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from audiopalm.core.files import write_json
from audiopalm.data.archive import write_ark
from audiopalm.languages import language_name
from audiopalm.lm.mixture import MixtureEntry
from audiopalm.lm.packing import PackedBatch
from audiopalm.lm.training import BatchConfig, LMConfig, LMInputs, read_data
from audiopalm.training.batches import load_ahead
from audiopalm.vocabulary import joint
from audiopalm.vocabulary.text import train_tokenizer

LANGUAGES = ("de", "es", "fr", "it", "nl", "pl", "pt", "ru")
VECTORS, UNITS = 20_000, 1024
BASE = 1_000  # utterances of the run whose memory is subtracted
ROWS, ROW_LENGTH, STEP = 8, 1024, 1_000_000
TASKS = ("asr", "ast", "s2st", "tts", "mt", "asr+ast+s2st")
GOALS = {"bytes_per_utterance": 250, "ready_seconds": 3, "workers_ratio": 1.8}
WORDS = ("the a of and to in is was for on that with as by at from his her they this are or an be had not have were "
         "which one their all there been who more when will would out up said what its about into them can only other "
         "time new some could these two may first then do any like my now over such our man me even most made").split()


def make_data(root: Path, utterances: int) -> tuple[Path, Path]:
    """Write a data directory and tokens; lines are made by the thousand."""
    random = np.random.default_rng(0)
    data, tokens = root / "data", root / "tokens"
    data.mkdir(parents=True)
    entries = list(write_ark(tokens / "units.ark", {
        f"{number:05d}": random.integers(0, UNITS, length)
        for number, length in enumerate(random.integers(60, 200, VECTORS).tolist())}).values())
    write_json(tokens / "meta.json", {"units_rate": 25, "units_size": UNITS, "units_sha256": "made up"})
    sentences = [" ".join(random.choice(WORDS, size)) for size in random.integers(5, 16, 4000)]
    names = {"text": data, "text.en": data, "utt2lang": data, "utt2spk": data, "units.scp": tokens,
             "units.en.scp": tokens}
    files = {name: open(folder / name, "w", encoding="utf-8") for name, folder in names.items()}
    for language_number, language in enumerate(LANGUAGES):
        for number in range(language_number, utterances, len(LANGUAGES)):
            key = f"covost2-common_voice_{language}_{number:09d}"
            files["text"].write(f"{key} {sentences[number % 3989]}\n")
            files["text.en"].write(f"{key} {sentences[number % 3967]}\n")
            files["utt2lang"].write(f"{key} {language}\n")
            files["utt2spk"].write(f"{key} {language}-{number % 9973:05d}\n")
            files["units.scp"].write(f"{key} {entries[number % VECTORS]}\n")
            files["units.en.scp"].write(f"{key} {entries[(number + 7) % VECTORS]}\n")
    for file in files.values():
        file.close()
    return data, tokens


def make_vocabulary(root: Path) -> Path:
    tags = [f"[ASR AST S2ST TTS MT {language_name(code)}]" for code in (*LANGUAGES, "en")]
    train_tokenizer([*WORDS, *tags] * 20, root / "vocabulary" / "text.model", 400)
    joint.make_vocabulary(root / "vocabulary", UNITS, "made up", ["en", *LANGUAGES])
    return root / "vocabulary"


@dataclass(frozen=True)
class Loaded:
    """A batch: its tokens, the bytes that were read for it, private memory and CPU time of the process so far."""

    tokens: int
    read: int
    private: int
    cpu: float


class Bench:
    """The mixture of an artificial data set, as a training opens it."""

    def __init__(self, root: Path):
        self.began = time.monotonic()
        dev = root.parent / "base"
        self.data = read_data(LMInputs(root / "vocabulary", root / "data", dev / "data", root / "tokens",
                                       dev / "tokens"))
        config = LMConfig([MixtureEntry(task) for task in TASKS], BatchConfig(ROWS, ROW_LENGTH))
        self.mixture = self.data.mixture(config, self.data.examples, 0)

    def load(self, number: int) -> tuple[PackedBatch, Loaded]:
        before = self.data.examples.bytes_read
        batch = self.mixture.batch(number)
        memory = private() if number % 50 == 0 else 0
        return batch, Loaded(batch.tokens, self.data.examples.bytes_read - before, memory, time.process_time())

    def workers(self, number: int, batches: int) -> tuple[float, float, list[Loaded]]:
        """Tokens/s of the second half of `batches` batches, tokens for each second of CPU time of the worker that takes
        longest, and what is known of each batch."""
        self.mixture.prepare()
        found: list[Loaded] = []
        began, half = 0.0, batches // 2
        for _, one in load_ahead(self.load, range(batches), number):
            if len(found) == half:
                began = time.monotonic()
            found.append(one)
        tokens = sum(one.tokens for one in found[half + 1:])
        cpu = max(found[batches - 1 - worker].cpu - found[half - worker].cpu for worker in range(number))
        return tokens / (time.monotonic() - began), tokens / cpu, found


def private() -> int:
    """USS of this process in bytes."""
    with open("/proc/self/smaps_rollup", encoding="ascii") as file:
        return 1024 * sum(int(line.split()[1]) for line in file if line.startswith("Private_"))


def ready(root: Path, batches: int) -> dict:
    used = time.process_time()
    bench = Bench(root)
    bench.mixture.batch(0)
    return {"ready": time.monotonic() - bench.began, "cpu": time.process_time() - used}


def resume(root: Path, batches: int) -> dict:
    bench = Bench(root)
    bench.mixture.batch(STEP)
    return {"resume": time.monotonic() - bench.began}


def hold(root: Path, batches: int) -> dict:
    """A second training process, which has the same index mapped until its input ends."""
    bench = Bench(root)
    bench.mixture.batch(0)
    print("ready", flush=True)
    sys.stdin.read()
    return {}


def memory(root: Path, batches: int) -> dict:
    """Memory of a process that reads its batches itself, then of the only worker of another process."""
    command = [sys.executable, __file__, "--child", "hold", "--root", str(root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        bench = Bench(root)
        for number in range(1, 200):
            bench.load(number)
        rank = private()
        worker = max(one.private for one in bench.workers(1, 200)[2])
        other.communicate()
    return {"rank": rank, "worker": worker}


def speed(root: Path, batches: int) -> dict:
    """One and two workers, each once, and the bytes of each of the two."""
    bench = Bench(root)
    one, one_cpu, _ = bench.workers(1, batches)
    two, two_cpu, found = bench.workers(2, batches)
    own = [bench.load(number)[1].read for number in range(batches)]
    read = [sum(item.read for item in found[worker::2]) for worker in range(2)]
    return {"one": one, "two": two, "ratio": two / one, "cpu_ratio": two_cpu / one_cpu, "read": read,
            "share": [sum(own[worker::2]) for worker in range(2)]}


CHILDREN: dict[str, Callable[[Path, int], dict]] = {"ready": ready, "resume": resume, "memory": memory, "speed": speed,
                                                    "hold": hold}


def child(name: str, root: Path, batches: int) -> dict:
    command = [sys.executable, __file__, "--child", name, "--root", str(root), "--batches", str(batches)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def prepare(root: Path, utterances: int) -> float:
    """Seconds to make the index of artificial data, including the lengths of texts."""
    if not (root / "vocabulary").exists():
        make_data(root, utterances)
        make_vocabulary(root)
    began = time.monotonic()
    subprocess.run([sys.executable, "-m", "audiopalm.bin.make_index", "--data_dir", root / "data", "--tokens",
                    root / "tokens", "--vocabulary", root / "vocabulary"], check=True, stderr=subprocess.DEVNULL)
    return time.monotonic() - began


def measure(folder: Path, utterances: int, rounds: int, batches: int) -> dict:
    base, full = folder / "base", folder / "full"
    prepare(base, BASE)
    index_seconds = prepare(full, utterances)
    memories = child("memory", full, batches), child("memory", base, batches)
    grown = {name: (memories[0][name] - memories[1][name]) / (utterances - BASE) for name in ("rank", "worker")}
    start = [child("ready", full, batches) for _ in range(rounds)]
    speeds = [child("speed", full, batches) for _ in range(rounds)]
    one, two = (median(found[name] for found in speeds) for name in ("one", "two"))
    files = [*(full / "data").glob("*.arrow"), *(full / "tokens").glob("*.arrow")]
    return {"utterances": utterances, "bytes_per_utterance": round(max(*grown.values(), 0.0), 1),
            "bytes_per_utterance_of_rank": round(grown["rank"], 1),
            "bytes_per_utterance_of_worker": round(grown["worker"], 1),
            "ready_seconds": round(median(found["ready"] for found in start), 2),
            "ready_cpu_seconds": round(median(found["cpu"] for found in start), 2),
            "resume_seconds": round(child("resume", full, batches)["resume"], 2),
            "tokens_per_second": [round(one), round(two)],
            "workers_ratio": round(median(found["ratio"] for found in speeds), 2),
            "workers_ratio_of_cpu_time": round(median(found["cpu_ratio"] for found in speeds), 2),
            "bytes_read": speeds[0]["read"], "bytes_share": speeds[0]["share"],
            "index_seconds": round(index_seconds, 1),
            "index_bytes_per_utterance": round(sum(file.stat().st_size for file in files) / utterances, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--utterances", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batches", type=int, default=600, help="of 8 rows of 1,024 tokens, in each round")
    parser.add_argument("--json", action="store_true", help="print nothing but the JSON object")
    parser.add_argument("--folder", type=Path, help="for the made-up data, which stay there for a second call")
    parser.add_argument("--child", choices=CHILDREN, help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        return print(json.dumps(CHILDREN[args.child](args.root, args.batches)))
    with tempfile.TemporaryDirectory() as folder:
        found = measure(args.folder or Path(folder), args.utterances, args.rounds, args.batches)
    if not args.json:
        for name, goal in GOALS.items():
            print(f"{name}: {found[name]} (goal {goal})")
    return print(json.dumps(found))


if __name__ == "__main__":
    main()
