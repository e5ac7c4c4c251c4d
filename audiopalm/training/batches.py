"""Micro-batches by number: each process loads its own ones ahead of their use."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from torch.utils.data import DataLoader, Dataset

from audiopalm.core.processes import end_worker_with_parent

Load = Callable[[int], Any]  # number of a micro-batch -> the micro-batch


class NumberedBatches(Dataset):
    """A data set whose item `n` is micro-batch `n`."""

    def __init__(self, load: Load):
        self.load = load

    def __getitem__(self, number: int) -> Any:
        return self.load(number)


def load_ahead(load: Load, numbers: range, workers: int) -> Iterator[Any]:
    """`load(number)` for each of `numbers`, loaded by `workers` processes, or by one thread when there are none.

    The order does not depend on the number of workers.
    """
    if workers:
        yield from DataLoader(NumberedBatches(load), batch_size=None, sampler=numbers, num_workers=workers,
                              worker_init_fn=end_worker_with_parent)
        return
    with ThreadPoolExecutor(1) as pool:
        waiting: Future[Any] | None = None
        try:
            for number in numbers:
                loading = pool.submit(load, number)
                if waiting is not None:
                    yield waiting.result()
                waiting = loading
            if waiting is not None:
                yield waiting.result()
        finally:
            pool.shutdown(cancel_futures=True)
