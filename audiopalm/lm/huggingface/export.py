"""The language model of stage 8 with its vocabulary as a folder in Hugging Face's layout."""

import logging
import shutil
from pathlib import Path

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import check_writable_folder
from audiopalm.core.partials import partial_folder
from audiopalm.lm.huggingface.pretrained import write_pretrained
from audiopalm.lm.storage import load_model
from audiopalm.lm.trained import EXPORT_FILE, read_trained, write_trained
from audiopalm.vocabulary.export import write_tokenizer
from audiopalm.vocabulary.joint import load_vocabulary
from audiopalm.vocabulary.text import tokenizer_file


def export(lm: Path, vocabulary_dir: Path, output: Path) -> None:
    """Write the model of `lm` with its tokenizer to the folder `output`, which appears complete or not at all.

    An earlier export at `output` is replaced. Raises AudioPaLMError if `output` is anything else, and for a model that
    its family cannot express.
    """
    check_writable_folder(output)
    if output.exists() and not all((output / name).is_file() for name in (EXPORT_FILE, "vocabulary.json")):
        raise AudioPaLMError(f"{output} exists and is not an export; give --output another name")
    vocabulary, _ = load_vocabulary(vocabulary_dir)
    model = load_model(lm, vocabulary, "stage 8 (finetune)")
    partial = partial_folder(output)
    write_tokenizer(vocabulary, tokenizer_file(vocabulary_dir), partial)
    vocabulary.save(partial)
    write_pretrained(model, partial, vocabulary.eos)
    write_trained(partial, read_trained(lm))
    shutil.rmtree(output, ignore_errors=True)
    partial.rename(output)
    logging.info("exported %s: a %s model of %d text ids and %d audio ids", output, model.config.family,
                 vocabulary.text_size, vocabulary.audio_size)
