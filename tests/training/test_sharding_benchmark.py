"""benchmarks/sharding.py on a small model: it trains in one and two processes and ends with its figures."""

import json
from pathlib import Path

import pytest
from prestarted import run_python

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "sharding.py"


def test_the_benchmark_prints_memory_and_the_same_losses_for_one_and_two_processes(tmp_path):
    result = run_python(BENCHMARK, "--processes", "1", "2", "--rounds", "1", "--vocabulary", "64", "--dim", "32",
                        "--layers", "2", "--hidden_dim", "48", "--tokens", "16", "--folder", tmp_path,
                        OMP_NUM_THREADS="1")
    assert result.returncode == 0, result.stderr
    *lines, last = result.stdout.splitlines()
    figures = json.loads(last)
    assert figures["ratio_2"] > 0 and figures["mib"].keys() == {"1", "2"}
    losses = [json.loads(line.partition("losses ")[2]) for line in lines if "losses" in line]
    assert len(losses) == 2 and losses[0] == pytest.approx(losses[1], abs=1e-4)
    assert list(tmp_path.iterdir()) == []
