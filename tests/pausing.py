"""Trainings that wait at a known step, so that a test can send them a signal there, however fast or slow they are."""

import os
from pathlib import Path

# Python imports `sitecustomize` at its start where it finds that module on PYTHONPATH.
HOOK = """
import sys
words = sys.orig_argv
if words[words.index("-m") + 1 if "-m" in words else 0].startswith("audiopalm.bin.train_"):
    import os, signal, time
    from pathlib import Path
    from audiopalm.training import loop
    train_step = loop._Loop._step

    def paused(self, step, batches):
        if step == {step} and self.fabric.global_rank == self.fabric.world_size - 1:
            told, before = [], signal.getsignal(signal.SIGTERM)
            signal.signal(signal.SIGTERM, lambda *arguments: (told.append(1), before(*arguments)))
            Path({marker!r}).touch()
            while not told:  # Ctrl-C and SIGKILL end the process here
                time.sleep(0.01)
            signal.signal(signal.SIGTERM, before)
        train_step(self, step, batches)

    loop._Loop._step = paused
"""


class Pause:
    """A pause of every training that starts with `environment`, at the beginning of a step, until SIGTERM arrives.

    Of several processes the last one pauses, and the others wait for its gradients. `path` exists when it has paused.
    """

    def __init__(self, folder: Path, step: int):
        folder.mkdir()
        self.folder, self.path = folder, folder / "paused"
        (folder / "sitecustomize.py").write_text(HOOK.format(step=step, marker=str(self.path)))

    def environment(self, others: dict[str, str]) -> dict[str, str]:
        """The variables `others` with the pause."""
        path = os.pathsep.join(filter(None, [str(self.folder), others.get("PYTHONPATH", "")]))
        return {**others, "PYTHONPATH": path}
