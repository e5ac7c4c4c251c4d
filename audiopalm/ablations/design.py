"""The design of the ablations, conf/tables/tables.yaml: systems, budgets, comparisons, and the expected chance."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from audiopalm.core.config import chosen, ranged
from audiopalm.core.errors import AudioPaLMError, nearest
from audiopalm.lm.mixture import MixtureEntry

BASE = "base"  # the finished run of run.sh, from which the first systems start
SENTENCES = 100  # of each language, in `spread`
DIRECTIONS = ("better", "worse", "nothing")
LOWER_IS_BETTER = ("wer", "cer", "asr_wer", "text_loss")
# {metric: its name on the page}. Comparisons may have no other metric.
METRICS = {"bleu": "BLEU", "wer": "WER", "asr_bleu": "ASR-BLEU", "speaker_cosine": "speaker cosine",
           "speaker_cosine_onnx": "speaker cosine of the second encoder", "dnsmos": "DNSMOS",
           "acoustic_consistency": "acoustic consistency", "rate_likeness": "correlation of rates",
           "pause_likeness": "correlation of pauses", "pitch_likeness": "correlation of pitch", "mt_bleu": "BLEU of MT",
           "text_loss": "loss of texts"}


@dataclass
class Budget:
    """The least number of tokens that a stage 8 sees of `tasks`, into `targets`. An empty list stands for all."""

    tokens: int = ranged(low=1)
    tasks: list[str] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)


@dataclass
class Spread:
    """Standard deviations of a metric: over seeds, and of the difference of two means over the sentences of a set.

    Both are of the mean over so many `languages` with 100 sentences each.
    """

    seeds: float = ranged(above=0)
    sentences: float = ranged(low=0)
    languages: int = ranged(4, low=1)

    def scaled(self, languages: int, sentences: int) -> "Spread":
        """The same for a mean over other numbers of languages and of sentences in each, which are independent."""
        of_languages = (self.languages / languages) ** 0.5
        return Spread(self.seeds * of_languages, self.sentences * of_languages * (SENTENCES / sentences) ** 0.5,
                      languages)


@dataclass
class System:
    """A system: the stages that it runs, from `first` to `last`, and the options of run.sh for them.

    after: the system whose run of the same seed has what these stages read. unit_every: 2 takes every second unit of
    the base run, so that there are half as many a second. mixture, budget: names of the design's mixtures and budgets.
    lm_args come after those of the design. codec: a trained codec that is spoken with, instead of that of the base run.
    The system is left out if the recipe has no file `needs`.
    """

    name: str
    after: str = "textlm"
    first: int = ranged(8, low=3, high=12)
    last: int = ranged(12, low=3, high=12)
    units_config: str = ""
    units_args: str = ""
    unit_every: int = ranged(1, low=1)
    init_lm: str = ""
    textlm_args: str = ""
    mixture: str = ""
    budget: str = ""
    lm_args: str = ""
    codec: str = ""
    acoustic_config: str = ""
    decode_config: str = ""
    synthesize_args: str = ""
    score_args: str = ""
    test_sets: str = "test"
    needs: str = ""

    def __post_init__(self) -> None:
        """Raise AudioPaLMError for an option of a stage that the system does not run, and for a missing budget."""
        stages = {"units_config": 3, "units_args": 3, "init_lm": 6, "textlm_args": 7, "mixture": 8, "budget": 8,
                  "lm_args": 8, "acoustic_config": 9, "decode_config": 10, "synthesize_args": 11, "score_args": 12}
        for option, stage in stages.items():
            if getattr(self, option) and not self.first <= stage <= self.last:
                raise AudioPaLMError(f"system {self.name}: {option} is of stage {stage}, but the system runs stages "
                                     f"{self.first} to {self.last}")
        if bool(self.mixture) != bool(self.budget):
            raise AudioPaLMError(f"system {self.name}: a mixture needs a budget, and a budget a mixture")
        if self.first <= 8 <= self.last and not self.mixture:
            raise AudioPaLMError(f"system {self.name}: stage 8 needs a mixture and a budget")
        if self.codec and not self.acoustic_config:
            raise AudioPaLMError(f"system {self.name}: another codec needs an acoustic model, so acoustic_config too")
        if self.first == 3 and not self.units_config:
            raise AudioPaLMError(f"system {self.name}: stage 3 needs units_config")
        if self.unit_every > 1 and (self.first, self.after) != (6, BASE):
            raise AudioPaLMError(f"system {self.name}: other units need a vocabulary: unit_every goes with first: 6 "
                                 f"and after: {BASE}")


@dataclass
class Side:
    """One line of a table: a system, its figure in the paper, and the task and part that are scored.

    part: only for a task with several parts. measured: `model`, a ceiling (`true_audio`), or the text LM before the
    finetuning (`text_lm`). sources, targets: instead of those of the comparison. earlier: the system of an earlier
    design in this place. x: its place on a plot.
    """

    system: str
    label: str
    paper: str = ""
    task: str = "ast"
    part: str = ""
    measured: str = chosen("model", ("model", "text_lm", "true_audio"))
    sources: list[str] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)
    earlier: str = ""
    x: float | None = ranged(None, above=0)


@dataclass
class Comparison:
    """A table. `paper_says` is the paper's result for each side against the side before it.

    seeds: the number of seeds, instead of that of the design. sentences: those of each language that are scored, in
    all sets together. plot: the name of the axis of a plot of the sides.
    """

    name: str
    title: str
    question: str
    sides: list[Side]
    paper_says: str = chosen("nothing", DIRECTIONS)
    note: str = ""
    metric: str = chosen("bleu", METRICS)
    sources: list[str] = field(default_factory=lambda: ["es", "fr", "it", "ru"])
    targets: list[str] = field(default_factory=lambda: ["en"])
    sets: list[str] = field(default_factory=lambda: ["test", "dev"])
    seeds: int | None = ranged(None, low=2)
    sentences: int = ranged(2 * SENTENCES, low=1)
    plot: str = ""

    @property
    def wanted_sign(self) -> int:
        """The sign of the difference of neighbouring sides in the paper; 0 if it says nothing."""
        better = -1 if self.metric in LOWER_IS_BETTER else 1
        return {"better": better, "worse": -better, "nothing": 0}[self.paper_says]

    def of_earlier_designs(self) -> "Comparison":
        """The comparison by its first set alone, as earlier designs scored it."""
        return replace(self, sets=self.sets[:1])

    def part_of(self, side: Side) -> str | None:
        """The part that a side's rows have; None for figures that do not measure an answer."""
        return None if self.metric in ("text_loss", "mt_bleu") else side.part or side.task


@dataclass
class Design:
    """The contents of conf/tables/tables.yaml.

    design: its number. lm_args: of every stage 8. timing: {a configuration or a piece of work: its seconds}, for
    estimates.

    Raises AudioPaLMError for unknown names, for a name that occurs twice, and for systems after themselves.
    """

    design: int = ranged(low=1)
    seeds: int = ranged(low=2)
    lm_args: str = ""
    spread: dict[str, Spread] = field(default_factory=dict)
    timing: dict[str, float] = field(default_factory=dict)
    budgets: dict[str, Budget] = field(default_factory=dict)
    mixtures: dict[str, list[MixtureEntry]] = field(default_factory=dict)
    systems: list[System] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)

    def __post_init__(self) -> None:
        names = [system.name for system in self.systems]
        for kind, given in (("system", names), ("comparison", [comparison.name for comparison in self.comparisons])):
            if twice := [name for name in given if given.count(name) > 1]:
                raise AudioPaLMError(f"the {kind} {twice[0]} occurs twice")
        for system in self.systems:
            _known(f"system {system.name}: after", system.after, [BASE, *names])
            _known(f"system {system.name}: mixture", system.mixture, ["", *self.mixtures])
            _known(f"system {system.name}: budget", system.budget, ["", *self.budgets])
            self.chain(system.name)
        for comparison in self.comparisons:
            for side in comparison.sides:
                _known(f"{comparison.name}: system", side.system, names)
            if len(comparison.sides) < 2:
                raise AudioPaLMError(f"{comparison.name}: one side cannot be compared")
            if comparison.plot and not all(side.x for side in comparison.sides):
                raise AudioPaLMError(f"{comparison.name}: a plot needs an x for every side")

    def system(self, name: str) -> System:
        """The system of this name."""
        return next(system for system in self.systems if system.name == name)

    def chain(self, name: str) -> list[System]:
        """The systems that a system comes after, the first first, and itself."""
        systems = [self.system(name)]
        while systems[0].after != BASE:
            systems.insert(0, self.system(systems[0].after))
            if len(systems) > len(self.systems):
                raise AudioPaLMError(f"system {name} comes after itself")
        return systems

    def chosen(self, names: Iterable[str]) -> list[Comparison]:
        """The comparisons with these names, or all if there are no names. Raises AudioPaLMError for an unknown name."""
        known = {comparison.name: comparison for comparison in self.comparisons}
        for name in names:
            _known("table", name, list(known))
        return [known[name] for name in names] or self.comparisons

    def seeds_of(self, comparison: Comparison) -> int:
        """The number of seeds that a comparison is decided by."""
        return comparison.seeds or self.seeds


def _known(what: str, name: str, known: Iterable[str]) -> None:
    if name not in known:
        raise AudioPaLMError(f"unknown {what} {name!r}; {nearest(name, [word for word in known if word])}")
