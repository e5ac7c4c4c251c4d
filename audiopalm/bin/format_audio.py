"""Stage 2: every utterance and its spoken translations as 16 kHz mono audio, each piece of speech written once.

Reads a Kaldi data directory: `wav.scp` alone (one file per utterance) or with `segments` (one line: utterance id, then
one or more `recording start end` joined in order; `recording 0 -1` is all of it, as in Kaldi). The translations are in
`wav.scp.<language>` or `segments.<language>`.
Speech is named by a hash of its source and cuts, so that equal speech is stored once. A rerun writes only missing
files. Utterances whose audio is damaged, too short, too long, or too short for their text are removed and listed.
"""

import argparse
from pathlib import Path

from audiopalm.core.arguments import fraction, paired
from audiopalm.core.command import run
from audiopalm.stages.audio_store import FORMATS, AudioStore
from audiopalm.stages.format_audio import Limits, format_audio
from audiopalm.stages.jobs import add_launcher_options, launcher_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", type=Path, required=True, nargs="+", help="data directories of stage 1")
    parser.add_argument("--output", type=Path, required=True, nargs="+", help="one for each --input, in order")
    parser.add_argument("--audio_dir", type=Path, required=True, help="folder of the audio, shared by all sets")
    parser.add_argument("--audio_format", choices=FORMATS, default="flac",
                        help="a file for each piece of speech, or with flac.ark archives of many")
    parser.add_argument("--pipes", choices=["true", "false"], default="false",
                        help="run commands in the place of files in wav.scp, such as `sox x.mp3 -t wav - |`")
    parser.add_argument("--min_seconds", type=float, default=0.1, help="shorter utterances are removed")
    parser.add_argument("--max_seconds", type=float, default=30.0, help="longer utterances are removed")
    parser.add_argument("--max_drop", type=fraction, default=0.05, help="fraction of utterances that may be damaged")
    add_launcher_options(parser, "AUDIO_DIR/jobs")
    args = parser.parse_args()
    format_audio(paired(args, "input", "output"), AudioStore(args.audio_dir, args.audio_format),
                 launcher_of(args, args.audio_dir), Limits(args.min_seconds, args.max_seconds, args.max_drop),
                 args.pipes == "true")


if __name__ == "__main__":
    run(main)
