"""SIGTERM asks a training to end, as schedulers do before they take a machine: it saves a checkpoint and ends with the
exit code AGAIN, which tells who started it to start it again.
"""

import logging
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import torch
from lightning_fabric import Fabric

from audiopalm.core.processes import AGAIN


@contextmanager
def preemption(fabric: Fabric) -> Iterator[Callable[[], bool]]:
    """Yield a function that says whether any process has received SIGTERM, so that all of them end at the same step.

    Every process must call it equally often. The answer comes over the CPU: no device has to wait for it.
    """
    received = torch.zeros(1, dtype=torch.int32)
    group = torch.distributed.new_group(backend="gloo") if fabric.world_size > 1 else None

    def note(*_) -> None:
        received[0] = 1

    def asked() -> bool:
        if group is None:
            return bool(received)
        anywhere = received.clone()
        torch.distributed.all_reduce(anywhere, torch.distributed.ReduceOp.MAX, group=group)
        return bool(anywhere)

    before = signal.signal(signal.SIGTERM, note)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGTERM, before)


def leave(fabric: Fabric, output: Path, step: int) -> NoReturn:
    """End this process when the checkpoint of `step` is saved; none ends before all have arrived here."""
    fabric.barrier()
    logging.warning("%s: ended by SIGTERM, and the checkpoint of step %d is saved; run the same command again to go on",
                    output, step)
    sys.exit(AGAIN)
