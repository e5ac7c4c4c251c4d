"""Stage 8 by ESPnet's Trainer: `--config conf/espnet_lm.yaml --output_dir DIR ...`; --help lists ESPnet's options.

With --output LM the trained model is also written to LM in the format of stage 8. A finished training is not repeated;
a training with other options or inputs is refused.
"""

import argparse
from pathlib import Path

from audiopalm.core.command import run


def main() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--output", type=Path)
    ours, options = parser.parse_known_args()
    # Imported here, because `run` shows a missing ESPnet as an error of one line.
    if ours.output is None:
        from audiopalm.espnet.task import AudioPaLMTask

        AudioPaLMTask.main(cmd=options)
    else:
        from audiopalm.espnet.training import train

        train(options, ours.output)


if __name__ == "__main__":
    run(main)
