"""Progress of long work: a live bar on a terminal, a line in the log every 20 seconds elsewhere."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")
LOG_SECONDS = 20  # between two lines of a log


def progress(items: Iterable[T], total: int | None, what: str) -> Iterator[T]:
    """Yield `items` while their number, speed and remaining time are shown as `what`; `total` may be unknown.

    On a terminal tqdm draws the bar. Elsewhere nothing is drawn: one line is logged every 20 seconds, and one at the
    end of work that took longer than that.
    """
    if sys.stderr.isatty():
        yield from tqdm(items, total=total, desc=what, dynamic_ncols=True)
        return
    start = shown = time.monotonic()
    count = 0
    for count, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - shown > LOG_SECONDS:
            shown = now
            speed = count / (now - start)
            left = "" if total is None else f"/{total}, {max(total - count, 0) / speed:.0f} s left"
            logging.info("%s %d%s, %.1f/s", what, count, left, speed)
    if time.monotonic() - start > LOG_SECONDS:
        logging.info("%s %d in %.0f s", what, count, time.monotonic() - start)
