"""Reading tables of CoVoST 2's size: by our code, and by pandas as the official get_covost_splits.py does.

    python -m pip install pandas && python benchmarks/read_covost2.py

Both read the same validated.tsv and covost_v2.fr_en.tsv and join them. `script` also writes the three tables of the
official script. `prepare` is our whole stage 1, which also checks every clip and writes the data directories. Each
round is a new process, so that memory is its own. The limit is the time of reading the bytes and splitting them into
cells in Python. The last line is JSON: {way: {"seconds", "work": seconds of one core, "mib"}}.
"""

import argparse
import csv
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]


def make(folder: Path, rows: int) -> None:
    """Tables of `rows` clips with the columns, widths and splits of the real ones; all clips are links to one file."""
    (folder / "clips").mkdir()
    (folder / "clip.mp3").write_bytes(b"not read in stage 1")
    words = [f"mot{number}" for number in range(5000)]
    draw = random.Random(0)
    with (open(folder / "validated.tsv", "w", encoding="utf-8") as clips,
          open(folder / "covost_v2.fr_en.tsv", "w", encoding="utf-8") as translations):
        clips.write("client_id\tpath\tsentence\tup_votes\tdown_votes\tage\tgender\taccent\n")
        translations.write("path\ttranslation\tsplit\n")
        for number in range(rows):
            speaker = f"{number % 9000:0128x}"
            sentence, translation = (" ".join(draw.choices(words, k=draw.randint(4, 16))) for _ in range(2))
            name = f"common_voice_fr_{17_000_000 + number}.mp3"
            os.symlink(folder / "clip.mp3", folder / "clips" / name)
            clips.write(f"{speaker}\t{name}\t{sentence}\t2\t0\t\t\t\n")
            translations.write(f"{name}\t{translation}\t{draw.choice(('train', 'train', 'dev', 'test'))}\n")


def ours(folder: Path) -> int:
    from audiopalm.corpora import common_voice, covost2
    from audiopalm.corpora.tables import Account

    accounts = [Account() for _ in covost2.SET_NAMES]
    rows = covost2.join({"en": covost2.read_table(folder / "covost_v2.fr_en.tsv", accounts)})
    clips = common_voice.read_clips(folder, "fr", rows.paths, accounts[0])
    return sum(speaker is not None for speaker in clips.speakers)


def prepare(folder: Path) -> int:
    from audiopalm.corpora import covost2
    from audiopalm.corpora.data_set import ReaderOptions

    report = covost2.prepare(ReaderOptions(folder, folder / "data", folder / "unpacked", ["fr"]))
    return sum(entry["kept"] for entry in report.values())


def joined(folder: Path):
    import pandas

    options = {"sep": "\t", "header": 0, "encoding": "utf-8", "escapechar": "\\", "quoting": csv.QUOTE_NONE,
               "na_filter": False}
    clips = pandas.read_csv(folder / "validated.tsv", **options)
    translations = pandas.read_csv(folder / "covost_v2.fr_en.tsv", **options)
    return pandas.merge(left=clips[["path", "sentence", "client_id"]],
                        right=translations[["path", "translation", "split"]], how="inner", on="path")


def pandas_way(folder: Path) -> int:
    return len(joined(folder))


def script(folder: Path) -> int:
    table = joined(folder)
    for split in ("train", "dev", "test"):
        table[table["split"] == split].to_csv(folder / f"{split}.tsv", sep="\t", header=True, index=False,
                                              encoding="utf-8", escapechar="\\", quoting=csv.QUOTE_NONE)
    return len(table)


def limit(folder: Path) -> int:
    count = 0
    for name in ("validated.tsv", "covost_v2.fr_en.tsv"):
        with open(folder / name, encoding="utf-8") as lines:
            for line in lines:
                count += len(line.split("\t")) > 2
    return count


WAYS = {"audiopalm": ours, "pandas": pandas_way, "script": script, "prepare": prepare, "limit": limit}


def measure(way: str, folder: Path) -> dict:
    """Seconds and peak MiB of one way, in this process; imports are not counted."""
    sys.path.insert(0, str(ROOT))
    if way in ("pandas", "script"):
        import pandas  # noqa: F401
    else:
        import audiopalm.corpora.covost2  # noqa: F401

    start, work = time.perf_counter(), time.process_time()
    rows = WAYS[way](folder)
    return {"seconds": time.perf_counter() - start, "work": time.process_time() - work, "rows": rows,
            "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)  # one measurement, in a process of its own
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        print(json.dumps(measure(arguments.way, arguments.folder)))
        return
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), arguments.rows)
        found: dict[str, list[dict]] = {way: [] for way in WAYS}
        for _ in range(arguments.rounds):
            for way in WAYS:
                command = [sys.executable, __file__, "--way", way, "--folder", folder]
                found[way].append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))
    print(f"{arguments.rows} rows, median of {arguments.rounds} rounds, interleaved, {os.cpu_count()} cores")
    middle = {way: {"seconds": median(one["seconds"] for one in rounds), "work": median(one["work"] for one in rounds),
                    "mib": max(one["mib"] for one in rounds)} for way, rounds in found.items()}
    for way, rounds in found.items():
        seconds, work = middle[way]["seconds"], middle[way]["work"]
        print(f"{way:10} {seconds:6.2f} s, {seconds / middle['pandas']['seconds']:5.2f} of pandas; "
              f"{work:6.2f} s of one core, {work / middle['pandas']['work']:5.2f} of pandas; "
              f"{middle[way]['mib']:5.0f} MiB, {rounds[0]['rows']} rows")
    print(json.dumps(middle))


if __name__ == "__main__":
    main()
