"""Stage 14: the pack of a model with its card."""

import logging
from dataclasses import dataclass
from pathlib import Path

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import require, sha256
from audiopalm.lm.generation.confidence import FILE as CONFIDENCE
from audiopalm.lm.generation.confidence import Confidence
from audiopalm.lm.trained import read_trained
from audiopalm.report.card import card, example_of_model, scores_of_model
from audiopalm.report.card_header import UNSTATED_LICENCE
from audiopalm.scoring.headline import recipe_goals
from audiopalm.stages.pack import CONTENTS, pack


@dataclass(frozen=True)
class PackOptions:
    """What is packed, and what the card is made from; the fields are the options of the command of stage 14."""

    expdir: Path
    output: Path
    recipe: str
    results: Path
    decode_dir: Path
    data_dir: Path
    units: Path | None = None
    codec: Path | None = None
    goals: Path | None = None
    license: str = UNSTATED_LICENCE


def pack_model(options: PackOptions) -> None:
    """Write the pack and its zip. The card has the scores and an example only where they are of the packed model."""
    folders = {name: options.expdir / name for name in CONTENTS}
    folders |= {name: given for name, given in (("units", options.units), ("codec", options.codec)) if given}
    model = sha256(require(folders["lm"] / "model.safetensors", CONTENTS["lm"][1]))
    trained = read_trained(folders["lm"])
    if not trained:
        raise AudioPaLMError(f"{folders['lm']}/config.json names no task that the model was trained on; run stage 8 "
                             "(finetune) again")
    text = card(options.recipe, trained, scores_of_model(options.results, options.recipe, model),
                recipe_goals(options.goals), example_of_model(options.decode_dir, options.data_dir, model),
                options.license)
    calibrated = options.expdir / CONFIDENCE
    if calibrated.exists():
        Confidence.load(calibrated, model)  # of this language model
    archive = pack(folders, options.output, options.recipe, text, calibrated if calibrated.exists() else None)
    logging.info("packed %s and %s (%.1f MB)", options.output, archive, archive.stat().st_size / 1e6)
