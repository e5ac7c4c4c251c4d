"""Ranks end with their torchrun, workers of pools and data loaders with their parent, also after a real SIGKILL."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import wait_until

from audiopalm.core import processes
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.processes import start_time

RANK = """
import os, sys, time
from pathlib import Path
from audiopalm.core.command import run

def main():
    Path(sys.argv[1], os.environ["RANK"]).write_text(str(os.getpid()))
    time.sleep(600)

if __name__ == "__main__":
    run(main)
"""
WORKERS = """
import sys, time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from audiopalm.core.processes import end_worker_with_parent

if __name__ == "__main__":
    with ProcessPoolExecutor(2, get_context(sys.argv[1]), initializer=end_worker_with_parent) as pool:
        list(pool.map(time.sleep, [0.2] * 4))
        print(*pool._processes, flush=True)
        time.sleep(600)
"""


def ranks_of(folder: Path, process: subprocess.Popen) -> list[int]:
    wait_until(lambda: all((folder / name).exists() and (folder / name).read_text() for name in "01"), process)
    return [int((folder / name).read_text()) for name in "01"]


def torchrun(tmp_path) -> list[str]:
    (tmp_path / "rank.py").write_text(RANK)
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2",
            str(tmp_path / "rank.py"), str(tmp_path)]


def test_ranks_end_when_their_torchrun_is_killed(tmp_path):
    process = subprocess.Popen(torchrun(tmp_path), stderr=subprocess.PIPE, text=True)
    ranks = ranks_of(tmp_path, process)
    assert all(map(start_time, ranks))
    process.kill()
    process.wait()
    process.stderr.close()
    wait_until(lambda: not any(map(start_time, ranks)))


def test_a_rank_whose_torchrun_has_ended_says_so_in_one_line(monkeypatch):
    """The rank was still importing when torchrun ended. In a container torchrun itself may be process 1."""
    first = [b"/sbin/init\0"]
    monkeypatch.setattr(Path, "read_bytes", lambda path: first[0])
    monkeypatch.setattr(os, "getppid", lambda: 1)
    monkeypatch.setattr(processes, "end_with_parent", lambda number: None)  # of pytest itself
    processes.end_with_torchrun()  # this process is not a rank
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    with pytest.raises(AudioPaLMError, match="torchrun has ended before this rank could start"):
        processes.end_with_torchrun()
    first[0] = b"/usr/bin/python\0/usr/bin/torchrun\0--nproc_per_node\08\0"
    processes.end_with_torchrun()


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_workers_end_when_their_parent_is_killed(tmp_path, method):
    (tmp_path / "pool.py").write_text(WORKERS)
    process = subprocess.Popen([sys.executable, tmp_path / "pool.py", method], stdout=subprocess.PIPE, text=True)
    workers = list(map(int, process.stdout.readline().split()))
    assert workers and all(map(start_time, workers))
    process.kill()
    process.wait()
    wait_until(lambda: not any(map(start_time, workers)))
