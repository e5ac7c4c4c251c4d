"""What every command shares: one-line errors with exit code 1, Ctrl-C and SIGTERM with 130, logs on stderr.

A rank of torchrun ends with torchrun, even when that is killed.
"""

import logging
import signal
import sys
from collections.abc import Callable

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.processes import end_with_torchrun


def run(main: Callable[[], None]) -> None:
    """Run a command: `if __name__ == "__main__": run(main)`."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    name = sys.argv[0].rsplit("/", 1)[-1].removesuffix(".py")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's request to end is taken as Ctrl-C
    try:
        end_with_torchrun()
        main()
    except AudioPaLMError as error:
        sys.exit(f"{name}: error: {error}")
    except KeyboardInterrupt:
        print(f"{name}: interrupted; run the same command again to go on", file=sys.stderr)
        sys.exit(130)
