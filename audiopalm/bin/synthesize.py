"""Stage 11: decoded audio units to speech with the voice of a 3 s prompt, for every decode folder with units.scp.

The prompt of speech translation is the source utterance, that of text to speech another utterance of the speaker.
After an interruption, the same command resumes. A finished folder stays as it is unless its units or the models change.
"""

import argparse
from pathlib import Path

from audiopalm.core.arguments import add_seed, options_of, parse_with_overrides
from audiopalm.core.command import run
from audiopalm.core.lock import locked
from audiopalm.stages.jobs import add_launcher_options, launcher_of
from audiopalm.stages.synthesize import PROMPTS, SpeechOptions, synthesize_set
from audiopalm.stages.synthesize_shards import PROMPT_SECONDS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, example in (("decode_dir", "decodes of one set: exp/decode/test"), ("data_dir", "dump/raw/test"),
                          ("tokens", "dump/tokens/test"), ("acoustic", "exp/acoustic"), ("codec", "exp/codec")):
        parser.add_argument(f"--{name}", type=Path, required=True, help=f"for example {example}")
    parser.add_argument("--names", default=None, help='folders, e.g. "s2st_es_en tts_en" (default: all with units.scp)')
    parser.add_argument("--true_tokens", default="", metavar="LANGUAGES",
                        help="the ceiling: also speak the true units in these languages, into true_tokens_<language>")
    parser.add_argument("--true_most", type=int, metavar="N",
                        help="limit --true_tokens to N utterances of each source language, evenly spaced over the ids")
    parser.add_argument("--other_prompts", type=int, default=0, metavar="N",
                        help="also speak N utterances of each decode in the source's voice with the prompt of another "
                             "speaker, into other_prompt_<decode>: the voice scores without the right prompt")
    parser.add_argument("--prompt", choices=PROMPTS, default="own", help="other: of another speaker; none: silence")
    parser.add_argument("--prompt_seconds", type=float, default=PROMPT_SECONDS, help="longest prompt (default: 3); "
                        "one below 3 s is repeated up to 3 s")
    parser.add_argument("--limit", type=int, help="speak only the first N utterances (by id) of each folder")
    parser.add_argument("--audio_format", choices=["wav", "flac.ark"], default="wav", help="files, or archives of many")
    add_seed(parser)
    add_launcher_options(parser, "DECODE_DIR/jobs")
    args = parse_with_overrides(parser, "iterations=[16,1] temperature=0")
    with locked(args.decode_dir, "synthesize"):
        synthesize_set(options_of(SpeechOptions, args), launcher_of(args, args.decode_dir))


if __name__ == "__main__":
    run(main)
