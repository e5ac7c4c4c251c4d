"""Fits confidence.json on the dev set and tests it on the test set. audiopalm/lm/generation/confidence.py uses it.

Two models are fitted. The first says whether an input is inside, that is, of the kind the language model was trained
on. It is fitted on dev against a made-up set of outside inputs (outside.py). The second says whether an answer is
right. It is fitted on dev alone. An answer is right if all its words equal the reference. The words of an answer of TTS
are those that an independent judge of English hears in its speech, or those that the language model recognises.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import rankdata

from audiopalm.core.config import to_dict
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import require, sha256, write_json
from audiopalm.data.audio import read_audio
from audiopalm.data.datadir import read_table
from audiopalm.data.example_set import ExampleSet
from audiopalm.data.examples import Example
from audiopalm.lm.generation.confidence import FILE, Confidence, Regression, judged, margin
from audiopalm.lm.generation.config import DecodingConfig
from audiopalm.lm.generation.evidence import INPUT_FEATURES, Probe, of_answers, of_inputs, write
from audiopalm.lm.generation.sampling import generate
from audiopalm.lm.loading import load_decoder
from audiopalm.lm.sequences import SequenceBuilder
from audiopalm.lm.trained import read_trained
from audiopalm.scoring import outside
from audiopalm.scoring.calibration_report import CalibrationReport, Group, InsideTest, OutsideKind, Reliability
from audiopalm.scoring.heard import Hearing
from audiopalm.scoring.judge import JUDGED_LANGUAGE
from audiopalm.scoring.metrics import without_spaces
from audiopalm.scoring.text import basic
from audiopalm.stages.prompt_utterances import Prompts
from audiopalm.tasks import AUDIO, TASKS, TRANSCRIPT, Task, get_task
from audiopalm.units.registry import UnitTokenizer
from audiopalm.vocabulary.joint import load_vocabulary

ELEMENTARY = ("asr", "ast", "mt", "tts")
BINS = 10
PENALTIES = (1.0, 3.0, 10.0, 30.0, 100.0)
FOLDS = 10  # of the cross-validation that chooses the penalty


@dataclass(frozen=True)
class CalibrationOptions:
    """The inputs and outputs of a calibration. The fields are the options of the command.

    dev, test: names of sets below data_dir and tokens. more_texts: a data directory of parallel texts that counts as
    dev too. outside_texts: YAML of open sentences. most: maximum number of utterances per language pair. outside_most:
    maximum number of inputs per kind of the outside set. judge: the judge of TTS, which needs `acoustic` and `codec`;
    empty for none. judged_most: maximum number of utterances of a set that the judge hears.
    """

    lm: Path
    vocabulary: Path
    units: Path
    data_dir: Path
    tokens: Path
    output: Path
    dev: str = "dev"
    test: str = "test"
    more_texts: Path | None = None
    outside_texts: Path | None = None
    most: int = 60
    outside_most: int = 60
    judge: str = ""
    acoustic: Path | None = None
    codec: Path | None = None
    judged_most: int = 60
    seed: int = 0


@dataclass
class Observed:
    """N examples of a task: float64 features of the inputs and of the answers `[N, F]`, bool `right` `[N]`."""

    inputs: np.ndarray
    answers: np.ndarray
    right: np.ndarray


class Observer:
    """Decodes examples with one language model and computes the features of inputs and answers."""

    def __init__(self, options: CalibrationOptions) -> None:
        self.options = options
        vocabulary, tokenizer = load_vocabulary(options.vocabulary)
        self.model = load_decoder(options.lm, vocabulary, "stage 8 (finetune)")
        self.builder = SequenceBuilder(vocabulary, tokenizer)
        self.trained = frozenset(read_trained(options.lm))
        self.languages = vocabulary.languages
        self.hearing: Hearing | None = None
        if options.judge:
            if options.acoustic is None or options.codec is None:
                raise AudioPaLMError("--judge hears speech, which --acoustic and --codec make")
            self.hearing = Hearing(options.judge, options.acoustic, options.codec)

    def observe(self, task: Task, examples: ExampleSet) -> Observed | None:
        """The answers to at most `options.most` utterances of each language pair; None if no pair has utterances.

        With a judge, the answers of TTS are `options.judged_most` in the judge's language.
        """
        pairs: list[Observed] = []
        most, voices = self._most(task), None
        if self.hearing is not None and task.spoken is not None:
            voices = self.hearing.prompts(examples.data_dir, self.options.tokens / examples.data_dir.name)
            most = self.options.judged_most
        for pair in sorted((trained for trained in self.trained if trained.task == task.name),
                           key=lambda trained: (trained.source, trained.target or "")):
            names = examples.utterances(task.scored_fields(), pair.source, pair.target)
            if voices is not None:  # texts without speech have no voice to speak them in
                names = [name for name in names if pair.source == JUDGED_LANGUAGE and name in voices.codec]
            probe = Probe.choose(task.input, pair.source, pair.target, self.trained)
            if probe is None or not names:
                continue
            fields = {task.input, task.outputs[0].text_field}
            chosen = [examples.example(name, fields, pair.target) for name in _spread(names, most)]
            pairs.append(self._pair(task, probe, chosen, voices))
        if not pairs:
            return None
        return Observed(*(np.concatenate([getattr(pair, name) for pair in pairs])
                          for name in ("inputs", "answers", "right")))

    def observe_all(self, names: Iterable[str], examples: ExampleSet) -> dict[str, Observed]:
        """{name of a task: its answers} for the tasks that have utterances in the set."""
        observed = {name: self.observe(TASKS[name], examples) for name in names}
        return {name: task for name, task in observed.items() if task is not None}

    def _most(self, task: Task) -> int:
        """Maximum number of utterances per language pair: fewer for tasks with many pairs and for tasks that speak."""
        pairs = sum(trained.task == task.name for trained in self.trained)
        most = self.options.most if task.spoken is None else max(self.options.most // 4, 1)
        return max(5, most * len(self.languages) // max(pairs, 1)) if task.translates else most

    def _pair(self, task: Task, probe: Probe, examples: list[Example], voices: Prompts | None) -> Observed:
        prompts = [self.builder.prompt(task, example) for example in examples]
        answers = generate(self.model, prompts, task, self.builder.vocabulary, DecodingConfig())
        parts = [answer.parts for answer in answers]
        inputs, _ = of_inputs(self.model, self.builder, task.input, probe, examples)
        return Observed(inputs, of_answers(self.model, self.builder, task, examples, parts),
                        self._right(task, examples, [answer[0] for answer in parts], voices))

    def _right(self, task: Task, examples: list[Example], answers: list[np.ndarray],
               voices: Prompts | None) -> np.ndarray:
        """Whether the words of each answer (ids in the joint vocabulary) are those of the reference, bool `[N]`."""
        output = task.outputs[0]
        texts = [str(example.fields[output.text_field]) for example in examples]
        language = output.language(examples[0].source, examples[0].target) if examples else ""
        if not output.is_audio:
            words = [self._words(answer) for answer in answers]
            return np.array([_same(heard, text, language) for heard, text in zip(words, texts, strict=True)])
        units = [answer - self.builder.vocabulary.text_size for answer in answers]
        if self.hearing is not None and voices is not None:
            return self.hearing.right(units, texts, [example.utterance for example in examples], voices)
        spoken = [Example(example.utterance, example.source, None, {AUDIO: ids})
                  for example, ids in zip(examples, units, strict=True)]
        words = write(self.model, self.builder, get_task("asr"), spoken)
        return np.array([_same(heard, text, language) for heard, text in zip(words, texts, strict=True)])

    def _words(self, ids: np.ndarray) -> str:
        return " ".join(self.builder.tokenizer.decode(list(ids)).split())

    def outside(self, kind: str, inputs: Sequence[tuple[str, str | np.ndarray]]) -> np.ndarray:
        """Features `[N, F]` of outside inputs: (language of the tag, units `[T]` or text) each.

        Inputs in a language without a probe are left out.
        """
        rows = [np.zeros((0, len(INPUT_FEATURES[kind])))]
        for language in sorted({language for language, _ in inputs}):
            probe = Probe.choose(kind, language, None, self.trained)
            if probe is not None:
                examples = [Example(str(number), language, None, {kind: value})
                            for number, (code, value) in enumerate(inputs) if code == language]
                rows.append(of_inputs(self.model, self.builder, kind, probe, examples)[0])
        return np.concatenate(rows)


def calibrate(options: CalibrationOptions) -> CalibrationReport:
    """Write <output>/confidence.json with the coefficients and `report`; return the report.

    Tasks that the model was not trained on get no coefficients. Raises AudioPaLMError for missing inputs.
    """
    observer = Observer(options)
    dev = ExampleSet(options.data_dir / options.dev, options.tokens / options.dev, options.more_texts)
    test = ExampleSet(options.data_dir / options.test, options.tokens / options.test)
    observed = observer.observe_all(ELEMENTARY, dev)
    fitted, tested = _outside_inputs(options, observer, dev, True), _outside_inputs(options, observer, test, False)
    inputs: dict[str, list[Regression]] = {}
    report = CalibrationReport(judge=options.judge)
    tests = observer.observe_all(observed, test)
    for kind, names in ((AUDIO, ("asr", "ast")), (TRANSCRIPT, ("mt", "tts"))):
        name = next((name for name in names if name in tests), None)
        if name is None or not fitted[kind]:
            continue
        # Texts in another language have a regression of their own: they resemble the training data in all other ways.
        groups = [[rows for made, rows in fitted[kind].items() if len(rows) and (made == outside.WRONG) == wrong]
                  for wrong in (False, True)]
        inputs[kind] = [_fit_inside(observed[name].inputs, group) for group in groups if group]
        if any(len(features) for features in tested[kind].values()):
            report.outside[kind] = _report_inside(inputs[kind], tests[name].inputs, tested[kind])
        report.fitted[kind] = _report_inside(inputs[kind], observed[name].inputs, fitted[kind])
    tasks = {name: fit_validated(np.hstack([task.inputs, task.answers]), task.right)
             for name, task in observed.items() if TASKS[name].input in inputs}
    for name in tasks:
        if name in tests:
            confidence, _ = judged(inputs[TASKS[name].input], tasks[name], tests[name].inputs, tests[name].answers)
            report.right[name] = reliability(confidence, tests[name].right)
    weights = sha256(require(options.lm / "model.safetensors", "stage 8 (finetune)"))
    coefficients = Confidence(inputs, tasks).to_json()
    write_json(options.output / FILE, {"model_sha256": weights, **coefficients, "report": to_dict(report)})
    for kind, figures in report.outside.items():
        logging.info("%s: area under the ROC curve between %s and outside %.3f; inside: %.3f of %s, %.3f of outside",
                     kind, options.test, figures.auc, figures.inside, options.test, figures.outside)
    return report


def _same(heard: str, text: str, language: str) -> bool:
    """Whether two texts have the same words; in a language without spaces, the same characters."""
    return without_spaces(basic(heard), language) == without_spaces(basic(text), language)


def _fit_inside(inner: np.ndarray, kinds: Sequence[np.ndarray]) -> Regression:
    """Regression of inside against the kinds of outside, with the threshold of the fewest errors.

    Inside and outside have the same weight. inner, kinds: features `[N, F]`.
    """
    features = np.concatenate([inner, *kinds])
    regression = fit(features, np.arange(len(features)) < len(inner), balanced=True)
    threshold = best_threshold(regression.probability(inner), [regression.probability(kind) for kind in kinds])
    return Regression(regression.mean, regression.scale, regression.weights, regression.bias, round(threshold, 6))


def best_threshold(inside: np.ndarray, outside: Sequence[np.ndarray]) -> float:
    """The threshold that minimises the fraction of `inside` below it plus the fraction of `outside` at or above it.

    inside: probabilities `[N]`. outside: those of each kind; the fraction is the mean over the kinds, whatever their
    numbers. The threshold lies midway between two neighbouring probabilities.
    """
    probabilities = np.unique(np.concatenate([inside, *outside, [0.0, 1.0]]))
    middles = (probabilities[1:] + probabilities[:-1]) / 2
    errors = [(inside < middle).mean() + np.mean([(kind >= middle).mean() for kind in outside]) for middle in middles]
    return float(middles[int(np.argmin(errors))])


def _report_inside(regressions: Sequence[Regression], inner: np.ndarray, outer: dict[str, np.ndarray]) -> InsideTest:
    inside = margin(regressions, inner)
    kinds = {kind: margin(regressions, features) for kind, features in outer.items() if len(features)}
    everything = np.concatenate(list(kinds.values()))
    return InsideTest(auc(inside, everything), _share(inside), len(inside), _share(everything),
                      {kind: OutsideKind(auc(inside, margins), _share(margins), len(margins))
                       for kind, margins in kinds.items()})


def _share(margins: np.ndarray) -> float:
    """The fraction that counts as inside."""
    return round(float((margins >= 1).mean()), 4)


def _outside_inputs(options: CalibrationOptions, observer: Observer, examples: ExampleSet,
                    fitted: bool) -> dict[str, dict[str, np.ndarray]]:
    """{kind of input: {kind of outside: features `[N, F]`}}, made from the recordings and texts of a set.

    fitted: whether these are the kinds to fit on, rather than those to test on.
    """
    seed = options.seed + (0 if fitted else 1)
    kinds = (outside.FITTED_SOUNDS, outside.FITTED_TEXTS) if fitted else (outside.TESTED_SOUNDS, outside.TESTED_TEXTS)
    names = _spread([name for language in examples.languages for name in examples.utterances({AUDIO}, language, None)],
                    options.outside_most)
    paths = read_table(examples.data_dir / "wav.scp")
    recordings = [(examples.language(examples.find(name)), read_audio(paths[name])) for name in names]
    units = UnitTokenizer.load(options.units)
    sounds = outside.sounds(recordings, kinds[0], options.outside_most, seed) if recordings else {}
    texts = outside.texts(options.outside_texts, list(examples.texts()), kinds[1], options.outside_most, seed, fitted)
    encoded = {kind: list(zip([language for language, _ in pairs], units.encode([samples for _, samples in pairs]),
                              strict=True)) for kind, pairs in sounds.items()}
    return {AUDIO: {kind: observer.outside(AUDIO, pairs) for kind, pairs in encoded.items()},
            TRANSCRIPT: {kind: observer.outside(TRANSCRIPT, pairs) for kind, pairs in texts.items()}}


def _spread(names: list[str], most: int) -> list[str]:
    """At most `most` of the names, evenly spaced from first to last."""
    return names if len(names) <= most else [names[number * len(names) // most] for number in range(most)]


def fit(features: np.ndarray, label: np.ndarray, balanced: bool = False, penalty: float = 1.0,
        steps: int = 50) -> Regression:
    """Logistic regression with an L2 penalty on the weights of standardised features, by Newton's method.

    features: `[N, F]`. label: bool `[N]`. balanced: whether both labels get the same total weight. If all labels are
    equal, the regression always returns the frequency of True, counted with one more example of each label.
    """
    mean, scale = features.mean(axis=0), np.maximum(features.std(axis=0), 1e-6)
    if label.all() or not label.any():
        share = (label.sum() + 1) / (len(label) + 2)
        return _regression(mean, scale, np.append(np.zeros(features.shape[1]), np.log(share / (1 - share))))
    rows = np.hstack([(features - mean) / scale, np.ones((len(features), 1))])
    weight = np.where(label, 0.5 / label.mean(), 0.5 / (1 - label.mean())) if balanced else np.ones(len(label))
    ridge = np.append(np.full(features.shape[1], penalty), 0.0)
    solution = np.zeros(rows.shape[1])
    for _ in range(steps):
        probability = 1 / (1 + np.exp(-np.clip(rows @ solution, -50, 50)))
        gradient = rows.T @ (weight * (probability - label)) + ridge * solution
        curvature = (rows * (weight * probability * (1 - probability))[:, None]).T @ rows + np.diag(ridge + 1e-9)
        step = np.linalg.solve(curvature, gradient)
        solution -= step
        if np.abs(step).max() < 1e-9:
            break
    return _regression(mean, scale, solution)


def fit_validated(features: np.ndarray, label: np.ndarray) -> Regression:
    """`fit` with the penalty of PENALTIES whose predictions are best in cross-validation, by mean log probability.

    Few answers with many features would otherwise be fitted too closely, and the confidence would be too sure.
    """
    fold = np.arange(len(label)) % FOLDS
    losses = []
    for penalty in PENALTIES:
        unseen = np.empty(len(label))
        for number in np.unique(fold):
            kept = fold != number
            unseen[~kept] = fit(features[kept], label[kept], penalty=penalty).probability(features[~kept])
        losses.append(-np.log(np.clip(np.where(label, unseen, 1 - unseen), 1e-6, None)).mean())
    return fit(features, label, penalty=PENALTIES[int(np.argmin(losses))])


def _regression(mean: np.ndarray, scale: np.ndarray, solution: np.ndarray) -> Regression:
    rounded = [[float(f"{value:.8g}") for value in values] for values in (mean, scale, solution)]
    return Regression(rounded[0], rounded[1], rounded[2][:-1], rounded[2][-1])


def auc(positive: np.ndarray, negative: np.ndarray) -> float:
    """Area under the ROC curve of scores `[N]` and `[M]`: how often a positive exceeds a negative, ties count half."""
    ranks = rankdata(np.concatenate([positive, negative]))[:len(positive)]
    total = ranks.sum() - len(positive) * (len(positive) + 1) / 2
    return round(float(total / (len(positive) * len(negative))), 4)


def reliability(confidence: np.ndarray, right: np.ndarray) -> Reliability:
    """The reliability of confidences `[N]`, 0 to 1, in answers that are `right`, bool `[N]`."""
    indices = np.minimum((confidence * BINS).astype(int), BINS - 1)
    groups = [Group(round(float(confidence[indices == index].mean()), 4),
                    round(float(right[indices == index].mean()), 4), int((indices == index).sum()))
              for index in range(BINS) if (indices == index).any()]
    error = sum(group.count * abs(group.confidence - group.right) for group in groups) / len(confidence)
    both = right.any() and not right.all()
    return Reliability(round(error, 4), auc(confidence[right], confidence[~right]) if both else None,
                       round(float(right.mean()), 4), len(right), groups)
