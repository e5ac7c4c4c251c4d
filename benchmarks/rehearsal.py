"""A rehearsal of egs/covost2 at full size, without its recordings and without a model.

    python benchmarks/rehearsal.py --fractions 0.01 0.1 --output rehearsal.md --json

Tables with CoVoST 2's true numbers of rows (21 languages into English), or a fraction of them, with made-up texts and
speakers, go through the commands of the recipe: stage 1 reads them (every clip is a hard link to one short sound),
stage 2 makes the audio of 300 utterances, the tokens of stage 5 are made up (20,000 vectors, shared by all utterances),
stage 6 learns the text tokenizer, the index is made, a training opens it and reads 100 batches, stage 10 keeps the
books of made-up answers to the 21 test sets, stage 12 scores them and writes RESULTS.md, stage 13 makes the page.

For each step: seconds, CPU seconds, the largest process in MiB, and the files that it leaves. Between the smallest and
the largest fraction: the exponent with which CPU time grows with the rows (1: in proportion; less where a fixed cost
counts), and bytes of peak memory for each further row. The last line is one JSON object.
"""

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from audiopalm.core.config import to_dict
from audiopalm.core.files import write_json, write_text
from audiopalm.corpora.covost2 import INTO_ENGLISH, PUBLISHED, short_code
from audiopalm.data.archive import write_ark
from audiopalm.data.audio import write_audio
from audiopalm.data.datadir import read_table, write_table
from audiopalm.data.example_set import read_set
from audiopalm.lm.generation.config import DecodingConfig
from audiopalm.lm.mixture import MixtureEntry
from audiopalm.lm.trained import TrainedTask
from audiopalm.lm.training import BatchConfig, LMConfig, read_data
from audiopalm.stages import decode as decoding
from audiopalm.stages.decode_record import write_record
from audiopalm.vocabulary.joint import load_vocabulary

SETS = ("train", "dev", "test")
VECTORS, UNITS, LINKS = 20_000, 1024, 30_000
SAMPLE = 300  # utterances of stage 2
ROWS_A_SPEAKER = 15
REPOSITORY = Path(__file__).resolve().parents[1]


def counts(language: str, fraction: float) -> list[int]:
    """Rows of train, dev and test."""
    return [max(round(rows * fraction), 2) for rows in PUBLISHED[language]]


def words() -> list[str]:
    random = np.random.default_rng(0)
    syllables = ["".join(pair) for pair in zip(random.choice(list("bcdfghklmnprstvz"), 80),
                                               random.choice(list("aeiou"), 80), strict=True)]
    return ["".join(random.choice(syllables, size)) for size in random.integers(1, 5, 8000)]


def make_downloads(root: Path, fraction: float) -> None:
    """Common Voice and CoVoST 2 as stage 1 reads them."""
    random, lexicon = np.random.default_rng(1), np.array(words())
    sound = root / "sound.mp3"
    write_audio(root / "sound.wav", np.sin(np.arange(16000) / 9).astype(np.float32) / 3)
    shutil.copy(root / "sound.wav", sound)  # libsndfile reads what is inside
    for language in INTO_ENGLISH:
        folder = root / "downloads" / "cv-corpus-4-2019-12-10" / language
        (folder / "clips").mkdir(parents=True)
        validated = ["client_id\tpath\tsentence\tup_votes\tdown_votes\tage\tgender\taccent"]
        covost = ["path\ttranslation\tsplit"]
        number = 0
        for split, rows in zip(SETS, counts(language, fraction), strict=True):
            for _ in range(rows):
                name = f"common_voice_{language}_{17_000_000 + number}.mp3"
                source, target = (" ".join(lexicon[random.zipf(1.3, random.integers(4, 15)) % len(lexicon)])
                                  for _ in range(2))
                validated.append(f"{number // ROWS_A_SPEAKER:0128x}\t{name}\t{source}.\t2\t0\t\t\t")
                covost.append(f"{name}\t{target}.\t{split}")
                if number % LINKS == 0:
                    shutil.copy(sound, folder / "clips" / name)
                    linked = folder / "clips" / name
                else:
                    os.link(linked, folder / "clips" / name)
                number += 1
        write_text(folder / "validated.tsv", "\n".join(validated) + "\n")
        write_text(root / "downloads" / f"covost_v2.{language}_en.tsv", "\n".join(covost) + "\n")


def make_tokens(root: Path, fraction: float) -> None:
    """What stage 5 leaves, with vectors that the utterances share."""
    random = np.random.default_rng(2)
    for name in SETS:
        folder = root / "tokens" / name
        vectors = {f"{number:05d}": random.integers(0, UNITS, length) for number, length in enumerate(
            random.integers(60, 200, VECTORS if name == "train" else 1000).tolist())}
        entries = list(write_ark(folder / "units.ark", vectors).values())
        with open(root / "data" / name / "utt2lang", encoding="utf-8") as table, open(
                folder / "units.scp", "w", encoding="utf-8") as scp:
            for number, line in enumerate(table):
                scp.write(f"{line.split()[0]} {entries[number % len(entries)]}\n")
        write_json(folder / "meta.json", {"units_rate": 25, "units_size": UNITS, "units_sha256": "made up"})


def make_sample(root: Path, fraction: float) -> None:
    """The first utterances of the test set, as utils/subset_data_dir.sh takes them."""
    for name in ("wav.scp", "text", "text.en", "utt2lang", "utt2spk"):
        rows = dict(list(read_table(root / "data" / "test" / name).items())[:SAMPLE])
        write_table(root / "sample" / name, rows)


def load(root: Path, fraction: float) -> None:
    """Open a training's data and read 100 batches."""
    sets = [(root / "data" / name, root / "tokens" / name) for name in ("train", "dev")]
    data = read_data(root / "vocabulary", *sets, None)
    config = LMConfig([MixtureEntry(task) for task in ("asr", "ast", "asr+ast", "mt")], BatchConfig(8, 1024))
    mixture = data.mixture(config, data.examples, 0)
    for number in range(100):
        mixture.batch(number)


def keep_books(root: Path, fraction: float) -> None:
    """Stage 10 without its model: the plan, shards of made-up answers, and all tables of every folder."""
    vocabulary, tokenizer = load_vocabulary(root / "vocabulary")
    examples = read_set(root / "data" / "test", root / "tokens" / "test")
    trained = [TrainedTask("ast", short_code(language), "en") for language in INTO_ENGLISH]
    planned, output = {}, root / "exp" / "decode" / "test"
    for job in decoding.plan(decoding.DecodeConfig([decoding.DecodeEntry("ast")]), examples, "test", trained):
        meta = {"task": "ast", "source": job.source, "target": "en", "tag": job.task.tag_text(job.source, "en"),
                "decoding": to_dict(DecodingConfig()) | {"seed": 0}, "set": "test", "model_sha256": "0" * 64,
                "vocabulary_hash": vocabulary.layout_hash, "model_seed": 0}
        folder = decoding.Folder(output / job.name, meta, job, examples)
        planned[job.name] = folder.meta
        shards = folder.shards(64)
        for shard in shards:
            answers = {}
            for name in shard.utterances:
                said = examples.example(name, {"translation"}, "en").fields["translation"].split()
                ids = tokenizer.encode(" ".join(said[:-1] if len(name) % 2 else said))
                answers[name] = [{"parts": [ids], "truncated": False, "score": -1.0}]
            write_json(shard.path, {"meta": folder.meta, "seconds": 1.0, "answers": answers})
        folder.finish(shards, vocabulary, tokenizer)
    write_record(output, planned)


CHILDREN: dict[str, Callable[[Path, float], None]] = {
    "downloads": make_downloads, "tokens": make_tokens, "sample": make_sample, "loader": load, "books": keep_books}


def steps(root: Path) -> list[tuple[str, list[object], Path | None]]:
    """(name, command without Python, folder whose files are counted); those named `make ...` are not the recipe's."""
    def child(name: str) -> list[object]:
        return [__file__, "--step", name, "--root", root]

    def module(name: str, *arguments: object) -> list[object]:
        return ["-m", f"audiopalm.bin.{name}", *arguments]

    data, tokens, exp = root / "data", root / "tokens", root / "exp"
    return [
        ("make downloads", child("downloads"), root / "downloads"),
        ("1 data", module("prepare", "--corpus", "covost2", "--downloads", root / "downloads", "--output", data,
                          "--unpacked", root / "unpacked"), data),
        ("make sample", child("sample"), None),
        (f"2 audio, {SAMPLE} utterances", module("format_audio", "--input", root / "sample", "--output",
                                                 root / "raw_sample", "--audio_dir", root / "audio", "--nj", 1),
         root / "audio"),
        ("make tokens", child("tokens"), tokens),
        ("6 vocabulary", module("make_vocabulary", "--data_dir", data / "train", "--tokens", tokens / "train",
                                "--output", root / "vocabulary", "text_size=4000"), root / "vocabulary"),
        ("index", module("make_index", "--data_dir", data / "train", "--tokens", tokens / "train", "--vocabulary",
                         root / "vocabulary"), None),
        ("8 loader, 100 batches", child("loader"), None),
        ("10 bookkeeping, test", child("books"), exp / "decode"),
        ("12 score, test", module("score", "--decode_dir", exp / "decode", "--data_dir", data, "--output",
                                  exp / "score", "--results", exp / "results.json", "--report", exp / "RESULTS.md",
                                  "--recipe", "covost2", "--translations", "none"), exp / "score"),
        ("13 page", module("report", "--expdir", exp, "--data_dir", data, "--results", exp / "results.json",
                           "--recipe", "covost2", "--output", exp / "report", "--no_attention"), exp / "report"),
    ]


def measured(command: list[object], folder: Path | None, root: Path, fraction: float) -> dict[str, float]:
    """Run one step: seconds, CPU seconds, MiB of its largest process, files."""
    began = time.monotonic()
    words = [sys.executable, *map(str, command)]
    if "--step" in words:
        words += ["--fraction", str(fraction)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with open(root / "log", "ab") as log:
        process = subprocess.Popen(words, cwd=root, stdout=log, stderr=log, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(words)} failed:\n{(root / 'log').read_text()[-2000:]}")
    files = sum(len(names) for _, _, names in os.walk(folder)) if folder else 0
    return {"seconds": round(time.monotonic() - began, 1), "cpu": round(usage.ru_utime + usage.ru_stime, 1),
            "mib": round(usage.ru_maxrss / 1024), "files": files}


def rehearse(fraction: float) -> dict[str, dict[str, float]]:
    """{step: what it took} at a fraction of the rows."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        found = {}
        for name, command, counted in steps(root):
            found[name] = measured(command, counted, root, fraction)
            print(f"{fraction:.0%} {name}: {found[name]}", file=sys.stderr, flush=True)
        return found


def rows_of(fraction: float, test_only: bool) -> int:
    return sum(sum(counts(language, fraction)[2 if test_only else 0:]) for language in INTO_ENGLISH)


def growth(fractions: list[float], found: dict[float, dict[str, dict[str, float]]], step: str) -> tuple[float, float]:
    """Between the smallest and the largest fraction: exponent of CPU time, bytes of peak memory for each row."""
    first, last = fractions[0], fractions[-1]
    test_only = "test" in step or step == "13 page"
    rows = [rows_of(fraction, test_only) for fraction in (first, last)]
    low, high = found[first][step], found[last][step]
    return (math.log(high["cpu"] / max(low["cpu"], 0.01)) / math.log(rows[1] / rows[0]),
            (high["mib"] - low["mib"]) * 2 ** 20 / (rows[1] - rows[0]))


def as_markdown(fractions: list[float], found: dict[float, dict[str, dict[str, float]]]) -> str:
    heads = [f"{fraction:.0%}: {name}" for fraction in fractions for name in ("s", "CPU s", "MiB", "files")]
    lines = [["step", *heads, "exponent", "bytes a row"]]
    for step in found[fractions[0]]:
        cells = [f"{found[fraction][step][key]:,}" for fraction in fractions
                 for key in ("seconds", "cpu", "mib", "files")]
        exponent, memory = growth(fractions, found, step) if len(fractions) > 1 else (math.nan, math.nan)
        lines.append([step, *cells, f"{exponent:.2f}", f"{memory:,.0f}"])
    shown = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([shown[0], "|" + " --- |" * len(lines[0]), *shown[1:]]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fractions", type=float, nargs="+", default=[0.01, 0.1], help="of CoVoST 2's rows")
    parser.add_argument("--output", type=Path, help="file for the table, as Markdown")
    parser.add_argument("--json", action="store_true", help="print nothing but the JSON object")
    parser.add_argument("--step", choices=CHILDREN, help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--fraction", type=float, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.step:
        return CHILDREN[args.step](args.root, args.fraction)
    fractions = sorted(args.fractions)
    found = {fraction: rehearse(fraction) for fraction in fractions}
    table = as_markdown(fractions, found)
    if args.output:
        write_text(args.output, table)
    if not args.json:
        print(table)
    result = {"rows": {fraction: rows_of(fraction, False) for fraction in fractions}, "steps": found}
    if len(fractions) > 1:
        result["growth"] = {step: [round(value, 2) for value in growth(fractions, found, step)]
                            for step in found[fractions[0]]}
    return print(json.dumps(result))


if __name__ == "__main__":
    main()
