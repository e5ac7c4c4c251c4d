"""Waiting for other processes: by a condition, with a limit that only a failure reaches."""

import time
from collections.abc import Callable

LIMIT = 60  # seconds: a busy machine may be slow, and a test that passes does not wait any longer than it has to


def wait_until(condition: Callable[[], object]) -> None:
    """Return as soon as the condition is true; fail after LIMIT seconds."""
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end, f"nothing happened for {LIMIT} seconds"
        time.sleep(0.02)
