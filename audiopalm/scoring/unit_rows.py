"""Rows of results.json about the audio tokenizer: the quality of its units, as stage 3 has measured it."""

import logging
from pathlib import Path

from audiopalm.core.files import read_json
from audiopalm.scoring.results import ResultRow


def unit_rows(units: Path, recipe: str, seed: int, code: str) -> list[ResultRow]:
    """Rows of the set `units` from report.json of stage 3; no rows if the tokenizer has no report."""
    if not (units / "report.json").exists():
        logging.info("%s has no report.json: no row describes its units", units)
        return []
    report, kind = read_json(units / "report.json"), read_json(units / "config.json")["kind"]
    measured = Path(report["set"]).name
    recordings = f"units of {report['recordings']} recordings of {measured}"
    aligned = f"PocketSphinx's phones in {report.get('aligned')} English recordings of {measured}"
    counts = {"phone_purity": ("aligned", aligned), "phone_information": ("aligned", aligned),
              "perplexity": ("recordings", recordings), "bits_per_second": ("recordings", recordings)}
    return [ResultRow(recipe=recipe, set="units", task="units", part=None, source=None, target=None, metric=metric,
                      value=report[metric], low=None, high=None, n=report[count], system="model", seed=seed,
                      signature=signature, normaliser=None, judge=None, tag=kind, decoding=None, model=None,
                      vocabulary=None, decode=None, ids=None, code=code)
            for metric, (count, signature) in counts.items() if metric in report]
