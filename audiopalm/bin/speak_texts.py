"""Synthetic speech: both sides of parallel texts, spoken by a TTS command or by a packed model of audiopalm.

Reads INPUT/{train,dev} of prepare_texts; writes OUTPUT/{train,dev} with wav.scp, wav.scp.<language> and the texts, and
OUTPUT/wav. A file is named by a hash of its text, its language and its speaker. Equal texts are therefore spoken once,
and a rerun speaks only the missing files.
"""

import argparse
from pathlib import Path

from audiopalm.core.arguments import fraction
from audiopalm.core.command import run
from audiopalm.inference import spoken_by_model
from audiopalm.stages.speak_texts import by_command, speak_texts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", type=Path, required=True, help="output of prepare_texts")
    parser.add_argument("--output", type=Path, required=True)
    speaker = parser.add_mutually_exclusive_group(required=True)
    speaker.add_argument("--command", help="a TTS command with {text}, {lang} (a code) and {out} (a wav file)")
    speaker.add_argument("--model", help="a folder of stage 14 (pack) that speaks in the voice of --prompt")
    parser.add_argument("--prompt", help="a recording of 3 s or more, for --model")
    parser.add_argument("--nj", type=int, default=2, help="commands at once; a model speaks one text after another")
    parser.add_argument("--max_drop", type=fraction, default=0.05, help="fraction of the texts that may stay unspoken")
    arguments = parser.parse_args()
    if arguments.model and not arguments.prompt:
        parser.error("--model speaks in the voice of a recording: give --prompt")
    if arguments.command and (missing := [field for field in ("{text}", "{out}") if field not in arguments.command]):
        parser.error(f"--command {arguments.command!r} has no {missing[0]}")
    if arguments.command:
        speak_texts(arguments.input, arguments.output, arguments.command, lambda: by_command(arguments.command),
                    arguments.nj, arguments.max_drop)
    else:  # a model speaks one text after another
        speak_texts(arguments.input, arguments.output, f"{arguments.model} {arguments.prompt}",
                    lambda: spoken_by_model(arguments.model, arguments.prompt), 1, arguments.max_drop)


if __name__ == "__main__":
    run(main)
