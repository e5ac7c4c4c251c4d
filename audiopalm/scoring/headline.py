"""The figures a recipe is judged by, averaged over languages, each seed on its own, beside the goals of the recipe."""

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
    """A figure per seed; `ceiling` is the same figure on true recordings, `met` whether its mean reaches the goal."""

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
    """The goals of `path`, or of conf/goals.yaml in the recipe's directory, which few recipes have."""
    usual = Path("conf/goals.yaml")
    return load_goals(path or (usual if usual.exists() else None), list(FIGURES))


def headlines(rows: list[ResultRow], recipe: str, set_name: str, goals: Goals = NO_GOALS) -> list[Headline]:
    """The figures that the rows allow, by Moonshine or else the first judge; means over the language pairs present."""
    rows = one_judge(select(rows, recipe=recipe, set=set_name))
    found = []
    for name, wanted in FIGURES.items():
        values = by_seed(select(rows, system="model", **wanted))
        if not values:
            continue
        true = by_seed(select(rows, system="true_audio", **wanted))
        ceiling = sum(true.values()) / len(true) if true else None
        goal = goals.find(recipe, name)
        headline = Headline(name, wanted["metric"], values, ceiling, str(goal or ""), None)
        found.append(headline if goal is None else Headline(
            name, wanted["metric"], values, ceiling, str(goal), goal.is_met(headline.mean, ceiling)))
    return found
