"""Stage 8 by ESPnet's Trainer: `--config conf/espnet_lm.yaml --output_dir DIR ...`; --help lists its options."""

from audiopalm.core.command import run


def main() -> None:
    from audiopalm.espnet.task import AudioPaLMTask  # without ESPnet, an error of one line

    AudioPaLMTask.main()


if __name__ == "__main__":
    run(main)
