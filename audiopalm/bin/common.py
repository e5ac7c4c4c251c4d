"""What every command shares: one-line errors with exit code 1, Ctrl-C and SIGTERM with 130, logs on stderr, progress on
a TTY, children that do not outlive it."""

import ctypes
import logging
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from audiopalm.errors import AudioPaLMError

T = TypeVar("T")

LIBC = ctypes.CDLL(None)
PARENT_DEATH_SIGNAL = 1  # of Linux's prctl


def run(main: Callable[[], None]) -> None:
    """Run a command: `if __name__ == "__main__": run(main)`."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    name = sys.argv[0].rsplit("/", 1)[-1].removesuffix(".py")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's request to end is taken as Ctrl-C
    try:
        main()
    except AudioPaLMError as error:
        sys.exit(f"{name}: error: {error}")
    except KeyboardInterrupt:
        print(f"{name}: interrupted; run the same command again to go on", file=sys.stderr)
        sys.exit(130)


def end_with_parent(number: int) -> None:
    """In a new process (`preexec_fn`): have the kernel send it the signal when its parent has ended, even by SIGKILL.

    Linux only; elsewhere the process goes on.
    """
    if sys.platform == "linux":
        LIBC.prctl(PARENT_DEATH_SIGNAL, int(number))


def progress(items: Iterable[T], total: int | None, what: str) -> Iterator[T]:
    """Yield items while showing `what 120/1000 35/s, 25 s left`: a live line on a TTY, else one line per 20 s.

    Without a total, `what 120, 35/s`.
    """
    start = shown = time.monotonic()
    live = sys.stderr.isatty()
    for count, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - shown > (0.2 if live else 20) or count == total:
            shown = now
            speed = count / max(now - start, 1e-9)
            if total is None:
                line = f"{what} {count}, {speed:.1f}/s"
            else:
                line = f"{what} {count}/{total} {speed:.1f}/s, {max(total - count, 0) / speed:.0f} s left"
            if live:
                print(f"\r{line}\033[K", end="\n" if count == total else "", file=sys.stderr, flush=True)
            elif total != 0:
                logging.info(line)
