"""Answer one recording or text with a packed model: prints the texts, writes the speech.

    python -m audiopalm.bin.infer x.wav --task "[ASR AST S2ST Spanish English]" --out y.wav
    python -m audiopalm.bin.infer "buenos dias" --task "[TTS Spanish]" --prompt voice.wav --out y.wav
"""

import argparse

from audiopalm.core.command import run
from audiopalm.core.config import load_config
from audiopalm.core.errors import AudioPaLMError
from audiopalm.data.audio import SAMPLE_RATE, write_audio
from audiopalm.inference import AudioPaLM
from audiopalm.lm.generation.config import DecodingConfig
from audiopalm.tasks import parse_tag


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input", help="a recording; for MT and TTS a text")
    parser.add_argument("--task", required=True, help="a tag, for example '[S2ST Spanish English]'")
    parser.add_argument("--model", default="egs/mini/exp/pack", help="folder of stage 14 (default: %(default)s)")
    parser.add_argument("--prompt", help="a recording of the voice to speak in (default: the input)")
    parser.add_argument("--out", help="where to write the speech: .wav or .flac, 16 kHz mono")
    parser.add_argument("--decoding", nargs="*", default=[], metavar="KEY=VALUE",
                        help="settings of audiopalm.lm.generation.config.DecodingConfig: beam=8 rescore=true")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    row, _, _ = parse_tag(args.task)  # a wrong task is told before anything is loaded
    if any(output.is_audio for output in row.outputs) and args.out is None:
        raise AudioPaLMError(f"{args.task} speaks: say where to write it with --out y.wav")
    decoding = load_config(DecodingConfig, overrides=args.decoding)
    answer = AudioPaLM.from_pretrained(args.model, decoding)(args.input, args.task, args.prompt, args.seed)
    for part, text in answer.text.items():
        print(f"{part}: {text}")
    if answer.truncated:
        print("warning: the answer was cut at its length limit")
    if answer.audio is not None:
        if len(answer.audio) == 0:
            raise AudioPaLMError("the model answered with no audio at all; nothing was written")
        write_audio(args.out, answer.audio)
        print(f"{args.out}: {len(answer.audio) / SAMPLE_RATE:.2f} s")


if __name__ == "__main__":
    run(main)
