"""Answer one recording or text with a packed model, for any tag. `audiopalm translate` is easier to use by hand.

    python -m audiopalm.bin.infer x.wav --task "[ASR AST S2ST Spanish English]" --out y.wav
    python -m audiopalm.bin.infer "buenos dias" --task "[TTS Spanish]" --voice voice.wav --out y.wav
"""

import argparse

from audiopalm.core.arguments import add_seed
from audiopalm.core.command import run
from audiopalm.core.config import load_config
from audiopalm.inference import AudioPaLM, write_answer
from audiopalm.lm.generation.config import DecodingConfig
from audiopalm.request import check_files
from audiopalm.tasks import AUDIO, parse_tag


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input", help="a recording; for MT and TTS a text")
    parser.add_argument("--task", required=True, help="a tag, for example '[S2ST Spanish English]'")
    parser.add_argument("--model", help="folder, zip or hub id of a pack of stage 14 (default: the shipped model)")
    parser.add_argument("--no_verify", action="store_true", help="do not compare the model with its audiopalm.json")
    parser.add_argument("--voice", help="a recording of the voice to speak in (default: the input)")
    parser.add_argument("--out", help="where to write the speech: .wav or .flac, 16 kHz mono")
    parser.add_argument("--decoding", nargs="*", default=[], metavar="KEY=VALUE",
                        help="settings of audiopalm.lm.generation.config.DecodingConfig: beam=8 rescore=true")
    add_seed(parser)
    args = parser.parse_args()
    check_files(args.input, args.task, args.voice, args.out, args.seed)  # before a model is loaded
    decoding = load_config(DecodingConfig, overrides=args.decoding)
    model = AudioPaLM.from_pretrained(args.model, verify=not args.no_verify)
    given = {"speech" if parse_tag(args.task)[0].input == AUDIO else "text": args.input}
    write_answer(model(task=args.task, voice=args.voice, decoding=decoding, seed=args.seed, **given), args.out)


if __name__ == "__main__":
    run(main)
