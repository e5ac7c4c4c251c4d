"""SIGTERM, which schedulers send before they take a machine away: the training saves a checkpoint and ends.

Its exit code is AGAIN, which tells the launcher to start it again.
"""

import logging
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

import torch
from lightning_fabric import Fabric

from audiopalm.core.processes import AGAIN


@contextmanager
def preemption(fabric: Fabric) -> Iterator[Callable[[], bool]]:
    """Yield a function that returns whether any process has received SIGTERM, so that all end at the same step.

    Every process must call the function equally often. The answer is exchanged on the CPU: no device waits for it.
    """
    received = torch.zeros(1, dtype=torch.int32)
    group = torch.distributed.new_group(backend="gloo") if fabric.world_size > 1 else None

    def note(number: int, frame: FrameType | None) -> None:
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
    """End this process, after the checkpoint of `step` is saved. The processes wait here for each other."""
    fabric.barrier()
    logging.warning("%s: ended by SIGTERM, and the checkpoint of step %d is saved; run the same command again to go on",
                    output, step)
    sys.exit(AGAIN)
