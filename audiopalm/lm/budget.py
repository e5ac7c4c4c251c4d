"""How many steps of a mixture a budget allows, where a budget is a number of tokens of certain tasks.

Two mixtures have seen as much of a task only if the tokens of that task are equal. A step of AST and ASR holds fewer
tokens of AST than a step of AST alone, so that it takes more steps.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np

from audiopalm.core.errors import AudioPaLMError
from audiopalm.lm.mixture import CHUNK_BATCHES, Mixture
from audiopalm.lm.training import LMConfig, LMData
from audiopalm.tasks import decode_name


@dataclass(frozen=True)
class Count:
    """The steps of a training and the tokens that it sees, of prompts and answers, without padding.

    task_tokens: those that the budget counts. tokens: those of all tasks. by_task: {`ast_es_en`: tokens}.
    """

    steps: int
    task_tokens: int
    tokens: int
    by_task: dict[str, int]


def steps_for(config: LMConfig, data: LMData, seed: int, tokens: int, tasks: Collection[str] = (),
              targets: Collection[str] = ()) -> Count:
    """The least number of steps after which a training has seen `tokens` tokens of `tasks` into the languages
    `targets`; an empty collection stands for all.

    The batches are those that the training itself will plan, so that the count is exact. Raises AudioPaLMError for
    tasks that the mixture does not have.
    """
    mixture = data.mixture(config, data.examples, seed)
    counted = np.array([(not tasks or cell.task.name in tasks) and (not targets or cell.target in targets)
                        for cell in mixture.cells])
    drawn = mixture.drawable.sizes > 0
    if counted.any() and not (counted & drawn).any():
        raise AudioPaLMError(f"no sequence of {' '.join(tasks) or 'all tasks'} into "
                             f"{' '.join(targets) or 'all languages'} fits into rows of {mixture.row_length} tokens")
    if not counted.any():
        raise AudioPaLMError(f"the budget counts tokens of {' '.join(tasks) or 'all tasks'} into "
                             f"{' '.join(targets) or 'all languages'}, which the mixture does not have")
    per_step = config.training.micro_batches
    seen = np.zeros(len(mixture.cells), dtype=np.int64)
    for number, batch in enumerate(_batches(mixture), start=1):
        seen += batch
        if number % per_step == 0 and seen[counted].sum() >= tokens:
            names = [decode_name(cell.task, cell.source, cell.target) for cell in mixture.cells]
            return Count(number // per_step, int(seen[counted].sum()), int(seen.sum()),
                         {name: int(count) for name, count in zip(names, seen, strict=True)})
    raise AssertionError("a mixture is endless")


def tokens_per_batch(mixture: Mixture) -> np.ndarray:
    """The mean tokens of each cell in a batch of the first chunk, float64 `[cells]`."""
    batches = _batches(mixture)
    return np.mean([next(batches) for _ in range(CHUNK_BATCHES)], axis=0)


def _batches(mixture: Mixture) -> Iterator[np.ndarray]:
    """The tokens of each cell in batch after batch, int64 `[cells]`. No example is read."""
    chunk = 0
    while True:
        plan = mixture.plan(chunk)
        for first in range(0, CHUNK_BATCHES * mixture.rows, mixture.rows):
            chosen = np.array([index for row in plan.packed[first:first + mixture.rows] for index in row])
            yield np.bincount(plan.cell[chosen], weights=plan.length[chosen],
                              minlength=len(mixture.cells)).astype(np.int64)
        chunk += 1
