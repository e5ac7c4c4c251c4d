"""Speech to audio units and back to speech, to hear what units, acoustic model and codec preserve of a recording.

    python -m audiopalm.bin.resynthesize x.wav y.wav
    python -m audiopalm.bin.resynthesize x.wav y.wav --voice other.wav

The voice prompt is the first 3 s of the recording itself, or of another recording.
"""

import argparse
from pathlib import Path

from audiopalm.core.arguments import add_seed, parse_with_overrides
from audiopalm.core.command import run
from audiopalm.data.audio import check_output, read_audio
from audiopalm.stages.resynthesize import resynthesize


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input", help="a recording")
    parser.add_argument("output", help="where to write the speech: .wav or .flac, 16 kHz mono")
    parser.add_argument("--voice", help="a recording of the voice to speak in (default: the input)")
    parser.add_argument("--model", type=Path, default="egs/mini/exp/pack",
                        help="folder with units/, acoustic/ and codec/: of stage 14, or exp/ (default: %(default)s)")
    add_seed(parser)
    args = parse_with_overrides(parser, "temperature=0")
    output = check_output(args.output, [args.input, args.voice] if args.voice else [args.input])
    samples = read_audio(args.input)
    voice = read_audio(args.voice) if args.voice else samples
    print(resynthesize(samples, voice, output, args.model, args.seed, args.overrides))


if __name__ == "__main__":
    run(main)
