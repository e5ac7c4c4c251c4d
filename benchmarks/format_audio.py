"""Seconds of stage 2 with 1, 2, 4 ... jobs.

    python benchmarks/format_audio.py --most_jobs 2

All numbers of jobs run alternately, for several rounds. On n idle cores, n jobs are at most n times as fast. The
decoder alone (libsndfile through soundfile, one process, no resampling and no writing) is measured too. The last line
is JSON: {"decoding": seconds, "jobs": {number of jobs: seconds}}.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import soundfile

ROOT = Path(__file__).resolve().parents[1]


def make(folder: Path, files: int) -> None:
    """A data directory of `files` mp3 at 48 kHz of 3 to 8 s, like Common Voice."""
    random = np.random.default_rng(0)
    (folder / "clips").mkdir(parents=True)
    tables = {"wav.scp": [], "text": [], "utt2spk": [], "utt2lang": []}
    for number in range(files):
        name, path = f"a-{number:05d}", folder / "clips" / f"{number:05d}.mp3"
        samples = np.cumsum(random.normal(0, 0.01, round(random.uniform(3, 8) * 48000)))
        samples = 0.3 * (samples - samples.mean()) / np.abs(samples).max()
        with soundfile.SoundFile(path, "w", 48000, 1, format="MP3", subtype="MPEG_LAYER_III") as file:
            file.write(samples)
        for table, value in (("wav.scp", path), ("text", "words"), ("utt2spk", "a"), ("utt2lang", "fr")):
            tables[table].append(f"{name} {value}\n")
    (folder / "data").mkdir()
    for table, lines in tables.items():
        (folder / "data" / table).write_text("".join(lines))


def stage2(folder: Path, output: Path, jobs: int) -> float:
    """Seconds of the command, including the start of its processes."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "audiopalm.bin.format_audio", "--input", folder / "data", "--output",
                    output / "raw", "--audio_dir", output / "audio", "--nj", str(jobs)], check=True,
                   capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"})
    return time.perf_counter() - start


def decode(folder: Path) -> float:
    start = time.perf_counter()
    for path in sorted((folder / "clips").iterdir()):
        soundfile.read(path, dtype="float32")
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=600)
    parser.add_argument("--most_jobs", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    numbers = [jobs for jobs in (1, 2, 4, 8, 16, 32) if jobs <= arguments.most_jobs]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make(folder, arguments.files)
        hours = sum(soundfile.info(path).duration for path in (folder / "clips").iterdir()) / 3600
        found: dict[int, list[float]] = {jobs: [] for jobs in [0, *numbers]}
        for turn in range(arguments.rounds):
            found[0].append(decode(folder))
            for jobs in numbers:
                found[jobs].append(stage2(folder, folder / f"{turn}-{jobs}", jobs))
    seconds = {jobs: median(values) for jobs, values in found.items()}
    print(f"{arguments.files} mp3 of 48 kHz, {hours:.2f} h, median of {arguments.rounds} rounds, interleaved, "
          f"{os.cpu_count()} cores")
    print(f"decoding alone  {seconds[0]:6.2f} s")
    for jobs in numbers:
        print(f"{jobs:2} jobs         {seconds[jobs]:6.2f} s, {seconds[jobs] / seconds[0]:.2f} of decoding alone, "
              f"{seconds[1] / seconds[jobs]:.2f} times as fast as 1 job")
    print(json.dumps({"decoding": seconds.pop(0), "jobs": seconds}))


if __name__ == "__main__":
    main()
