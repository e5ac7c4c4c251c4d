"""What every command shares: one-line errors with exit code 1, Ctrl-C and SIGTERM with 130, logs on stderr.

Errors of the operating system are shown as one line too. A rank of torchrun ends when torchrun ends, even when that is
killed. Where several ranks fail, bin.start_ranks prints one line for all of them (audiopalm/stages/ranks.py).
"""

import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import NoReturn

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.processes import LOST_PEER, ONE_LINE, end_with_torchrun, lost_peer


def run(main: Callable[[], None]) -> None:
    """Run a command: `if __name__ == "__main__": run(main)`."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    name = sys.argv[0].rsplit("/", 1)[-1].removesuffix(".py")
    take_sigterm_as_ctrl_c()
    try:
        end_with_torchrun()
        main()
    except AudioPaLMError as error:
        _fail(f"{name}: error: {error}")
    except OSError as error:  # a full disk or a missing permission that no earlier check has noticed
        logging.debug("where it happened", exc_info=True)
        _fail(f"{name}: error: {_describe(error)}; run the same command again when this is remedied")
    except RuntimeError as error:
        if not lost_peer(error):
            raise
        sys.stderr.flush()
        os._exit(LOST_PEER)  # an ordinary exit would close the process group, and wait for the other rank
    except KeyboardInterrupt:
        if ONE_LINE not in os.environ or os.environ.get("RANK", "0") == "0":
            print(f"{name}: interrupted; run the same command again to go on", file=sys.stderr)
        sys.exit(130)


def take_sigterm_as_ctrl_c() -> None:
    """Raise KeyboardInterrupt at the first SIGTERM, a scheduler's request to end, and ignore further ones.

    Some senders, such as `timeout`, send it twice, and the second one would interrupt the functions that run at exit.
    """
    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


def _fail(line: str) -> NoReturn:
    """Exit with code 1 and print the line. A rank leaves it in a file, for its launcher to print."""
    path = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if not path or ONE_LINE not in os.environ:
        sys.exit(line)
    Path(path).write_text(json.dumps({"message": line}), encoding="utf-8")
    sys.exit(1)


def _describe(error: OSError) -> str:
    """The file and the reason, in one line."""
    reason = error.strerror or " ".join(str(error).split()) or type(error).__name__
    return reason if error.filename is None else f"{error.filename}: {reason}"
