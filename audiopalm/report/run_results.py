"""Stage 12: the results of a run, its page RESULTS.md, and a comparison with the published figures of the recipe."""

import logging
import time
from dataclasses import dataclass
from pathlib import Path

from audiopalm.core.lock import locked
from audiopalm.report.results_page import number, set_order, table, write_results
from audiopalm.scoring.goals import Goals
from audiopalm.scoring.headline import headlines, recipe_goals
from audiopalm.scoring.results import ResultRow, merge, read_rows, write_rows
from audiopalm.scoring.score_run import ScoreOptions, score_run

PUBLISHED, PUBLISHED_PAGE = Path("results.json"), Path("RESULTS.md")  # committed in the folder of a recipe


@dataclass(frozen=True)
class ResultOptions:
    """The output files of a run. With `publish` the committed files of the recipe are written too."""

    results: Path
    report: Path
    goals: Path | None = None
    publish: bool = False


def score_and_report(scoring: ScoreOptions, options: ResultOptions) -> None:
    """Score a run, write its results.json and RESULTS.md, and print its figures beside the published ones.

    Raises AudioPaLMError as `score_run` does, for invalid goals, and if another process scores into the same folder.
    """
    with locked(scoring.output, "score"):
        began, goals = time.monotonic(), recipe_goals(options.goals)
        rows = write_rows(options.results, score_run(scoring))
        write_results(options.results, options.report, goals)
        print(beside_published(rows, read_rows(PUBLISHED) if PUBLISHED.exists() else [], scoring.recipe, goals))
        logging.info("%d rows in %s, page %s, %.1f s", len(rows), options.results, options.report,
                     time.monotonic() - began)
        if options.publish:
            merged = merge(PUBLISHED, rows)
            write_results(PUBLISHED, PUBLISHED_PAGE, goals)
            logging.info("published: %d rows of %d in %s, page %s", len(rows), len(merged), PUBLISHED, PUBLISHED_PAGE)


def beside_published(rows: list[ResultRow], published: list[ResultRow], recipe: str, goals: Goals) -> str:
    """A Markdown table of the averages of a run and of `published`, the latter with their range over seeds.

    It covers the set `test`, or all sets if there is no set of this name.
    """
    names = set_order({row.set for row in rows if row.set != "units"})
    parts = []
    for name in ["test"] if "test" in names else names:
        earlier = {headline.name: headline for headline in headlines(published, recipe, name)}
        lines = []
        for headline in headlines(rows, recipe, name, goals):
            values = list(earlier[headline.name].values.values()) if headline.name in earlier else []
            shown = [number(headline.metric, value) for value in (headline.mean, *values)]
            mean = number(headline.metric, sum(values) / len(values)) if values else ""
            spread = f"{min(shown[1:], key=float)} to {max(shown[1:], key=float)}" if values else ""
            lines.append([headline.name, shown[0], mean, spread, str(len(values)), headline.goal])
        if lines:
            header = [f"{recipe}, {name}", "this run", "published", "its seeds", "seeds", "goal"]
            parts.append(table(header, lines))
    return "\n\n".join(parts) or f"{recipe}: no figure that is averaged"
