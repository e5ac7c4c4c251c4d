"""Stage 11: decoded audio units to speech with the voice of a 3 s prompt, for every decode folder with units.scp.

The prompt of speech translation is the source utterance, that of text to speech another utterance of the speaker.
Run again after an interruption, it goes on; a finished folder is left alone unless its units or the models changed.
"""

import argparse
import logging
from pathlib import Path

from audiopalm.acoustic.registry import load_acoustic
from audiopalm.codec.registry import load_codec
from audiopalm.core.arguments import parse_with_overrides
from audiopalm.core.command import run
from audiopalm.core.device import best_device
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import read_json
from audiopalm.stages.synthesize import Job, Prompts, check_codec, decoded_jobs, other_job, synthesize, true_job


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--decode_dir", required=True, help="folder of decodes of one set, e.g. exp/decode/test")
    parser.add_argument("--data_dir", required=True, help="its data directory, e.g. dump/raw/test")
    parser.add_argument("--tokens", required=True, help="its tokens, e.g. dump/tokens/test")
    parser.add_argument("--acoustic", required=True, help="e.g. exp/acoustic")
    parser.add_argument("--codec", required=True, help="e.g. exp/codec")
    parser.add_argument("--names", default=None, help='folders, e.g. "s2st_es_en tts_en" (default: all with units.scp)')
    parser.add_argument("--true_tokens", default="", metavar="LANGUAGES",
                        help="also speak the true units in these languages, into true_tokens_<language>: the ceiling. "
                             "Of the utterances in the chosen folders; of the whole set where there is no folder")
    parser.add_argument("--true_most", type=int, metavar="N",
                        help="of --true_tokens, N utterances of each source language, evenly spread over the ids")
    parser.add_argument("--other_prompts", type=int, default=0, metavar="N",
                        help="of S2ST, also speak N utterances of each decode with another speaker's prompt, into "
                             "other_prompt_<decode>: what the voice scores are without the right prompt")
    parser.add_argument("--limit", type=int, help="speak only the first N utterances (by id) of each folder")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parse_with_overrides(parser, "iterations=[16,1] temperature=0")
    device = best_device()
    acoustic = load_acoustic(arguments.acoustic, device, arguments.overrides)
    codec = load_codec(arguments.codec, device)
    check_codec(acoustic, arguments.codec)
    prompts = Prompts(arguments.data_dir, arguments.tokens, acoustic, arguments.acoustic)
    decoded = decoded_jobs(arguments.decode_dir, arguments.names.split() if arguments.names else None, prompts,
                           arguments.limit)
    chosen = {utterance for job in decoded for utterance in job.units}
    ceilings = [true_job(arguments.decode_dir, language, prompts, chosen, arguments.true_most)
                for language in arguments.true_tokens.split()]
    if not list(Path(arguments.decode_dir).glob("*/meta.json")):
        raise AudioPaLMError(f"{arguments.decode_dir} holds no decode; run stage 10 (decode) first")
    if not decoded + ceilings:
        logging.info("%s: no decode speaks, there is nothing to synthesize", arguments.decode_dir)

    def speak(job: Job) -> None:
        synthesize(job, prompts, acoustic, arguments.acoustic, codec, arguments.seed)

    for job in decoded + ceilings:
        speak(job)
    for job in decoded:
        if arguments.other_prompts and "s2st" in read_json(job.folder / "meta.json")["task"]:
            speak(other_job(job, prompts, arguments.other_prompts))


if __name__ == "__main__":
    run(main)
