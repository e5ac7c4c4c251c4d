"""Waiting for other processes: by a condition, with limits that only a failure reaches."""

import subprocess
import time
from collections.abc import Callable

# Seconds. A busy machine may be slow, and a test that passes does not wait any longer than it has to.
LIMIT = 300  # until a process has done one thing
RUN_LIMIT = 1800  # until a recipe has run several stages


def wait_until(condition: Callable[[], object], process: subprocess.Popen | None = None) -> None:
    """Return as soon as the condition is true; fail after LIMIT seconds.

    With `process` it also fails where that process has ended before, and shows what the process wrote to its pipes.
    """
    end = time.monotonic() + LIMIT
    while not condition():
        if process is not None and process.poll() is not None:
            # The condition is asked once more, because the process may have met it just before its end.
            assert condition(), f"{process.args} has ended with {process.returncode}: {output_of(process)}"
            return
        assert time.monotonic() < end, f"nothing happened for {LIMIT} seconds: {output_of(process)}"
        time.sleep(0.02)


def output_of(process: subprocess.Popen | None) -> str:
    """What a process has written to its pipes until now. It is killed."""
    if process is None:
        return ""
    process.kill()
    try:
        streams = process.communicate(timeout=10)
    except subprocess.TimeoutExpired as late:  # another process holds the pipe
        streams = late.output, late.stderr
    return "\n".join(text.decode(errors="replace") if isinstance(text, bytes) else text for text in streams if text)
