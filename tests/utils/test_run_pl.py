"""utils/run.pl: arguments, the log, failures, parallel jobs, signals."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from schedulers import DATE, ROOT, WAIT_FOR_OTHERS, output
from waiting import LIMIT, wait_until

RUN = ROOT / "utils/run.pl"
ECHO = [sys.executable, "-c", "import json, sys; print(json.dumps(sys.argv[1:]))"]
ODD = ["a  b", "it's", '"q"', "$HOME", "`id`", "\\", "*", "~", "", "<unk>", "a;b", "A=b", "#", "ü 中",
       "line\nline", "--x=y", "(", "!", "{a,b}", "|x"]


def run(folder, *arguments, code=0, **environment):
    result = subprocess.run([RUN, *map(str, arguments)], cwd=folder, text=True, capture_output=True, timeout=LIMIT,
                            env={**os.environ, **environment})
    assert result.returncode == code, result.stderr
    assert result.stdout == "" and (code != 0 or result.stderr == "")
    return result.stderr


def most_at_once(spans) -> int:
    """Largest number of (start, end) spans that share a moment."""
    return max(sum(start <= moment < end for start, end in spans) for moment, _ in spans)


def processes_of_session(session: int) -> list[str]:
    processes = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            processes.append(stat.parent.name)
    return processes


def test_the_log_has_the_command_times_and_the_exit_code(tmp_path):
    (tmp_path / "new").mkdir()
    (tmp_path / "new/log").write_text("of an earlier call\n")
    run(tmp_path, "--num-threads", 3, "new/log", "sh", "-c", "echo out; sleep 1; echo err >&2")
    assert re.fullmatch(rf"# sh -c 'echo out; sleep 1; echo err >&2'\n# Started at {DATE}\nout\nerr\n"
                        rf"# Accounting: time=[1-9]\d* threads=3\n# Ended \(code 0\) at {DATE}\n",
                        (tmp_path / "new/log").read_text())
    run(tmp_path, "deep/er/log", "false", code=1)
    assert "# Ended (code 1) at" in (tmp_path / "deep/er/log").read_text()


def test_arguments_arrive_as_they_are(tmp_path):
    run(tmp_path, "log", *ECHO, *ODD)
    assert json.loads(output(tmp_path / "log")) == ODD
    run(tmp_path, "JOB=2:3", "log.JOB", *ECHO, "JOB", "a 'JOB' $JOB", "xJOBy_JOB")
    assert json.loads(output(tmp_path / "log.3")) == ["3", "a '3' $3", "x3y_3"]
    long = ["x" * 50_000 for _ in range(8)]  # together they are longer than one argument of a process may be
    run(tmp_path, "log", *ECHO, *long)
    assert json.loads(output(tmp_path / "log")) == long


def test_operators_as_arguments_stay_operators(tmp_path):
    run(tmp_path, "log", "printf", "b\\na\\n", "|", "sort", ">", "sorted", "&&", "echo", "yes", "||", "echo", "no", ";",
        "cat", "<", "sorted", ";", "echo", "c", ">>", "sorted", ";", "sh", "-c", "echo x >&2", "2>&1", "|", "wc", "-l")
    assert (tmp_path / "sorted").read_text() == "a\nb\nc\n"
    assert output(tmp_path / "log").split() == ["yes", "a", "b", "1"]
    assert "status 1," in run(tmp_path, "log", "false", "|", "cat", code=1)  # pipefail
    # As Kaldi's scripts write them: a redirection with its file, the number of a job from 0, a variable of the command.
    run(tmp_path, "JOB=1:2", "log.JOB", "WORDS=a b", "sh", "-c", 'echo "$WORDS" $0', "$[JOB-1]", ">&", "out.JOB")
    assert [(tmp_path / f"out.{number}").read_text() for number in (1, 2)] == ["a b 0\n", "a b 1\n"]
    run(tmp_path, "log", "sh", "-c", "echo x >&2; echo y", ">joined", "2>/dev/null")
    assert (tmp_path / "joined").read_text() == "y\n" and output(tmp_path / "log") == ""


def test_a_single_argument_is_a_shell_line(tmp_path):
    run(tmp_path, "log", "x=4; echo $((x + 1)) | cat; echo $log; exit 0; echo not", log="ours")
    assert output(tmp_path / "log") == "5\nours\n"  # the launcher leaves exported variables alone
    run(tmp_path, "JOB=1:2", "log.JOB", "echo 'JOB'")
    assert output(tmp_path / "log.2") == "2\n"
    assert "status 3," in run(tmp_path, "log", "exit 3", code=1)
    assert "status 137," in run(tmp_path, "log", "sh", "-c", "kill -9 $$", code=1)
    assert "failed with status" in run(tmp_path, "log", "echo 'open", code=1)
    run(tmp_path, "log", "cat")  # standard input is empty
    assert output(tmp_path / "log") == ""


def test_ranges_and_the_options_of_all_launchers_are_accepted(tmp_path):
    run(tmp_path, "--mem", "4G", "JOB=1:3", "--gpu", 1, "--time", "1:00", "--max_jobs_run", 2, "--num_threads", 2,
        "--odd", "x", "--config", "none", "d.JOB/JOB.log", "echo", "JOB")
    for number in range(1, 4):
        assert output(tmp_path / f"d.{number}/{number}.log") == f"{number}\n"
        assert "threads=2\n" in (tmp_path / f"d.{number}/{number}.log").read_text()
    run(tmp_path, "-V", "-l", "mem_free=2G", "-pe", "smp", 4, "-sync", "y", "-tc", 1, "JOB=3", "log.JOB", "echo", "JOB")
    assert output(tmp_path / "log.3") == "3\n"
    run(tmp_path, "part=2:2", "log", "echo", "part", "JOB")
    assert output(tmp_path / "log") == "2 JOB\n"


@pytest.mark.parametrize(("arguments", "message"), [
    ([], r"Usage: run\.pl .*"),
    (["log"], r"Usage: run\.pl .*"),
    (["JOB=1:2", "log.JOB"], r"Usage: run\.pl .*"),
    (["JOB=3:2", "log.JOB", "true"], "run.pl: error: empty range JOB=3:2"),
    (["JOB=1:", "log.JOB", "true"], "run.pl: error: bad range JOB=1:; wanted JOB=FIRST:LAST"),
    (["JOB=", "log.JOB", "true"], "run.pl: error: bad range JOB=; .*"),
    (["JOB=a:b", "log.JOB", "true"], "run.pl: error: bad range JOB=a:b; .*"),
    (["JOB=1:2", "log", "true"], "run.pl: error: log has no JOB in it.*"),
    (["--mem"], "run.pl: error: --mem has no value"),
    (["--mem", "--gpu", "1", "log", "true"], "run.pl: error: --mem has no value"),
    (["--mem=4G", "log", "true"], "run.pl: error: unknown option --mem=4G; .*"),
    (["-3", "log", "true"], "run.pl: error: unknown option -3; .*"),
    (["-l", "--mem", "log", "true"], "run.pl: error: -l has no value"),
    (["--max-jobs-run", "0", "log", "true"], "run.pl: error: --max-jobs-run takes a number from 1 on"),
    (["--num-threads", "x", "log", "true"], "run.pl: error: --num-threads takes a number from 1 on"),
    (["folder", "touch", "done"], r"run\.pl: error: cannot write the log folder: Is a directory"),
    (["file/log", "touch", "done"], r"run\.pl: error: cannot .*file.*"),
    (["JOB=1:2", "here/JOB", "touch", "done"], r"run\.pl: error: cannot write the log here/2: Is a directory"),
])
def test_errors_are_one_line_and_nothing_runs(tmp_path, arguments, message):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "here/2").mkdir(parents=True)
    assert re.fullmatch(message + "\n", run(tmp_path, *arguments, code=1))
    assert not (tmp_path / "done").exists()


def test_a_failure_is_reported_with_the_end_of_the_log(tmp_path):
    tail = "".join(f"{number}\n" for number in range(21, 31))
    assert run(tmp_path, "log", "seq 30; exit 5", code=1) == \
        f"run.pl: job failed with status 5, log is in log\n==> log <==\n{tail}"
    assert run(tmp_path, "JOB=1:4", "l/a.JOB.log", "echo only JOB; [ JOB != 2 ] && [ JOB != 3 ]", code=1) == \
        "run.pl: 2 / 4 failed, log is in l/a.*.log\n==> l/a.2.log <==\nonly 2\n"
    assert output(tmp_path / "l/a.4.log") == "only 4\n"  # the others ran
    assert run(tmp_path, "log", "false", code=1) == "run.pl: job failed with status 1, log is in log\n"


def test_at_most_max_jobs_run_at_once(tmp_path):
    run(tmp_path, "--max-jobs-run", 2, "JOB=1:5", "log.JOB", "date +%s.%N; sleep 0.1; date +%s.%N")
    assert most_at_once([tuple(map(float, output(tmp_path / f"log.{number}").split())) for number in range(1, 6)]) <= 2
    run(tmp_path, "--max-jobs-run", 5, "JOB=1:5", "log.JOB", WAIT_FOR_OTHERS.format(5))


def test_as_many_jobs_as_there_are_cores_run_at_once(tmp_path):
    (tmp_path / "nproc").write_text("#!/bin/sh\necho ${OMP_NUM_THREADS:-3}\n")  # as the real one does
    (tmp_path / "nproc").chmod(0o755)
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    run(tmp_path, "JOB=1:3", "log.JOB", WAIT_FOR_OTHERS.format(3), **path)
    run(tmp_path, "JOB=1:7", "log.JOB", "date +%s.%N; sleep 0.1; date +%s.%N", **path)
    assert most_at_once([tuple(map(float, output(tmp_path / f"log.{number}").split())) for number in range(1, 8)]) <= 3


JOB_WITH_TRAP = """trap "sleep 0.5; echo told > told.$1; exit 7" INT TERM
touch ready.$1
while true; do sleep 0.1; done
"""


@pytest.fixture
def start(tmp_path):
    """A function that starts run.pl in a session of its own. Processes that a test leaves in it are ended."""
    started = []

    def call(*arguments):
        process = subprocess.Popen([RUN, *arguments], cwd=tmp_path, start_new_session=True, stderr=subprocess.PIPE,
                                   text=True)
        started.append(process)
        return process

    yield call
    for process in started:
        for number in processes_of_session(process.pid):
            with suppress(ProcessLookupError):  # it has just ended
                os.kill(int(number), signal.SIGKILL)
        process.wait()
        process.stderr.close()


# INT: the job ends by itself, and its shell could go on. TERM: outer.sh ends at once, before the job in it.
@pytest.mark.parametrize(("name", "code", "script"), [("INT", 130, "job.sh"), ("TERM", 143, "outer.sh")])
def test_a_signal_reaches_the_jobs_and_run_pl_waits_for_them(tmp_path, start, name, code, script):
    (tmp_path / "job.sh").write_text(JOB_WITH_TRAP)
    (tmp_path / "outer.sh").write_text("sh job.sh $1; true\n")
    process = start("--max-jobs-run", "2", "JOB=1:4", "log.JOB",
                    f"{sys.executable} -c 'import os; print(os.getpgrp())'; sh {script} JOB; echo after")
    wait_until(lambda: all((tmp_path / f"ready.{number}").exists() for number in (1, 2)), process)
    process.send_signal(getattr(signal, f"SIG{name}"))  # run.pl only
    assert process.communicate(timeout=LIMIT)[1] == f"run.pl: SIG{name}: stopped\n"
    assert process.returncode == code
    assert sorted(path.name for path in tmp_path.glob("told.*")) == ["told.1", "told.2"]
    assert not (tmp_path / "ready.3").exists() and (tmp_path / "log.3").read_text() == ""
    log = (tmp_path / "log.1").read_text()
    assert f"# Ended (code {code}) at" in log and "\nafter\n" not in log
    groups = [(tmp_path / f"log.{number}").read_text().split("\n")[2] for number in (1, 2)]
    assert groups[0] == groups[1] != str(process.pid)  # the jobs are one process group, not that of run.pl
    wait_until(lambda: not processes_of_session(process.pid))


COUNTS_INTERRUPTS = """import pathlib, signal, sys, time
told = []
signal.signal(signal.SIGINT, lambda *_: told.append(1))
pathlib.Path("ready." + sys.argv[1]).touch()
while not told:
    time.sleep(0.01)
end = time.monotonic() + 0.5
while time.monotonic() < end:
    time.sleep(0.01)
print("interrupts:", len(told))
"""


def test_ctrl_c_in_a_terminal_reaches_each_job_once(tmp_path):
    (tmp_path / "job.py").write_text(COUNTS_INTERRUPTS)
    process, terminal = pty.fork()
    if not process:
        os.chdir(tmp_path)
        os.execv(RUN, [RUN, "--max-jobs-run", "2", "JOB=1:2", "log.JOB", sys.executable, "job.py", "JOB"])
    wait_until(lambda: all((tmp_path / f"ready.{number}").exists() for number in (1, 2)))
    os.write(terminal, b"\x03")
    wait_until(lambda: os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT))
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 130
    os.close(terminal)
    assert [re.findall("interrupts: .*", (tmp_path / f"log.{number}").read_text()) for number in (1, 2)] == [
        ["interrupts: 1"]] * 2
    wait_until(lambda: not processes_of_session(process))


def test_jobs_end_when_run_pl_is_killed(tmp_path, start):
    (tmp_path / "job.sh").write_text(JOB_WITH_TRAP)
    process = start("--max-jobs-run", "2", "JOB=1:2", "log.JOB", "sh job.sh JOB")
    wait_until(lambda: all((tmp_path / f"ready.{number}").exists() for number in (1, 2)), process)
    process.kill()
    wait_until(lambda: not processes_of_session(process.pid))
    assert sorted(path.name for path in tmp_path.glob("told.*")) == ["told.1", "told.2"]


def test_a_signal_to_the_group_of_run_pl_ends_all_its_jobs(tmp_path, start):
    process = start("JOB=1:2", "--max-jobs-run", "2", "log.JOB", "touch ready.JOB; sleep 600 | cat")
    wait_until(lambda: all((tmp_path / f"ready.{number}").exists() for number in (1, 2)), process)
    os.killpg(process.pid, signal.SIGINT)
    assert process.communicate(timeout=LIMIT)[1] == "run.pl: SIGINT: stopped\n" and process.returncode == 130
    wait_until(lambda: not processes_of_session(process.pid))


def test_jobs_take_gpus_in_turn(tmp_path):
    """nvidia-smi is a stand-in. Jobs that ask for all GPUs, or for none, see all of them."""
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nfor i in 0 1 2; do echo \"GPU $i: of a test\"; done\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    plain = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}

    def seen(*options, **variables):
        result = subprocess.run([RUN, *options, "JOB=1:4", "log.JOB", "echo ${CUDA_VISIBLE_DEVICES-all}"], cwd=tmp_path,
                                env={**plain, **path, **variables}, capture_output=True, text=True)
        assert result.returncode == 0 and result.stderr == ""
        return [output(tmp_path / f"log.{number}").strip() for number in range(1, 5)]

    assert seen("--gpu", "1") == ["0", "1", "2", "0"] and seen("--gpu", "2") == ["0,1", "2,0", "1,2", "0,1"]
    assert seen("--gpu", "3") == seen() == ["all"] * 4
    assert seen("--gpu", "1", CUDA_VISIBLE_DEVICES="5,7") == ["5", "7", "5", "7"]
    assert seen("--gpu", "1", CUDA_VISIBLE_DEVICES="") == [""] * 4
