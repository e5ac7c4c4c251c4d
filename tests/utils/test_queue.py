"""utils/queue.pl with a real Grid Engine of one machine, which start_gridengine.sh starts and stops."""

import json
import os
import re
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

QUEUE = ROOT / "utils/queue.pl"

pytestmark = pytest.mark.skipif(
    os.getuid() != 0 or not all(shutil.which(name, path=PATH) for name in ("sge_qmaster", "sge_execd", "qsub")),
    reason="needs root, and Grid Engine: apt-get install gridengine-master gridengine-exec gridengine-client")


@pytest.fixture(scope="module")
def engine():
    """The environment of its clients."""
    with scheduler("start_gridengine.sh") as folder:
        settings = dict(word.split("=") for word in (folder / "environment").read_text().split()[1:])
        yield {**{name: value for name, value in os.environ.items() if not name.startswith("SGE_")}, **settings}


run = partial(run_to_end, QUEUE)


@pytest.fixture
def start(engine, tmp_path):
    """A function that starts queue.pl."""
    with starter(QUEUE, tmp_path, engine) as call:
        yield call


def test_a_job_has_the_environment_and_path_sh(tmp_path, engine):
    (tmp_path / "path.sh").write_text("FROM_PATH_SH=here\n")
    line = 'pwd; echo "${FROM_PATH_SH} ${EXPORTED}"'
    run(tmp_path, {**engine, "EXPORTED": "täglich \"x\" $y"}, "--num-threads", 2, "log/1.log", line)
    assert re.fullmatch(rf"# {re.escape(line)}\n# Running on {os.uname().nodename}\n# Started at {DATE}\n"
                        rf'{tmp_path}\nhere täglich "x" \$y\n'
                        rf"# Accounting: time=\d+ threads=2\n# Ended \(code 0\) at {DATE}\n",
                        (tmp_path / "log/1.log").read_text())
    assert (tmp_path / "log/q/1.done.1").read_text() == "0\n"


def test_at_most_max_jobs_run_of_an_array_run_at_once(tmp_path, engine):
    run(tmp_path, engine, "--max-jobs-run", 2, "JOB=1:4", "log.JOB", "date +%s.%N; sleep 0.2; date +%s.%N")
    spans = [tuple(map(float, output(tmp_path / f"log.{number}").split())) for number in range(1, 5)]
    assert max(sum(start <= moment < end for start, end in spans) for moment, _ in spans) <= 2
    run(tmp_path, engine, "JOB=1:4", "log.JOB", WAIT_FOR_OTHERS.format(4))  # without the limit all four run at once


def test_arguments_arrive_as_they_are(tmp_path, engine):
    folder = tmp_path / "a %b ü"
    folder.mkdir()
    odd = ["a  b", "it's", '"q"', "$HOME", "`id`", "\\", "*", "", "<unk>", "A=b", "ü 中", "line\nline", "a 'JOB' $JOB"]
    run(folder, engine, "JOB=2:3", "d.JOB/l JOB.log", sys.executable, "-c",
        "import json, sys; print(json.dumps(sys.argv[1:]))", *odd, "|", "cat")
    for number in "23":
        assert json.loads(output(folder / f"d.{number}/l {number}.log")) == [
            argument.replace("JOB", number) for argument in odd]


def test_a_failure_is_reported_with_the_end_of_the_log(tmp_path, engine):
    tail = "".join(f"{number}\n" for number in range(21, 31))
    assert run(tmp_path, engine, "JOB=1:3", "l/a.JOB.log", "seq 30; exit $((JOB * 2 - 2))", code=1) == \
        f"queue.pl: 2 / 3 failed, log is in l/a.*.log\n==> l/a.2.log <==\n{tail}"
    assert run(tmp_path, engine, "log", "exit 5", code=1) == "queue.pl: job failed with status 5, log is in log\n"


def test_a_deleted_job_is_reported(tmp_path, engine, start):
    process = start("gone.log", "echo begun; sleep 600")
    log = tmp_path / "gone.log"
    wait_until(lambda: log.exists() and "\nbegun\n" in log.read_text(), process)
    ask(engine, "qdel", "gone")
    assert process.communicate(timeout=LIMIT)[1] == (
        "queue.pl: job 1 left the queue without an exit code: deleted, over a limit, or its machine was lost\n"
        "queue.pl: job failed with status unknown, log is in gone.log\n==> gone.log <==\nbegun\n")
    assert process.returncode == 1


@pytest.mark.parametrize(("name", "code"), [("INT", 130), ("TERM", 143)])
def test_a_signal_deletes_the_jobs(tmp_path, engine, start, name, code):
    process = start("JOB=1:8", f"stop{name}.JOB.log", f"touch {tmp_path}/ready.JOB; sleep 600 | cat")
    wait_until((tmp_path / "ready.1").exists, process)
    process.send_signal(getattr(signal, f"SIG{name}"))
    message = process.communicate(timeout=LIMIT)[1]
    assert re.fullmatch(rf"queue\.pl: SIG{name}: cancelled job \d+\n", message) and process.returncode == code
    wait_until(lambda: ask(engine, "qstat") == "" and not processes_with(str(tmp_path)))


def test_jobs_end_when_queue_pl_is_killed(tmp_path, engine, start):
    process = start("JOB=1:8", "killed.JOB.log", f"touch {tmp_path}/ready.JOB; sleep 600 | cat")
    wait_until((tmp_path / "ready.1").exists, process)
    process.kill()
    assert process.communicate(timeout=LIMIT)[1] == ""
    wait_until(lambda: ask(engine, "qstat") == "" and not processes_with(str(tmp_path)))


def test_a_job_that_asks_to_go_on_is_started_again(tmp_path, engine):
    run(tmp_path, engine, "on.log", "[ ! -e begun ] || exit 0; touch begun; echo saved; exit 75")
    log = (tmp_path / "on.log").read_text()
    assert log.index("\nsaved\n") < log.index("(code 75)") < log.index("(code 0)")


def test_options_reach_grid_engine(tmp_path, engine):
    run(tmp_path, engine, "--time", "0:10:0", "--num-threads", 2, "log", "echo ${NSLOTS}; qstat -j ${JOB_ID}")
    shown = output(tmp_path / "log")
    assert shown.startswith("2\n") and re.search(r"hard resource_list: +h_rt=600\n", shown)
    run(tmp_path, engine, "-l", "h_rt=300", "-pe", "smp", 2, "log", "echo ${NSLOTS}; qstat -j ${JOB_ID}")
    shown = output(tmp_path / "log")
    assert shown.startswith("2\n") and re.search(r"hard resource_list: +h_rt=300\n", shown)
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf/queue.conf").write_text("command qsub -V -S /bin/bash\noption note=* -ac note=$0  # comment\n"
                                              "default note=usual\n")
    run(tmp_path, engine, "log", "qstat -j ${JOB_ID}")
    assert re.search(r"context: +note=usual\n", output(tmp_path / "log"))
    assert run(tmp_path, engine, "--gpu", 1, "log", "true", code=1) == \
        "queue.pl: error: --gpu 1: conf/queue.conf has no line for it\n"


def test_errors_are_one_line(tmp_path, engine):
    def error(conf, *arguments):
        (tmp_path / "conf").write_text(conf)
        message = run(tmp_path, engine, "--config", "conf", *arguments, code=1)
        assert message.startswith("queue.pl: error: ") and message.count("\n") == 1
        return message

    assert "cannot submit: no_such_qsub: No such file or directory" in error("command no_such_qsub\n", "log", "true")
    assert "unknown resource \"nothing\"" in error("command qsub -l nothing=1\n", "log", "true")
    assert "from 1 on" in error("command qsub\n", "JOB=0:2", "log.JOB", "true")


def test_a_job_in_the_error_state_is_reported(tmp_path, engine, start):
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf/queue.conf").write_text("command qsub -V -S /bin/bash -wd /nonexistent\n")
    process = start("stuck.log", "true")
    assert re.fullmatch(r"queue\.pl: warning: job \d+ waits in the error state: .*/nonexistent.*\n",
                        process.stderr.readline())
    ask(engine, "qdel", "stuck")
    assert "left the queue" in process.communicate(timeout=LIMIT)[1] and process.returncode == 1
