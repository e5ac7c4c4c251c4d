"""benchmarks/rehearsal.py measures the memory of a step, goes on after a failed step, and shows how memory grows."""

import importlib.util
import json
from pathlib import Path

import pytest

PATH = Path(__file__).resolve().parents[2] / "benchmarks" / "rehearsal.py"
SPEC = importlib.util.spec_from_file_location("benchmark_rehearsal", PATH)
rehearsal = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(rehearsal)


def test_memory_of_a_step_is_measured_and_finished_steps_are_not_repeated(tmp_path, monkeypatch):
    """The private memory is that of 40 MiB in use, without the pages of a mapped file of 30 MiB."""
    command = ("import mmap, os, time; open('big', 'wb').write(bytes(30 << 20)); file = open('big', 'rb');"
               " mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ); sum(mapped[::4096]);"
               " used = bytearray(b'x' * (40 << 20))\nwhile not os.path.exists('seen'): time.sleep(0.01)")
    read = rehearsal.private_kib

    def private_kib(process: int) -> int:
        """As the function of the benchmark; the step waits until it was called."""
        if (kib := read(process)) >= 40 << 10:
            (tmp_path / "seen").touch()
        return kib

    monkeypatch.setattr(rehearsal, "private_kib", private_kib)
    commands = [("big", ["-c", command], tmp_path), ("last", ["-c", "raise SystemExit('no')"], None)]
    monkeypatch.setattr(rehearsal, "steps", lambda root, fraction: commands)
    with pytest.raises(SystemExit, match="failed"):
        rehearsal.rehearse(0.5, tmp_path)
    found = json.loads((tmp_path / "found.json").read_text())
    assert list(found) == ["big"] and found["big"]["mib"] - found["big"]["private_mib"] >= 30
    assert 40 <= found["big"]["private_mib"] < 130

    (tmp_path / "rows.json").write_text('{"all": 10, "test": 5}')
    commands[0], commands[1] = ("big", ["-c", "raise SystemExit('again')"], None), ("last", ["-c", ""], None)
    both = rehearsal.rehearse(0.5, tmp_path)
    assert both["big"] == found["big"] and both["rows"] == {"all": 10, "test": 5} and "last" in both


def test_growth_is_that_of_the_rows():
    small = {"rows": {"all": 100, "test": 10}, "index": {"cpu": 1.0, "mib": 90, "private_mib": 50}}
    large = {"rows": {"all": 10_000, "test": 1000}, "index": {"cpu": 100.0, "mib": 110, "private_mib": 51}}
    exponent, peak, private = rehearsal.growth(small, large, "index")
    assert exponent == pytest.approx(1) and peak == pytest.approx(20 * 2 ** 20 / 9900)
    assert private == pytest.approx(peak / 20)
