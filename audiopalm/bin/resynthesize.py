"""Speech to audio units and back to speech: what units, acoustic model and codec keep of a recording.

    python -m audiopalm.bin.resynthesize x.wav y.wav
    python -m audiopalm.bin.resynthesize x.wav y.wav --voice other.wav

The voice is that of the first 3 s of the recording itself, or of another one.
"""

import argparse
import time
from pathlib import Path

from audiopalm.acoustic.base import PROMPT_UNITS
from audiopalm.acoustic.registry import load_acoustic
from audiopalm.codec.registry import load_codec
from audiopalm.core.command import run
from audiopalm.core.device import best_device
from audiopalm.core.errors import AudioPaLMError
from audiopalm.data.audio import SAMPLE_RATE, read_audio, write_audio
from audiopalm.stages.synthesize import check_codec, check_units
from audiopalm.units.encoder import HOP
from audiopalm.units.registry import UnitTokenizer

FORMATS = (".wav", ".flac")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input", help="a recording")
    parser.add_argument("output", type=Path, help="where to write the speech: .wav or .flac, 16 kHz mono")
    parser.add_argument("--voice", help="a recording of the voice to speak in (default: the input)")
    parser.add_argument("--model", type=Path, default="egs/mini/exp/pack",
                        help="folder with units/, acoustic/ and codec/: of stage 14, or exp/ (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("overrides", nargs="*", help="generation settings, for example temperature=0")
    args = parser.parse_intermixed_args()
    if args.output.suffix not in FORMATS:
        raise AudioPaLMError(f"{args.output}: speech is written as {' or '.join(FORMATS)}")
    samples = read_audio(args.input)
    voice = (read_audio(args.voice) if args.voice else samples)[:PROMPT_UNITS * HOP]
    device = best_device()
    acoustic = load_acoustic(args.model / "acoustic", device, args.overrides)
    check_units(acoustic, args.model / "units")
    check_codec(acoustic, args.model / "codec")
    tokenizer, codec = UnitTokenizer.load(args.model / "units", device), load_codec(args.model / "codec", device)

    began = time.monotonic()
    codes = acoustic.generate(tokenizer.encode([samples]), tokenizer.encode([voice]), codec.encode([voice]), args.seed)
    spoken = codec.decode(codes)[0]
    took = time.monotonic() - began
    write_audio(args.output, spoken)
    seconds = len(spoken) / SAMPLE_RATE
    print(f"{args.output}: {seconds:.2f} s, real-time factor {took / seconds:.3f}")


if __name__ == "__main__":
    run(main)
