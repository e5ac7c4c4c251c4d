"""Stages 1 and 2 as a user runs them, and the checks that every data directory of stage 1 must pass."""

import hashlib
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

from prestarted import run_python

from audiopalm.core.files import read_json
from audiopalm.data.audio import read_audio
from audiopalm.data.datadir import read_table

AWKWARD = "mes données"  # a space and a letter outside ASCII


def prepare(corpus: str, downloads: Path, output: Path, *more: str,
            before: Path | None = None) -> subprocess.CompletedProcess:
    """Run stage 1; modules in the folder `before` hide installed ones."""
    command = ["-m", "audiopalm.bin.prepare", "--corpus", corpus, "--downloads", str(downloads), "--output",
               str(output), "--max_drop", "0.9", *more]
    if before is None:
        return run_python(*command, LC_ALL="C")
    # A new Python: the prestarted one has imported packages already.
    path = os.pathsep.join(filter(None, [str(before), os.environ.get("PYTHONPATH", "")]))
    return subprocess.run([sys.executable, *command], text=True, capture_output=True,
                          env={**os.environ, "LC_ALL": "C", "PYTHONPATH": path})


def format_audio(directory: Path, output: Path, *more: str) -> dict[str, str]:
    """Run stage 2 into `output`, its FLAC files into `output`/audio; return {utterance: reason of its removal}."""
    result = run_python("-m", "audiopalm.bin.format_audio", "--input", directory, "--output", output,
                        "--audio_dir", output / "audio", "--max_drop", "0.9", *more)
    assert result.returncode == 0, result.stderr
    return {key: reason for key, _, reason in read_reasons(output / "removed.tsv")}


def errors_of(result: subprocess.CompletedProcess) -> str:
    assert result.returncode == 1 and "Traceback" not in result.stderr, result.stderr
    return [line for line in result.stderr.splitlines() if "error:" in line][-1]


def snapshot(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def read_reasons(path: Path) -> list[list[str]]:
    """The rows of dropped.tsv or lacking.tsv; a name may hold U+2028, which ends no row."""
    return [line.split("\t") for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


def check_set(directory: Path, texts: dict[str, str], dropped: dict[str, int], silent: tuple[str, ...] = ()) -> None:
    """Check ids, their order, texts by the end of the id, the report, and all other tables of a directory.

    All its recordings must be readable, except those whose ids end with one of `silent`.
    """
    text, report = read_table(directory / "text"), read_json(directory / "report.json")
    ids = list(text)
    assert ids == sorted(ids, key=str.encode)
    expected = {name.removesuffix(".mp3").removesuffix(".wav"): value for name, value in texts.items()}
    assert {next(name for name in expected if key.endswith(name)): value for key, value in text.items()} == expected
    assert report["kept"] == len(text) and report["dropped"] == dropped
    assert report["rows"] == len(text) + sum(dropped.values())
    assert report["ids_sha256"] == hashlib.sha256("".join(f"{key}\n" for key in ids).encode()).hexdigest()
    names, reasons = zip(*read_reasons(directory / "dropped.tsv"), strict=True) if dropped else ((), ())
    assert all(names) and Counter(reasons) == dropped
    speakers = read_table(directory / "utt2spk")
    assert list(speakers) == ids == list(read_table(directory / "utt2lang")) == list(read_table(directory / "wav.scp"))
    assert list(speakers.values()) == sorted(speakers.values(), key=str.encode)
    assert all(key.startswith(speaker) for key, speaker in speakers.items())
    assert report["speakers"] == len(read_table(directory / "spk2utt"))
    for key, path in read_table(directory / "wav.scp").items():
        if not key.endswith(silent):
            assert len(read_audio(path)) >= 12800
