"""Stage 7 with --init_lm: bring a text LM in Hugging Face's layout into ours, as if it had been trained here."""

import argparse
import logging
from pathlib import Path

from audiopalm.core.command import run
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import sha256
from audiopalm.core.hub import find_pretrained
from audiopalm.lm.huggingface.pretrained import read_config, read_pretrained
from audiopalm.lm.storage import save_model
from audiopalm.vocabulary.joint import load_vocabulary
from audiopalm.vocabulary.text import tokenizer_of_lm


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--init_lm", required=True, help="its folder or hub id, the same as in stage 6")
    parser.add_argument("--vocabulary", required=True, help="directory of stage 6")
    parser.add_argument("--output", required=True)
    parser.add_argument("--seed", type=int, default=0, help="stands in config.json; nothing is drawn")
    args = parser.parse_args()
    vocabulary, _ = load_vocabulary(args.vocabulary)
    lm = find_pretrained(args.init_lm)
    if sha256(tokenizer_of_lm(lm)) != vocabulary.text_sha256 or read_config(lm).vocabulary_size != vocabulary.text_size:
        raise AudioPaLMError(f"{args.vocabulary} was not made from the tokenizer of {args.init_lm}; run stage 6 "
                             "(vocabulary) with the same --init_lm")
    model = read_pretrained(lm)
    save_model(Path(args.output), model.config, model.state_dict(), vocabulary.layout_hash, args.seed)
    logging.info("%s: %s, %.1f M parameters, from %s", args.output, model.config.family,
                 sum(p.numel() for p in model.parameters()) / 1e6, args.init_lm)


if __name__ == "__main__":
    run(main)
