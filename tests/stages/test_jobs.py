"""Work in parts by jobs: results of all items, failing and stopped jobs, launchers that do not exist."""

import json
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass

import numpy as np
import pytest
import soundfile
from prestarted import run_python
from waiting import LIMIT, wait_until

from audiopalm.core import lock
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.lock import locked
from audiopalm.stages.jobs import Launcher, run_jobs
from audiopalm.stages.write_audio import SpeechFile, WrittenAudio


@dataclass
class Unknown:
    """An item that is of no worker's kind."""

    no: str = "path"


def items(tmp_path, number: int) -> list[SpeechFile]:
    """Work for write_audio: files of growing length."""
    for index in range(number):
        soundfile.write(tmp_path / f"{index}.wav", np.full(100 + index, 0.1), 16000)
    return [SpeechFile(str(index), str(tmp_path / f"{index}.wav"), []) for index in range(number)]


def write(tmp_path, todo: list, jobs: int, command: str = "run.pl") -> list[WrittenAudio]:
    (tmp_path / "out").mkdir(exist_ok=True)
    launcher = Launcher(command, jobs, tmp_path / "jobs")
    return list(run_jobs(launcher, "write_audio", ["--audio_dir", str(tmp_path / "out")], todo, WrittenAudio, "files"))


@pytest.mark.usefixtures("prestarted_jobs")
@pytest.mark.parametrize(("number", "jobs", "expected"), [(7, 3, 3), (2, 5, 2), (1, 1, 1), (0, 2, 0)])
def test_every_item_has_its_result_and_no_job_is_empty(tmp_path, number, jobs, expected):
    results = write(tmp_path, items(tmp_path, number), jobs)
    assert [result.written for result in results] == [1] * number
    assert len(list((tmp_path / "jobs").glob("*.log"))) == expected
    for index in range(number):
        assert soundfile.info(tmp_path / "out" / f"{index}.flac").frames == 100 + index


@pytest.mark.usefixtures("prestarted_jobs")
def test_a_job_that_dies_is_an_error_and_the_tail_of_its_log_is_shown(tmp_path, capfd):
    todo = items(tmp_path, 3)
    with pytest.raises(AudioPaLMError, match=r"jobs of write_audio failed, their logs are .*/jobs/\*\.log"):
        write(tmp_path, [*todo, Unknown()], 2)
    assert "unexpected keyword argument 'no'" in capfd.readouterr().err
    assert (tmp_path / "out" / "0.flac").exists()


@pytest.mark.usefixtures("prestarted_jobs")
def test_a_path_may_hold_the_word_that_stands_for_the_job_number(tmp_path):
    """run.pl replaces the word in every argument."""
    folder = tmp_path / "JOB" / "JOB_"
    folder.mkdir(parents=True)
    assert len(write(folder, items(folder, 3), 2)) == 3
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["0.flac", "1.flac", "2.flac"]


def test_a_restarted_job_goes_on_after_its_last_complete_result(tmp_path):
    todo, done = tmp_path / "1.todo", tmp_path / "1.done"
    todo.write_text("".join(json.dumps(asdict(item)) + "\n" for item in items(tmp_path, 4)))
    done.write_text(json.dumps(asdict(WrittenAudio(written=7))) + '\n{"error": "", "wri')
    (tmp_path / "out").mkdir()
    result = run_python("-m", "audiopalm.bin.write_audio", "--audio_dir", tmp_path / "out", "--todo", todo,
                        "--done", done)
    assert result.returncode == 0, result.stderr
    assert [json.loads(line)["written"] for line in done.read_text().splitlines()] == [7, 1, 1, 1]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["1.flac", "2.flac", "3.flac"]


@pytest.mark.usefixtures("prestarted_jobs")
def test_two_runs_do_not_share_a_folder_of_jobs(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "GRACE_SECONDS", 0.1)
    with locked(tmp_path / "jobs", "decode_shards"), pytest.raises(AudioPaLMError, match="jobs is being written by"):
        write(tmp_path, items(tmp_path, 1), 1)
    (tmp_path / "jobs" / "q").mkdir(parents=True)
    (tmp_path / "jobs" / "7.done").write_text("of an earlier run")
    write(tmp_path, items(tmp_path, 1), 1)
    assert sorted(path.name for path in (tmp_path / "jobs").iterdir()) == ["1.done", "1.log", "1.todo"]


def test_an_unknown_launcher_is_named(tmp_path):
    with pytest.raises(AudioPaLMError, match="there is no program 'walk.pl'"):
        write(tmp_path, items(tmp_path, 1), 1, "walk.pl --mem 1G")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_command_stops_its_jobs(tmp_path, number):
    """The launcher is a script that records that it was asked to end."""
    script = tmp_path / "slow.sh"
    script.write_text("#!/usr/bin/env bash\ntrap 'touch \"$0.stopped\"; exit 1' TERM\ntouch \"$0.started\"\n"
                      "for _ in $(seq 6000); do sleep 0.1; done\n")
    script.chmod(0o755)
    for name in ("wav.scp", "text", "utt2spk"):
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / name).write_text({"wav.scp": f"a {items(tmp_path, 1)[0].path}\n"}.get(name, "a a\n"))
    process = subprocess.Popen(
        [sys.executable, "-m", "audiopalm.bin.format_audio", "--input", tmp_path / "data", "--output", tmp_path / "raw",
         "--audio_dir", tmp_path / "audio", "--cmd", str(script)], stderr=subprocess.PIPE, text=True)
    wait_until((tmp_path / "slow.sh.started").exists, process)
    process.send_signal(number)
    stderr = process.communicate(timeout=LIMIT)[1]
    assert process.returncode == (-9 if number == signal.SIGKILL else 130) and "Traceback" not in stderr
    wait_until((tmp_path / "slow.sh.stopped").exists)
    assert not (tmp_path / "raw").exists()
