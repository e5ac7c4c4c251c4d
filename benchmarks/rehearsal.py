"""A rehearsal of egs/covost2 at full size, without its recordings and without a model.

    python benchmarks/rehearsal.py --fractions 0.01 0.1 --output rehearsal.md --json

The tables have CoVoST 2's true numbers of rows (21 languages into English), or a fraction of them, with artificial
texts and speakers. The commands of the recipe process them:

- stage 1 reads them; every clip is a hard link to one short sound
- stage 2 makes the audio of 300 utterances
- artificial tokens replace stage 5: 20,000 vectors, shared by all utterances
- stage 6 learns the text tokenizer
- the index is made, and a training opens it and reads 100 batches
- stage 10 plans and stores artificial answers to the 21 test sets
- stage 12 scores them and writes RESULTS.md, and stage 13 makes the page

It prints for each step seconds, CPU seconds, the peak memory of the largest process in MiB, the peak of its private
memory, that is, without mapped files, which processes share and the system can drop, and the number of files. From the
smallest and the largest fraction it computes the exponent with which CPU time grows with the rows (1: in proportion;
less if fixed costs matter), and the bytes of both peaks for each further row. The last line is one JSON object.

With --folder the files stay, and a second call goes on after the last finished step.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

Found = dict[str, dict[str, Any]]
REPOSITORY = Path(__file__).resolve().parents[1]


def steps(root: Path, fraction: float) -> list[tuple[str, list[object], Path | None]]:
    """(name, command without Python, folder whose files are counted); `make ...` are not steps of the recipe."""
    def child(name: str) -> list[object]:
        return [Path(__file__).with_name("rehearsal_steps.py"), name, root, fraction]

    def module(name: str, *arguments: object) -> list[object]:
        return ["-m", f"audiopalm.bin.{name}", *arguments]

    data, tokens, exp = root / "data", root / "tokens", root / "exp"
    return [
        ("make downloads", child("downloads"), root / "downloads"),
        ("1 data", module("prepare", "--corpus", "covost2", "--downloads", root / "downloads", "--output", data,
                          "--unpacked", root / "unpacked"), data),
        ("make a sample", child("sample"), None),
        ("2 audio, 300 utterances", module("format_audio", "--input", root / "sample", "--output",
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


def measured(command: list[object], folder: Path | None, root: Path) -> dict[str, float]:
    """Run one step: seconds, CPU seconds, MiB of its largest process and of its private memory, files."""
    began = time.monotonic()
    words = [sys.executable, *map(str, command)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "ARROW_DEFAULT_MEMORY_POOL": "system"}  # as path.sh
    with open(root / "log", "ab") as log:
        process = subprocess.Popen(words, cwd=root, stdout=log, stderr=log, env=environment)
        private, ended = 0, 0
        while not ended:
            time.sleep(0.005)
            private = max(private, private_kib(process.pid))
            ended, status, usage = os.wait4(process.pid, os.WNOHANG)
    if status:
        raise SystemExit(f"{' '.join(words)} failed:\n{(root / 'log').read_text()[-2000:]}")
    files = sum(len(names) for _, _, names in os.walk(folder)) if folder else 0
    return {"seconds": round(time.monotonic() - began, 1), "cpu": round(usage.ru_utime + usage.ru_stime, 1),
            "mib": round(usage.ru_maxrss / 1024), "private_mib": round(private / 1024), "files": files}


def private_kib(process: int) -> int:
    """The private memory of a process now, in KiB; 0 once it has ended."""
    with open(f"/proc/{process}/status", encoding="utf-8") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith("RssAnon:"))


def rehearse(fraction: float, root: Path) -> Found:
    """{"rows": numbers of rows, step: what it took} at a fraction of the rows; `root` is the folder for all files."""
    root.mkdir(parents=True, exist_ok=True)
    record = root / "found.json"
    found: Found = json.loads(record.read_text()) if record.exists() else {}
    for name, command, counted in steps(root, fraction):
        if name not in found:
            found[name] = measured(command, counted, root)
            print(f"{fraction:.1%} {name}: {found[name]}", file=sys.stderr, flush=True)
            record.write_text(json.dumps(found))
    return {"rows": json.loads((root / "rows.json").read_text()), **found}


def growth(first: Found, last: Found, step: str) -> tuple[float, float, float]:
    """From the smallest to the largest fraction: exponent of CPU time; bytes of peak memory and of private memory for
    each further row."""
    which = "test" if "test" in step or step == "13 page" else "all"
    rows, low, high = [found["rows"][which] for found in (first, last)], first[step], last[step]
    peak, private = ((high[key] - low[key]) * 2 ** 20 / max(rows[1] - rows[0], 1) for key in ("mib", "private_mib"))
    return math.log(high["cpu"] / max(low["cpu"], 0.01)) / max(math.log(rows[1] / rows[0]), 1e-9), peak, private


def as_markdown(found: dict[float, Found]) -> str:
    fractions = sorted(found)
    heads = [f"{fraction:.0%}: {name}" for fraction in fractions
             for name in ("s", "CPU s", "MiB", "private MiB", "files")]
    lines = [["step", *heads, "exponent", "bytes a row", "private bytes a row"]]
    for step in list(found[fractions[0]])[1:]:
        cells = [f"{found[fraction][step][key]:,}" for fraction in fractions
                 for key in ("seconds", "cpu", "mib", "private_mib", "files")]
        exponent, peak, private = growth(found[fractions[0]], found[fractions[-1]], step)
        lines.append([step, *cells, f"{exponent:.2f}", f"{peak:,.0f}", f"{private:,.0f}"])
    shown = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([shown[0], "|" + " --- |" * len(lines[0]), *shown[1:]]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fractions", type=float, nargs="*", default=[0.01, 0.1], help="of CoVoST 2's rows")
    parser.add_argument("--output", type=Path, help="file for the table, as Markdown")
    parser.add_argument("--json", action="store_true", help="print nothing but the JSON object")
    parser.add_argument("--with", dest="earlier", type=Path, nargs="*", default=[],
                        help="JSON objects of earlier runs with other fractions, to be put into the table")
    parser.add_argument("--folder", type=Path, help="for the files of each fraction, which stay there")
    args = parser.parse_args()
    found: dict[float, Found] = {}
    for path in args.earlier:
        found |= {float(fraction): one for fraction, one in json.loads(path.read_text())["fractions"].items()}
    for fraction in args.fractions:
        with tempfile.TemporaryDirectory() as folder:
            found[fraction] = rehearse(fraction, (args.folder or Path(folder)) / f"{fraction:g}")
    table = as_markdown(found)
    if args.output:
        args.output.write_text(table, encoding="utf-8")
    if not args.json:
        print(table)
    first, last = (found[fraction] for fraction in (min(found), max(found)))
    print(json.dumps({"fractions": found, "growth": {
        step: [round(value, 2) for value in growth(first, last, step)] for step in list(first)[1:]}}))


if __name__ == "__main__":
    main()
