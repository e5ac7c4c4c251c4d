"""What every command shares: one-line errors with exit code 1, Ctrl-C and SIGTERM with 130, logs on stderr."""

import logging
import signal
import sys
from collections.abc import Callable

from audiopalm.core.errors import AudioPaLMError


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
