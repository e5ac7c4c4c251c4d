"""Locks on output folders, held by real processes that are killed; partial files of dead processes."""

import os
import re
import signal
import subprocess
import sys
from contextlib import suppress

import pytest
from waiting import LIMIT

from audiopalm.core import lock
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import atomic_path
from audiopalm.core.lock import all_locked, locked
from audiopalm.core.partials import partial_path, remove_stale_partials

HOLD = """
import multiprocessing, os, sys, time
from audiopalm.core.files import atomic_path
from audiopalm.core.lock import locked

def live():
    print(os.getpid(), flush=True)
    time.sleep(600)

with locked(sys.argv[1], "training"), atomic_path(sys.argv[1] + "/model.safetensors") as partial:
    partial.write_text("half")
    multiprocessing.get_context("fork").Process(target=live).start()
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """A process with a half-written file and a forked child that holds the lock of tmp_path / "out"."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "out")], stdout=subprocess.PIPE, text=True)
    child = int(process.stdout.readline())
    yield process
    process.kill()
    process.wait()
    process.stdout.close()
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)


@pytest.fixture
def short_grace(monkeypatch):
    """A held lock is refused after a tenth of a second."""
    monkeypatch.setattr(lock, "GRACE_SECONDS", 0.1)


@pytest.mark.usefixtures("short_grace")
def test_a_second_process_is_refused_in_one_line(tmp_path, holder):
    with pytest.raises(AudioPaLMError) as error, locked(tmp_path / "out", "decode"):
        pass
    writer = re.escape(f"{tmp_path}/out is being written by process {holder.pid} on {os.uname().nodename}")
    assert re.fullmatch(rf"{writer} \(training, since \d{{4}}-\d\d-\d\d \d\d:\d\d\); wait for it, or stop it",
                        str(error.value))
    assert list((tmp_path / "out").glob(".model.*.partial.safetensors"))  # a living process still writes it


def test_a_dead_process_holds_no_lock_and_its_partial_file_is_removed(tmp_path, holder):
    """Its forked child lives on, as the workers of a data loader do for some seconds."""
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert list((tmp_path / "out").glob(".model.*.partial.safetensors"))
    with locked(tmp_path / "out", "training"):
        assert [path.name for path in (tmp_path / "out").iterdir()] == [".lock"]


def test_a_command_waits_for_a_holder_that_is_ending(tmp_path, holder, monkeypatch):
    """A run that is started again at once after a kill meets the lock of processes that are still going away."""
    pauses = []

    def end_holder(seconds):
        pauses.append(seconds)
        holder.kill()
        holder.wait()

    monkeypatch.setattr(lock, "GRACE_SECONDS", LIMIT)
    monkeypatch.setattr(lock.time, "sleep", end_holder)  # between two attempts
    with locked(tmp_path / "out", "training"):
        assert holder.returncode == -signal.SIGKILL and len(pauses) == 1


@pytest.mark.usefixtures("short_grace")
def test_a_released_lock_leaves_no_file(tmp_path):
    with locked(tmp_path / "out", "decode"), pytest.raises(AudioPaLMError), locked(tmp_path / "out", "decode"):
        pass
    assert not (tmp_path / "out").exists()
    with all_locked([tmp_path / "a", tmp_path / "b", tmp_path / "a"], "tokenize"):
        (tmp_path / "b" / "units.scp").write_text("")
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["b", "b/units.scp"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(AudioPaLMError, match=r"file cannot be written: File exists; "), locked(tmp_path / "file", "x"):
        pass


def test_partials_of_dead_processes_and_old_ones_of_other_hosts_are_removed(tmp_path):
    below, far = tmp_path / "snapshots" / "3", tmp_path / "a" / "b" / "c"
    below.mkdir(parents=True)
    far.mkdir(parents=True)
    (tmp_path / "text").write_text("")
    mine = partial_path(tmp_path / "text")
    own = f"{os.getpid()}-"
    later = mine.with_name(mine.name.replace(own, f"{own}1"))  # another process had this number before
    other = tmp_path / ".x.0123abcd-1-1.partial"
    old = below / ".pack.0123abcd-1-2.partial"
    old.mkdir()
    (old / "weights").write_text("")
    for path in (mine, later, other, far / ".x.0123abcd-1-1.partial"):
        path.write_text("")
    for path in (old, far / ".x.0123abcd-1-1.partial"):
        os.utime(path, (0, 0))
    remove_stale_partials(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"text", mine.name, other.name, "snapshots", "a"}
    assert list(below.iterdir()) == [] and list(far.iterdir())  # three levels below: not looked at


def test_atomic_path_names_its_partial_file_by_the_process(tmp_path):
    with atomic_path(tmp_path / "a.b.flac") as partial:
        assert partial == partial_path(tmp_path / "a.b.flac") and partial.suffix == ".flac"
        partial.write_text("whole")
    assert (tmp_path / "a.b.flac").read_text() == "whole"
