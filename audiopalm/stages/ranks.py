"""Start the processes of a training on one machine, by torchrun's agent.

The processes of several machines find each other by Slurm's environment variables. If processes fail, one line says
why. SIGTERM is passed on to the processes, which then save a checkpoint and end (audiopalm/training/preemption.py).
"""

import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch.distributed import DistNetworkError
from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.processes import AGAIN, LOST_PEER, ONE_LINE

FIRST_PORT, PORTS = 20000, 12000  # below Linux's range of ephemeral ports


def start_ranks(ngpu: int, num_nodes: int, command: Sequence[str]) -> int:
    """Run `python COMMAND...` in a process for each GPU of this machine, or in one process without GPUs.

    Returns the exit code. With several machines, srun calls this on each of them.

    Raises AudioPaLMError if the machine has fewer GPUs than `ngpu`, and for a process that fails.
    """
    if ngpu > torch.cuda.device_count():
        raise AudioPaLMError(f"--ngpu {ngpu}, but {socket.gethostname()} shows {torch.cuda.device_count()} GPUs")
    processes = max(ngpu, 1)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    os.environ.setdefault("OMP_NUM_THREADS", str(max(cores // processes, 1)))
    os.environ[ONE_LINE] = "1"
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # failures are reported below
    signal.signal(signal.SIGTERM, _pass_on)
    signal.signal(signal.SIGUSR1, _pass_on)  # from utils/srun.sh
    with TemporaryDirectory() as folder:
        try:
            elastic_launch(_configuration(processes, num_nodes, folder), sys.executable)(*command)
        except ChildFailedError as error:
            return _exit_code(error.failures)
        except SignalException:
            raise KeyboardInterrupt from None
        except DistNetworkError as error:
            raise AudioPaLMError(f"the machines of job {os.environ.get('SLURM_JOB_ID', '')} cannot connect: "
                                 f"{' '.join(str(error).split())}; run the same command again, which takes another port"
                                 ) from None
    return 0


def _configuration(processes: int, nodes: int, folder: str) -> LaunchConfig:
    """The configuration of one machine alone, or of one machine of a Slurm job, whose first node is the rendezvous.

    Errors of the processes go to files in `folder`.
    """
    common: dict[str, Any] = {
        "min_nodes": nodes, "max_nodes": nodes, "nproc_per_node": processes, "max_restarts": 0,
        "logs_specs": DefaultLogsSpecs(log_dir=folder), "signals_to_handle": "SIGINT,SIGHUP,SIGQUIT"}
    if nodes == 1:
        return LaunchConfig(**common, rdzv_backend="c10d", rdzv_endpoint="localhost:0", run_id=str(os.getpid()))
    job, node = os.environ["SLURM_JOB_ID"], int(os.environ["SLURM_NODEID"])
    return LaunchConfig(**common, rdzv_backend="static", run_id=job, rdzv_configs={"rank": node},
                        rdzv_endpoint=f"{_first_host()}:{FIRST_PORT + int(job) % PORTS}")


def _first_host() -> str:
    """The address of the first node of the job."""
    nodes = os.environ["SLURM_STEP_NODELIST"]
    names = subprocess.run(["scontrol", "show", "hostnames", nodes], text=True, capture_output=True, check=True).stdout
    shown = subprocess.run(["scontrol", "show", "node", names.split()[0]], text=True, capture_output=True, check=True)
    return shown.stdout.partition("NodeAddr=")[2].split()[0]


def _pass_on(*_) -> None:
    """Send SIGTERM to all child processes."""
    for child in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
        os.kill(int(child), signal.SIGTERM)


def _exit_code(failures: dict[int, ProcessFailure]) -> int:
    """AGAIN if all processes have saved their work, 1 if the fault is that of another machine, which reports it.

    Raises AudioPaLMError for the process that failed first.
    """
    codes = {failure.exitcode for failure in failures.values()}
    if codes == {AGAIN}:
        return AGAIN
    # A process that a signal ended comes first: the others may have lost their connection to it. Next come processes
    # that report an error of their own.
    rank, failure = min(failures.items(), key=lambda item: (item[1].exitcode >= 0, item[1].exitcode == LOST_PEER,
                                                            item[0]))
    if failure.exitcode == LOST_PEER:
        return 1
    if failure.exitcode < 0:
        reason = f"was ended by {signal.Signals(-failure.exitcode).name}"
    elif Path(failure.error_file).is_file():
        reason = f"failed: {failure.message}"
    else:
        reason = f"ended with exit code {failure.exitcode}"
    raise AudioPaLMError(f"process {rank} of the training, on {socket.gethostname()}, {reason}; the others were ended; "
                         "run the same command again to go on")
