"""The probability that an answer is right, and whether its input is of the kind that the model was trained on.

`confidence.json` of a pack holds the coefficients, which audiopalm/scoring/calibration.py fits on the dev set: a
logistic regression for each kind of input (is it inside?), and one for each elementary task (is the answer right?).
"""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from audiopalm.core.config import from_dict
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import read_object
from audiopalm.data.examples import Example
from audiopalm.lm.generation.evidence import ANSWER_FEATURES, INPUT_FEATURES, Probe, answer_task, of_answers, of_inputs
from audiopalm.lm.generation.grammar import Generated
from audiopalm.lm.model import Decoder
from audiopalm.lm.sequences import SequenceBuilder
from audiopalm.lm.trained import TrainedTask
from audiopalm.tasks import TASKS, Task

FILE = "confidence.json"
MADE_BY = "stage 14 (pack)"


@dataclass(frozen=True)
class Regression:
    """A logistic regression over standardised features.

    mean, scale, weights: one number for each feature. threshold: the lowest probability that counts as yes.
    """

    mean: list[float]
    scale: list[float]
    weights: list[float]
    bias: float
    threshold: float = 0.5

    def probability(self, features: np.ndarray) -> np.ndarray:
        """`[N, F]` -> `[N]`, each from 0 to 1."""
        standard = (features - np.array(self.mean)) / np.array(self.scale)
        # A product with the weights would round differently for other numbers of rows.
        return 1 / (1 + np.exp(-np.clip((standard * self.weights).sum(axis=-1) + self.bias, -50, 50)))


@dataclass(frozen=True)
class Judgement:
    """The judgement of one answer.

    confidence: the probability that every word of the answer is right. inside: whether the input is of the kind that
    the model was trained on.
    """

    confidence: float
    inside: bool


class Confidence:
    """The calibrated confidence of one language model.

    inputs: {field of the input: regressions over INPUT_FEATURES, all of which an input inside passes}. tasks: {name of
    an elementary task: regression over the features of the input and of the answer}.
    """

    def __init__(self, inputs: dict[str, list[Regression]], tasks: dict[str, Regression]):
        self.inputs, self.tasks = inputs, tasks

    @classmethod
    def load(cls, path: str | Path, lm_sha256: str) -> "Confidence":
        """Read confidence.json. Raises AudioPaLMError for a damaged file and for the file of another language model."""
        values = read_object(path, MADE_BY, {"model_sha256": str, "inputs": dict, "tasks": dict})
        if values["model_sha256"] != lm_sha256:
            raise AudioPaLMError(f"{path} was calibrated for another language model; run {MADE_BY} again")
        inputs: dict[str, list[Regression]] = {}
        for key in values["inputs"].keys() & INPUT_FEATURES.keys():
            if not isinstance(values["inputs"][key], list):
                raise AudioPaLMError(f"{path}: inputs.{key} is no list; run {MADE_BY} again")
            inputs[key] = [_regression(regression, len(INPUT_FEATURES[key]), f"{path}: inputs.{key}")
                           for regression in values["inputs"][key]]
        tasks = {key: _regression(values["tasks"][key], len(INPUT_FEATURES[TASKS[key].input]) + len(known),
                                  f"{path}: tasks.{key}")
                 for key, known in ANSWER_FEATURES.items() if key in values["tasks"]}
        return cls(inputs, tasks)

    def to_json(self) -> dict[str, Any]:
        """The tables of confidence.json."""
        return {"inputs": {key: [asdict(regression) for regression in regressions]
                           for key, regressions in self.inputs.items()},
                "tasks": {key: asdict(regression) for key, regression in self.tasks.items()}}

    def judge(self, model: Decoder, builder: SequenceBuilder, trained: Collection[TrainedTask], task: Task,
              examples: Sequence[Example], answers: Sequence[Generated]) -> list[Judgement | None]:
        """Judge the answers to examples of one language pair; None for inputs that the calibration does not cover.

        It costs three forward passes, and a greedy decode of the probe unless the answer begins with its text.
        """
        covered = examples and task.input in self.inputs and name_of(task) in self.tasks
        probe = Probe.choose(task.input, examples[0].source, examples[0].target, trained) if covered else None
        if probe is None:
            return [None] * len(examples)
        parts = [answer.parts for answer in answers]
        written = None
        first = task.outputs[0]
        if first.field == probe.write.outputs[0].field and probe.target in (None, examples[0].target):
            written = [" ".join(builder.tokenizer.decode(list(answer[0])).split()) for answer in parts]
        inputs, _ = of_inputs(model, builder, task.input, probe, examples, written)
        confidence, inside = judged(self.inputs[task.input], self.tasks[name_of(task)], inputs,
                                    of_answers(model, builder, task, examples, parts))
        return [Judgement(*judgement) for judgement in zip(confidence.tolist(), inside.tolist(), strict=True)]


def margin(inside: Sequence[Regression], inputs: np.ndarray) -> np.ndarray:
    """The lowest ratio of a regression's probability to its threshold, float64 `[N]`; at least 1 for inputs inside.

    inputs: features `[N, F]`.
    """
    return np.min([regression.probability(inputs) / regression.threshold for regression in inside], axis=0)


def judged(inside: Sequence[Regression], right: Regression, inputs: np.ndarray,
           answers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Confidence (float64) and whether the input is inside (bool), `[N]` each.

    inputs, answers: their features, float64 `[N, F]`. The confidence of an input outside is reduced, because `right`
    was fitted on inputs inside only.
    """
    passed = margin(inside, inputs)
    return right.probability(np.hstack([inputs, answers])) * np.minimum(passed, 1), passed >= 1


def name_of(task: Task) -> str:
    """The key of a task in `Confidence.tasks`: `tts`, or the name of its `answer_task`."""
    return "tts" if task.name == "tts" else answer_task(task).name


def _regression(values: Any, length: int, where: str) -> Regression:
    """The regression of a table. Raises AudioPaLMError for another number of features than `length`."""
    regression = from_dict(Regression, values, where)
    if {len(regression.mean), len(regression.scale), len(regression.weights)} != {length}:
        raise AudioPaLMError(f"{where} does not have {length} features; run {MADE_BY} again")
    return regression
