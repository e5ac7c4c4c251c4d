"""utils/slurm.pl with a real Slurm of one machine, which start_slurm.sh starts and stops."""

import json
import os
import re
import shlex
import shutil
import signal
import sys
from functools import partial

import pytest
from schedulers import (
    DATE,
    PATH,
    ROOT,
    WAIT_FOR_OTHERS,
    ask,
    output,
    processes_with,
    run_to_end,
    scheduler,
    starter,
)
from waiting import LIMIT, wait_until

SLURM = ROOT / "utils/slurm.pl"

pytestmark = pytest.mark.skipif(
    not all(shutil.which(name, path=PATH) for name in ("slurmctld", "slurmd", "sbatch", "munged")),
    reason="needs a Slurm of its own: apt-get install slurm-wlm munge")


@pytest.fixture(scope="module")
def slurm():
    """The environment of its clients."""
    with scheduler("start_slurm.sh") as folder:
        yield {**{name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SBATCH_"))},
               "SLURM_CONF": f"{folder}/slurm.conf"}


run = partial(run_to_end, SLURM)


@pytest.fixture
def start(slurm, tmp_path):
    """A function that starts slurm.pl."""
    with starter(SLURM, tmp_path, slurm) as call:
        yield call


def job_ids(environment, name) -> list[str]:
    return ask(environment, "squeue", "--noheader", "--states", "PENDING,RUNNING", "--name", name,
               "--format", "%F").split()


def test_a_job_has_the_environment_and_path_sh(tmp_path, slurm):
    (tmp_path / "path.sh").write_text("set -u\nPATH=${PWD}/tools:${PATH}\nFROM_PATH_SH=here\n")
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools/tool").write_text("#!/bin/sh\necho a tool\n")
    (tmp_path / "tools/tool").chmod(0o755)
    line = 'pwd; tool; echo "${FROM_PATH_SH} ${EXPORTED}"'
    (tmp_path / "log").mkdir()
    (tmp_path / "log/a.log").write_text("of an earlier call\n")
    run(tmp_path, {**slurm, "EXPORTED": "täglich \"x\" $y"}, "--num-threads", 2, "log/a.log", line)
    assert re.fullmatch(rf"# {re.escape(line)}\n# Running on {os.uname().nodename}\n# Started at {DATE}\n"
                        rf'{tmp_path}\na tool\nhere täglich "x" \$y\n'
                        rf"# Accounting: time=\d+ threads=2\n# Ended \(code 0\) at {DATE}\n",
                        (tmp_path / "log/a.log").read_text())
    assert (tmp_path / "log/q/a.done.1").read_text() == "0\n"
    assert sorted(path.name for path in (tmp_path / "log/q").iterdir()) == ["a.done.1", "a.out.1", "a.sh"]


def test_at_most_max_jobs_run_of_an_array_run_at_once(tmp_path, slurm):
    run(tmp_path, slurm, "--max-jobs-run", 2, "JOB=1:4", "log.JOB", "date +%s.%N; sleep 0.2; date +%s.%N")
    spans = [tuple(map(float, output(tmp_path / f"log.{number}").split())) for number in range(1, 5)]
    assert max(sum(start <= moment < end for start, end in spans) for moment, _ in spans) <= 2
    run(tmp_path, slurm, "JOB=1:4", "log.JOB", WAIT_FOR_OTHERS.format(4))  # without the limit all four run at once


def test_arguments_arrive_as_they_are(tmp_path, slurm):
    folder = tmp_path / "a %b ü"
    folder.mkdir()
    odd = ["a  b", "it's", '"q"', "$HOME", "`id`", "\\", "*", "", "<unk>", "A=b", "ü 中", "line\nline", "a 'JOB' $JOB",
           "xJOBy_JOB"]
    run(folder, slurm, "JOB=2:3", "d.JOB/l JOB.log", sys.executable, "-c",
        "import json, sys; print(json.dumps(sys.argv[1:]))", *odd, "|", "cat")
    for number in "23":
        assert json.loads(output(folder / f"d.{number}/l {number}.log")) == [
            argument.replace("JOB", number) for argument in odd]
    run(folder, slurm, "JOB=3", "log.JOB", "echo", "JOB")
    assert output(folder / "log.3") == "3\n" and (folder / "q/log.JOB.done.3").exists()


def test_a_failure_is_reported_with_the_end_of_the_log(tmp_path, slurm):
    tail = "".join(f"{number}\n" for number in range(21, 31))
    (tmp_path / "l/q").mkdir(parents=True)
    for number in range(4, 9):  # an earlier call had more jobs
        (tmp_path / f"l/q/a.JOB.done.{number}").write_text("0\n")
    assert run(tmp_path, slurm, "JOB=1:3", "l/a.JOB.log", "seq 30; exit $((JOB * 2 - 2))", code=1) == \
        f"slurm.pl: 2 / 3 failed, log is in l/a.*.log\n==> l/a.2.log <==\n{tail}"
    assert [(tmp_path / f"l/q/a.JOB.done.{number}").read_text() for number in (1, 2, 3)] == ["0\n", "2\n", "4\n"]
    assert run(tmp_path, slurm, "log", "exit 5", code=1) == "slurm.pl: job failed with status 5, log is in log\n"


def test_a_cancelled_job_of_an_array_is_reported(tmp_path, slurm, start):
    (tmp_path / "q").mkdir()
    (tmp_path / "q/gone.JOB.done.2").write_text("0\n")  # of an earlier call
    process = start("JOB=1:2", "gone.JOB.log", "echo begun; [ JOB = 1 ] || sleep 600")
    log = tmp_path / "gone.2.log"
    wait_until(lambda: log.exists() and "\nbegun\n" in log.read_text(), process)
    ask(slurm, "scancel", f"{job_ids(slurm, 'gone.JOB')[0]}_2")
    assert re.fullmatch(r"slurm\.pl: job 2 left the queue without an exit code: CANCELLED\n"
                        r"slurm\.pl: 1 / 2 failed, log is in gone\.\*\.log\n==> gone\.2\.log <==\nbegun\n"
                        r"(?:.*Terminated(?:.*\n)+?)?"  # of bash, where Slurm ends it after its child
                        r"==> .*/q/gone\.JOB\.out\.2 <==\n.*CANCELLED AT.*\n", process.communicate(timeout=LIMIT)[1])
    assert process.returncode == 1


@pytest.mark.parametrize(("name", "code"), [("INT", 130), ("TERM", 143), ("HUP", 129)])
def test_a_signal_cancels_the_jobs(tmp_path, slurm, start, name, code):
    process = start("JOB=1:8", f"stop.{name}.JOB.log", f"touch {tmp_path}/ready.JOB; sleep 600 | cat")
    wait_until((tmp_path / "ready.1").exists, process)
    process.send_signal(getattr(signal, f"SIG{name}"))
    message = process.communicate(timeout=LIMIT)[1]
    assert re.fullmatch(rf"slurm\.pl: SIG{name}: cancelled job \d+\n", message) and process.returncode == code
    wait_until(lambda: not job_ids(slurm, f"stop.{name}.JOB"))
    wait_until(lambda: not processes_with(str(tmp_path)))


def test_jobs_end_when_slurm_pl_is_killed(tmp_path, slurm, start):
    process = start("JOB=1:8", "killed.JOB.log", f"touch {tmp_path}/ready.JOB; sleep 600 | cat")
    wait_until((tmp_path / "ready.1").exists, process)
    process.kill()
    assert process.communicate(timeout=LIMIT)[1] == ""
    wait_until(lambda: not job_ids(slurm, "killed.JOB"))
    wait_until(lambda: not processes_with(str(tmp_path)))


def restart(environment, name):
    """Have Slurm start a job at once that it has put back into the queue. By itself Slurm waits for two minutes."""
    wait_until(lambda: ask(environment, "squeue", "--noheader", "--name", name, "--format", "%T %r")
               == "PENDING BeginTime\n")
    ask(environment, "scontrol", "update", f"JobId={job_ids(environment, name)[0]}", "StartTime=now+1")


WORK = """trap 'echo saved; exit 75' TERM; [ -e begun ] && echo whole && exit; touch begun; sleep 600 & wait"""


def test_a_job_that_is_asked_to_end_goes_on(tmp_path, slurm, start):
    """USR1 to the shell stands for the end of the time limit. A job that is cancelled is not started again."""
    process = start("on.log", f"bash -c {shlex.quote(WORK)}")
    wait_until((tmp_path / "begun").exists, process)
    ask(slurm, "scancel", "--batch", "--signal", "USR1", *job_ids(slurm, "on"))
    wait_until(lambda: "(code 75)" in (tmp_path / "on.log").read_text(), process)
    restart(slurm, "on")
    assert process.communicate(timeout=LIMIT)[1] == "" and process.returncode == 0
    log = (tmp_path / "on.log").read_text()
    assert log.index("\nsaved\n") < log.index("(code 75)") < log.index("\nwhole\n") < log.index("(code 0)")

    (tmp_path / "begun").unlink()
    process = start("off.log", f"bash -c {shlex.quote(WORK)}")
    wait_until((tmp_path / "begun").exists, process)
    ask(slurm, "scancel", *job_ids(slurm, "off"))
    assert "left the queue without an exit code: CANCELLED" in process.communicate(timeout=LIMIT)[1]
    assert "saved" in (tmp_path / "off.log").read_text()


def test_options_reach_slurm(tmp_path, slurm):
    show = 'squeue --noheader --jobs "${SLURM_JOB_ID}" --format "%l %m %C %k"'
    run(tmp_path, slurm, "--time", 7, "--mem", "100M", "--num-threads", 2, "log", show)
    assert output(tmp_path / "log").split() == ["7:00", "100M", "2", "(null)"]
    run(tmp_path, slurm, "-c", 2, "-t", 5, "log", show)  # as sbatch itself spells them
    assert output(tmp_path / "log").split()[::2] == ["5:00", "2"]
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf/slurm.conf").write_text(
        "command sbatch --time 9  # comment\noption mem=*\noption mem=1G --mem 300M\noption num_threads=* -c $0\n"
        "default num_threads=3\noption note=* --comment 'its $0'\noption max_jobs_run=*\n\n# the end\n")
    run(tmp_path, slurm, "--mem", "2G", "log", show)
    assert output(tmp_path / "log").split() == ["9:00", "0", "3", "(null)"]
    assert "threads=3\n" in (tmp_path / "log").read_text()
    run(tmp_path, slurm, "--mem", "1G", "--note", "a b", "log", show)
    assert output(tmp_path / "log").split() == ["9:00", "300M", "3", "its", "a", "b"]
    assert run(tmp_path, slurm, "--gpu", 1, "log", "true", code=1) == \
        "slurm.pl: error: --gpu 1: conf/slurm.conf has no line for it\n"


def test_errors_are_one_line(tmp_path, slurm):
    def error(conf, *arguments):
        (tmp_path / "conf").write_text(conf)
        message = run(tmp_path, slurm, "--config", "conf", *arguments, "log", "true", code=1)
        assert message.startswith("slurm.pl: error: ") and message.count("\n") == 1
        return message

    assert "cannot submit: no_such_sbatch: No such file or directory" in error("command no_such_sbatch\n")
    assert "invalid partition specified: none" in error("command sbatch --partition none\n")
    assert "conf: cannot read 'nonsense'" in error("command sbatch\nnonsense\n")
    assert "conf has no line 'command'" in error("default mem=0\n")
    assert "--mem 4G: conf has no line for it" in error("command sbatch\noption mem=0\n", "--mem", "4G")
    assert "none: No such file" in run(tmp_path, slurm, "--config", "none", "log", "true", code=1)
    assert "/conf/slurm.conf has no line for it" in run(tmp_path, slurm, "--odd", "x", "log", "true", code=1)


def stand_in(folder, name, *lines):
    (folder / name).write_text("\n".join(["#!/bin/sh", *lines]) + "\n")
    (folder / name).chmod(0o755)


def test_a_controller_that_does_not_answer_has_not_lost_the_job(tmp_path, slurm):
    """With stand-ins for sbatch and squeue: the job ends when squeue has failed for the second time."""
    stand_in(tmp_path, "sbatch", "echo 17")
    stand_in(tmp_path, "squeue", "[ ! -e asked ] || echo 0 > q/log.done.1", "touch asked",
             "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2", "exit 1")
    run(tmp_path, {**slurm, "PATH": f"{tmp_path}:{slurm['PATH']}"}, "log", "true")
    assert (tmp_path / "asked").exists()


def test_a_second_signal_ends_slurm_pl_while_scancel_hangs(tmp_path, slurm, start, monkeypatch):
    """With stand-ins for sbatch, squeue and scancel; the real queue says after a second that there is no job 17."""
    stand_in(tmp_path, "sbatch", "touch submitted", "echo 17")
    stand_in(tmp_path, "squeue", "echo 17")
    stand_in(tmp_path, "scancel", "[ ! -e scancel.pid ] || exit 0", "echo $$ > scancel.new",
             "mv scancel.new scancel.pid", "exec sleep 600")
    monkeypatch.setitem(slurm, "PATH", f"{tmp_path}:{slurm['PATH']}")
    process = start("log", "true")
    wait_until((tmp_path / "submitted").exists, process)
    process.terminate()
    wait_until((tmp_path / "scancel.pid").exists, process)
    process.terminate()
    assert process.wait(timeout=LIMIT) == -signal.SIGTERM
    os.kill(int((tmp_path / "scancel.pid").read_text()), signal.SIGKILL)  # the stand-in outlives slurm.pl
    wait_until(lambda: not processes_with(f"PATH={tmp_path}:"))
