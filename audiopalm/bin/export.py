"""The language model of stage 8 as a Hugging Face folder, which `AutoModelForCausalLM` of transformers loads.

A model that was imported stays in its family; one that was trained here becomes a Llama.
"""

import argparse
import logging
import shutil
from pathlib import Path

from audiopalm.core.command import run
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.partials import partial_folder
from audiopalm.lm.huggingface.pretrained import write_pretrained
from audiopalm.lm.storage import load_model
from audiopalm.lm.trained import read_trained, write_trained
from audiopalm.vocabulary.export import write_tokenizer
from audiopalm.vocabulary.joint import load_vocabulary
from audiopalm.vocabulary.text import tokenizer_file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lm", required=True, help="directory of stage 8")
    parser.add_argument("--vocabulary", required=True, help="directory of stage 6")
    parser.add_argument("--output", required=True, help="folder to make; an earlier export there is replaced")
    args = parser.parse_args()
    output = Path(args.output)
    if output.exists() and not (output / "generation_config.json").exists():
        raise AudioPaLMError(f"{output} exists and is not an export; give --output another name")
    vocabulary, _ = load_vocabulary(args.vocabulary)
    model = load_model(args.lm, vocabulary, "stage 8 (finetune)")
    partial = partial_folder(output)
    write_tokenizer(vocabulary, tokenizer_file(args.vocabulary), partial)
    vocabulary.save(partial)
    write_pretrained(model, partial, vocabulary.eos)
    write_trained(partial, read_trained(args.lm))
    shutil.rmtree(output, ignore_errors=True)
    partial.rename(output)
    logging.info("exported %s: a %s model of %d text ids and %d audio ids", output, model.config.family,
                 vocabulary.text_size, vocabulary.audio_size)


if __name__ == "__main__":
    run(main)
