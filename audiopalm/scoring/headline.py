"""The figures a recipe is judged by, averaged over languages, each seed on its own, beside what was aimed at."""

from collections.abc import Callable
from dataclasses import dataclass

from audiopalm.scoring.results import Row, by_seed, one_judge, select


@dataclass(frozen=True)
class Headline:
    """A figure per seed; `ceiling` is the same figure on true recordings, `met` whether its mean reaches the goal."""

    name: str
    values: dict[int, float]
    ceiling: float | None
    goal: str
    met: bool | None

    @property
    def mean(self) -> float:
        return sum(self.values.values()) / len(self.values)


# Goals of the embedded corpus; other recipes show the same figures without goals.
GOALS: dict[str, dict[str, tuple[str, Callable[[float, float | None], bool]]]] = {
    "mini": {
        "ASR WER, mean of languages": ("at most 0.15", lambda value, ceiling: value <= 0.15),
        "AST BLEU into English": ("at least 60", lambda value, ceiling: value >= 60),
        "MT BLEU, mean of pairs": ("at least 80", lambda value, ceiling: value >= 80),
        "TTS WER by the judge": ("at most 0.15 above true audio",
                                 lambda value, ceiling: ceiling is not None and value <= ceiling + 0.15),
        "S2ST es-en ASR-BLEU": ("at least 60 % of true audio",
                                lambda value, ceiling: ceiling is not None and value >= 0.6 * ceiling),
        "S2ST nearer to own voice": ("at least 0.80", lambda value, ceiling: value >= 0.8),
    }
}


def headlines(rows: list[Row], recipe: str, set_name: str) -> list[Headline]:
    """The figures that the rows allow, by Moonshine or else the first judge; means over the language pairs present."""
    rows = one_judge(select(rows, recipe=recipe, set=set_name))
    figures = [
        ("ASR WER, mean of languages", {"task": "asr", "metric": "wer"}),
        ("AST BLEU into English", {"task": "ast", "metric": "bleu", "target": "en"}),
        ("MT BLEU, mean of pairs", {"task": "mt", "metric": "bleu"}),
        ("TTS WER by the judge", {"task": "tts", "metric": "asr_wer"}),
        ("S2ST es-en ASR-BLEU", {"task": "s2st", "metric": "asr_bleu", "source": "es", "target": "en"}),
        ("S2ST into English ASR-BLEU", {"task": "s2st", "metric": "asr_bleu", "target": "en"}),
        ("S2ST nearer to own voice", {"task": "s2st", "metric": "speaker_win"}),
        ("S2ST cosine to own voice", {"task": "s2st", "metric": "speaker_cosine"}),
    ]
    found = []
    for name, wanted in figures:
        values = by_seed(select(rows, system="model", **wanted))
        if not values:
            continue
        true = by_seed(select(rows, system="true_audio", **wanted))
        ceiling = sum(true.values()) / len(true) if true else None
        goal, reaches = GOALS.get(recipe, {}).get(name, ("", None))
        headline = Headline(name, values, ceiling, goal, None)
        found.append(headline if reaches is None else Headline(name, values, ceiling, goal,
                                                               reaches(headline.mean, ceiling)))
    return found
