"""The jobs of stage 11: shards of units to speech, by the acoustic model and the codec."""

import argparse
from pathlib import Path

from audiopalm.core.arguments import add_seed, options_of, parse_with_overrides
from audiopalm.core.command import run
from audiopalm.stages.jobs import add_worker_options
from audiopalm.stages.synthesize_shards import PROMPT_SECONDS, SpeakerOptions, synthesize_shards


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("acoustic", "codec", "data_dir", "tokens"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--audio_format", choices=["wav", "flac.ark"], default="wav")
    parser.add_argument("--prompt_seconds", type=float, default=PROMPT_SECONDS)
    add_seed(parser)
    add_worker_options(parser)
    args = parse_with_overrides(parser, "temperature=0")
    synthesize_shards(args.todo, args.done, options_of(SpeakerOptions, args))


if __name__ == "__main__":
    run(main)
