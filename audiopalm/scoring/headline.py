"""The headline figures of a recipe: means over languages for each seed, with the goals of the recipe."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audiopalm.scoring.goals import NO_GOALS, Goals, load_goals
from audiopalm.scoring.results import ResultRow, by_seed, one_judge, select

# Name of a figure -> the rows that are averaged.
FIGURES: dict[str, dict[str, Any]] = {
    "ASR WER, mean of languages": {"task": "asr", "metric": "wer"},
    "AST BLEU into English": {"task": "ast", "metric": "bleu", "target": "en"},
    "MT BLEU, mean of pairs": {"task": "mt", "metric": "bleu"},
    "TTS WER by the judge": {"task": "tts", "metric": "asr_wer"},
    "S2ST es-en ASR-BLEU": {"task": "s2st", "metric": "asr_bleu", "source": "es", "target": "en"},
    "S2ST into English ASR-BLEU": {"task": "s2st", "metric": "asr_bleu", "target": "en"},
    "S2ST nearer to own voice": {"task": "s2st", "metric": "speaker_win"},
    "S2ST cosine to own voice": {"task": "s2st", "metric": "speaker_cosine"},
}


@dataclass(frozen=True)
class Headline:
    """A figure per seed.

    ceiling: the same figure on true recordings, or None. goal: the goal in words, or empty. met: whether the mean over
    seeds reaches the goal; None without a goal.
    """

    name: str
    metric: str
    values: dict[int, float]
    ceiling: float | None
    goal: str
    met: bool | None

    @property
    def mean(self) -> float:
        return sum(self.values.values()) / len(self.values)


def recipe_goals(path: str | Path | None = None) -> Goals:
    """The goals of `path`, or of conf/goals.yaml in the working directory; NO_GOALS if neither exists."""
    default = Path("conf/goals.yaml")
    return load_goals(path or (default if default.exists() else None), list(FIGURES))


def headlines(rows: list[ResultRow], recipe: str, set_name: str, goals: Goals = NO_GOALS) -> list[Headline]:
    """The figures for which there are rows, by one judge (`one_judge`); each is the mean over its language pairs."""
    rows = one_judge(select(rows, recipe=recipe, set=set_name))
    figures = []
    for name, wanted in FIGURES.items():
        values = by_seed(select(rows, system="model", **wanted))
        if not values:
            continue
        true = by_seed(select(rows, system="true_audio", **wanted))
        ceiling = sum(true.values()) / len(true) if true else None
        goal = goals.find(recipe, name)
        met = None if goal is None else goal.is_met(sum(values.values()) / len(values), ceiling)
        figures.append(Headline(name, wanted["metric"], values, ceiling, str(goal or ""), met))
    return figures
