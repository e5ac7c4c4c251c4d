"""Stage 14: the pack of a model with its card."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path

from audiopalm.core.config import from_dict
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import read_object, require, sha256
from audiopalm.data.domain import FILE as DOMAIN
from audiopalm.data.domain import RECIPE_FILE, Domain
from audiopalm.lm.generation.confidence import FILE as CONFIDENCE
from audiopalm.lm.generation.confidence import MADE_BY, Confidence
from audiopalm.lm.trained import read_trained
from audiopalm.report.card import card, example_of_model, scores_of_model
from audiopalm.report.card_header import UNSTATED_LICENCE
from audiopalm.report.reliability import FILE as RELIABILITY
from audiopalm.report.reliability import reliability_plot, reliability_section
from audiopalm.scoring.calibration_report import CalibrationReport
from audiopalm.scoring.headline import recipe_goals
from audiopalm.stages.pack import CONTENTS, pack


@dataclass(frozen=True)
class PackOptions:
    """The inputs of a pack and of its card. The fields are the options of the command of stage 14."""

    expdir: Path
    output: Path
    recipe: str
    results: Path
    decode_dir: Path
    data_dir: Path
    units: Path | None = None
    codec: Path | None = None
    goals: Path | None = None
    domain: Path | None = None
    license: str = UNSTATED_LICENCE


def pack_model(options: PackOptions) -> None:
    """Write the pack and its zip. The card has only scores and examples of the packed model.

    Raises AudioPaLMError for missing models and for a language model that states no trained tasks.
    """
    folders = {name: options.expdir / name for name in CONTENTS}
    folders |= {name: given for name, given in (("units", options.units), ("codec", options.codec)) if given}
    model = sha256(require(folders["lm"] / "model.safetensors", CONTENTS["lm"][1]))
    trained = read_trained(folders["lm"])
    if not trained:
        raise AudioPaLMError(f"{folders['lm']}/config.json names no task that the model was trained on; run stage 8 "
                             "(finetune) again")
    beside: dict[str, bytes] = {}
    domain, section = _domain(options.domain), ""
    calibrated = options.expdir / CONFIDENCE
    if calibrated.exists():
        Confidence.load(calibrated, model)  # raises an error if it belongs to another language model
        beside[CONFIDENCE] = calibrated.read_bytes()
        values = read_object(calibrated, MADE_BY, {"report": dict})["report"]
        report = from_dict(CalibrationReport, values, f"{calibrated}: report")
        if section := reliability_section(report):
            beside[RELIABILITY] = reliability_plot(report.right)
    if domain is not None:
        beside[DOMAIN] = f"{json.dumps(domain.to_json(), indent=2, ensure_ascii=False)}\n".encode()
    text = card(options.recipe, trained, scores_of_model(options.results, options.recipe, model),
                recipe_goals(options.goals), example_of_model(options.decode_dir, options.data_dir, model) + section,
                options.license, domain)
    archive = pack(folders, options.output, options.recipe, {**beside, "README.md": text.encode()})
    logging.info("packed %s and %s (%.1f MB)", options.output, archive, archive.stat().st_size / 1e6)


def _domain(path: Path | None) -> Domain | None:
    """The domain of `path`, or of conf/domain.yaml in the working directory; None if neither exists."""
    if path is None and not RECIPE_FILE.exists():
        return None
    return Domain.of_recipe(path or RECIPE_FILE)
