"""Fits confidence.json on the dev set and tests it on the test set: audiopalm/lm/generation/confidence.py uses it.

Whether an input is inside is fitted on dev against a made-up outside set (outside.py), whether an answer is right on
dev alone: right is an answer whose words all equal the reference; that of TTS, one that the model recognises so.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import rankdata

from audiopalm.core.files import require, sha256, write_json
from audiopalm.data.audio import read_audio
from audiopalm.data.datadir import read_table
from audiopalm.data.example_set import ExampleSet
from audiopalm.data.examples import Example
from audiopalm.lm.generation.confidence import FILE, Confidence, Regression, judged
from audiopalm.lm.generation.config import DecodingConfig
from audiopalm.lm.generation.evidence import INPUT_FEATURES, Probe, of_answers, of_inputs
from audiopalm.lm.generation.sampling import generate
from audiopalm.lm.loading import load_decoder
from audiopalm.lm.sequences import SequenceBuilder
from audiopalm.lm.trained import read_trained
from audiopalm.scoring import outside
from audiopalm.scoring.text import basic
from audiopalm.tasks import AUDIO, TASKS, TRANSCRIPT, Task, get_task
from audiopalm.units.registry import UnitTokenizer
from audiopalm.vocabulary.joint import load_vocabulary

ELEMENTARY = ("asr", "ast", "mt", "tts")
BINS = 10


@dataclass(frozen=True)
class CalibrationOptions:
    """What is read and written; the fields are the options of the command.

    dev, test: names of sets below data_dir and tokens. more_texts: a data directory of parallel texts that counts as
    dev too. outside_texts: YAML of open sentences. most: utterances of a language pair; outside_most: of a kind.
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
    seed: int = 0


@dataclass
class Observed:
    """Features `[N, F]` of the inputs of a task, of its answers, and whether each answer is right, `[N]`."""

    inputs: np.ndarray
    answers: np.ndarray
    right: np.ndarray


class Observer:
    """Decodes and measures with one model."""

    def __init__(self, options: CalibrationOptions):
        self.options = options
        vocabulary, tokenizer = load_vocabulary(options.vocabulary)
        self.model = load_decoder(options.lm, vocabulary, "stage 8 (finetune)")
        self.builder = SequenceBuilder(vocabulary, tokenizer)
        self.trained = frozenset(read_trained(options.lm))
        self.languages = vocabulary.languages

    def observe(self, task: Task, examples: ExampleSet) -> Observed | None:
        """The answers to `options.most` utterances of each language pair; None where there is none."""
        found: list[Observed] = []
        for one in sorted((one for one in self.trained if one.task == task.name),
                          key=lambda one: (one.source, one.target or "")):
            names = examples.utterances(task.scored_fields(), one.source, one.target)
            probe = Probe.choose(task.input, one.source, one.target, self.trained)
            if probe is None or not names:
                continue
            fields = {task.input, task.outputs[0].text_field}
            chosen = [examples.example(name, fields, one.target) for name in _spread(names, self._most(task))]
            found.append(self._pair(task, probe, chosen))
        if not found:
            return None
        return Observed(*(np.concatenate([getattr(one, name) for one in found])
                          for name in ("inputs", "answers", "right")))

    def _most(self, task: Task) -> int:
        """Utterances of a language pair; fewer where there are pairs of all languages, and where speech is made."""
        pairs = sum(one.task == task.name for one in self.trained)
        most = self.options.most if task.spoken is None else max(self.options.most // 4, 1)
        return max(5, most * len(self.languages) // max(pairs, 1)) if task.translates else most

    def _pair(self, task: Task, probe: Probe, examples: list[Example]) -> Observed:
        prompts = [self.builder.prompt(task, example) for example in examples]
        answers = generate(self.model, prompts, [example.utterance for example in examples], task,
                           self.builder.vocabulary, DecodingConfig())
        parts = [answer.parts for answer in answers]
        inputs, _ = of_inputs(self.model, self.builder, task.input, probe, examples)
        output = task.outputs[0]
        if output.is_audio:
            size = self.builder.vocabulary.text_size
            heard = [Example(example.utterance, example.source, None, {AUDIO: one[0] - size})
                     for example, one in zip(examples, parts, strict=True)]
            asr = get_task("asr")
            words = [self._words(answer.parts[0]) for answer in generate(
                self.model, [self.builder.prompt(asr, one) for one in heard], [one.utterance for one in heard], asr,
                self.builder.vocabulary, DecodingConfig())]
        else:
            words = [self._words(one[0]) for one in parts]
        right = [basic(said) == basic(example.fields[output.text_field])
                 for said, example in zip(words, examples, strict=True)]
        return Observed(inputs, of_answers(self.model, self.builder, task, examples, parts), np.array(right))

    def _words(self, ids: np.ndarray) -> str:
        return " ".join(self.builder.tokenizer.decode(list(ids)).split())

    def outside(self, kind: str, inputs: Sequence[tuple[str, str | np.ndarray]]) -> np.ndarray:
        """Features of inputs (language of the tag, units or text) that the model was not trained on."""
        rows = [np.zeros((0, len(INPUT_FEATURES[kind])))]
        for language in sorted({language for language, _ in inputs}):
            probe = Probe.choose(kind, language, None, self.trained)
            if probe is not None:
                examples = [Example(str(number), language, None, {kind: value})
                            for number, (one, value) in enumerate(inputs) if one == language]
                rows.append(of_inputs(self.model, self.builder, kind, probe, examples)[0])
        return np.concatenate(rows)


def calibrate(options: CalibrationOptions) -> dict:
    """Write <output>/confidence.json, coefficients and `report`; return the report.

    Raises AudioPaLMError for missing inputs. What the model was not trained for has no coefficients.
    """
    observer = Observer(options)
    dev = ExampleSet(options.data_dir / options.dev, options.tokens / options.dev, options.more_texts)
    test = ExampleSet(options.data_dir / options.test, options.tokens / options.test)
    observed = {name: observer.observe(TASKS[name], dev) for name in ELEMENTARY}
    observed = {name: one for name, one in observed.items() if one is not None}
    fitted, tested = _outside_inputs(options, observer, dev, True), _outside_inputs(options, observer, test, False)
    inputs, report = {}, {"outside": {}, "right": {}}
    tests = {name: observer.observe(TASKS[name], test) for name in observed}
    for kind, names in ((AUDIO, ("asr", "ast")), (TRANSCRIPT, ("mt", "tts"))):
        name = next((name for name in names if name in observed and tests[name] is not None), None)
        if name is None or not fitted[kind]:
            continue
        outer = np.concatenate(list(fitted[kind].values()))
        inputs[kind] = _fit_inside(observed[name].inputs, outer)
        report["outside"][kind] = _report_inside(inputs[kind], tests[name].inputs, tested[kind])
    tasks = {name: fit(np.hstack([one.inputs, one.answers]), one.right) for name, one in observed.items()
             if TASKS[name].input in inputs}
    for name in tasks:
        if tests[name] is not None:
            confidence, _ = judged(inputs[TASKS[name].input], tasks[name], tests[name].inputs, tests[name].answers)
            report["right"][name] = reliability(confidence, tests[name].right)
    weights = sha256(require(options.lm / "model.safetensors", "stage 8 (finetune)"))
    coefficients = Confidence(inputs, tasks).to_json()
    write_json(options.output / FILE, {"model_sha256": weights, **coefficients, "report": report})
    for kind, one in report["outside"].items():
        logging.info("%s: area under the ROC curve between %s and outside %.3f; inside: %.3f of %s, %.3f of outside",
                     kind, options.test, one["auc"], one["inside"], options.test, one["outside"])
    return report


def _fit_inside(inner: np.ndarray, outer: np.ndarray) -> Regression:
    """Inside against outside, both with the same weight, and the threshold with the fewest errors of both kinds."""
    regression = fit(np.concatenate([inner, outer]), np.arange(len(inner) + len(outer)) < len(inner), balanced=True)
    threshold = best_threshold(regression.probability(inner), regression.probability(outer))
    return Regression(regression.mean, regression.scale, regression.weights, regression.bias, round(threshold, 6))


def best_threshold(inside: np.ndarray, outside: np.ndarray) -> float:
    """The threshold that minimises the share of `inside` below it plus the share of `outside` from it on.

    It lies in the middle between two neighbouring probabilities.
    """
    found = np.unique(np.concatenate([inside, outside, [0.0, 1.0]]))
    middles = (found[1:] + found[:-1]) / 2
    errors = [(inside < middle).mean() + (outside >= middle).mean() for middle in middles]
    return float(middles[int(np.argmin(errors))])


def _report_inside(regression: Regression, inner: np.ndarray, outer: dict[str, np.ndarray]) -> dict:
    inside = regression.probability(inner)
    kinds = {kind: regression.probability(features) for kind, features in outer.items() if len(features)}
    everything = np.concatenate(list(kinds.values()))
    return {"auc": auc(inside, everything), "inside": _share(inside, regression), "count": len(inside),
            "outside": _share(everything, regression),
            "kinds": {kind: {"auc": auc(inside, found), "inside": _share(found, regression), "count": len(found)}
                      for kind, found in kinds.items()}}


def _share(probabilities: np.ndarray, regression: Regression) -> float:
    return round(float((probabilities >= regression.threshold).mean()), 4)


def _outside_inputs(options: CalibrationOptions, observer: Observer, examples: ExampleSet,
                    fitted: bool) -> dict[str, dict[str, np.ndarray]]:
    """{kind of input: {kind of outside: features}}, made from the recordings and texts of a set."""
    seed = options.seed + (0 if fitted else 1)
    kinds = (outside.FITTED_SOUNDS, outside.FITTED_TEXTS) if fitted else (outside.TESTED_SOUNDS, outside.TESTED_TEXTS)
    names = _spread([name for language in examples.languages for name in examples.utterances({AUDIO}, language, None)],
                    options.outside_most)
    paths = read_table(examples.data_dir / "wav.scp")
    recordings = [(examples.language(examples.find(name)), read_audio(paths[name])) for name in names]
    units = UnitTokenizer.load(options.units)
    sounds = outside.sounds(recordings, kinds[0], options.outside_most, seed) if recordings else {}
    texts = outside.texts(options.outside_texts, list(examples.texts()), kinds[1], options.outside_most, seed, fitted)
    heard = {kind: list(zip([language for language, _ in found], units.encode([one for _, one in found]), strict=True))
             for kind, found in sounds.items()}
    return {AUDIO: {kind: observer.outside(AUDIO, found) for kind, found in heard.items()},
            TRANSCRIPT: {kind: observer.outside(TRANSCRIPT, found) for kind, found in texts.items()}}


def _spread(names: list[str], most: int) -> list[str]:
    """At most `most` of the names, evenly from first to last."""
    return names if len(names) <= most else [names[number * len(names) // most] for number in range(most)]


def fit(features: np.ndarray, label: np.ndarray, balanced: bool = False, penalty: float = 1.0,
        steps: int = 50) -> Regression:
    """Logistic regression with an L2 penalty on the weights of standardised features, by Newton's method.

    label: bool `[N]`. balanced: both labels weigh the same. One label alone gives its frequency, of one more example of
    each label.
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


def _regression(mean: np.ndarray, scale: np.ndarray, solution: np.ndarray) -> Regression:
    rounded = [[float(f"{value:.8g}") for value in values] for values in (mean, scale, solution)]
    return Regression(rounded[0], rounded[1], rounded[2][:-1], rounded[2][-1])


def auc(positive: np.ndarray, negative: np.ndarray) -> float:
    """Area under the ROC curve: how often a positive score exceeds a negative one, ties counted half."""
    ranks = rankdata(np.concatenate([positive, negative]))[:len(positive)]
    total = ranks.sum() - len(positive) * (len(positive) + 1) / 2
    return round(float(total / (len(positive) * len(negative))), 4)


def reliability(confidence: np.ndarray, right: np.ndarray) -> dict:
    """Groups of equal width: mean confidence and share of right answers; `error` is their mean distance (ECE)."""
    group = np.minimum((confidence * BINS).astype(int), BINS - 1)
    groups = [{"confidence": round(float(confidence[group == one].mean()), 4),
               "right": round(float(right[group == one].mean()), 4), "count": int((group == one).sum())}
              for one in range(BINS) if (group == one).any()]
    error = sum(one["count"] * abs(one["confidence"] - one["right"]) for one in groups) / len(confidence)
    both = right.any() and not right.all()
    return {"error": round(error, 4), "auc": auc(confidence[right], confidence[~right]) if both else None,
            "right": round(float(right.mean()), 4), "count": len(right), "groups": groups}
