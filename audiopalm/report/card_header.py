"""The YAML header of a model card, by which the Hugging Face hub lists a model: licence, languages, task, scores."""

from typing import Any

import yaml

from audiopalm.languages import in_order
from audiopalm.lm.trained import TrainedTask
from audiopalm.scoring.results import ResultRow, one_judge, select
from audiopalm.tasks import AUDIO, TASKS, Output, Task, get_task

UNSTATED_LICENCE = "other"  # the hub's identifier for a licence that is stated in words
METRIC_NAMES = {"wer": "WER, a fraction", "cer": "CER, a fraction", "bleu": "BLEU", "chrf": "chrF",
                "asr_bleu": "ASR-BLEU of the speech", "asr_wer": "WER of the speech by a judge, a fraction"}


def header(recipe: str, trained: list[TrainedTask], shown: Task, rows: list[ResultRow], licence: str) -> str:
    """The header with its lines of dashes. `shown` is the task that stands for the model; `rows` are its scores."""
    codes = in_order({code for one in trained for code in (one.source, one.target) if code})
    values: dict[str, Any] = {"license": licence}
    if licence == UNSTATED_LICENCE:
        values["license_name"] = "licences-of-the-recordings"
    parts = {output.part for one in trained for output in get_task(one.task).outputs if get_task(one.task).tag}
    values |= {"language": codes, "pipeline_tag": pipeline(shown, shown.spoken or shown.outputs[-1]),
               "library_name": "audiopalm", "tags": ["audiopalm", "speech", *sorted(parts)]}
    if results := _results(rows):
        values["model-index"] = [{"name": f"audiopalm-{recipe}", "results": results}]
    return f"---\n{yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120)}---\n"


def pipeline(task: Task, output: Output) -> str:
    """The hub's name for what a task does; it has none of its own for the translation of speech into text."""
    if output.is_audio:
        return "audio-to-audio" if task.input == AUDIO else "text-to-speech"
    return "automatic-speech-recognition" if task.input == AUDIO else "translation"


def _results(rows: list[ResultRow]) -> list[dict[str, Any]]:
    """The first metric of every task with one output, for each set and language or pair, as a model-index has it."""
    results = []
    for row in one_judge(select(rows, system="model")):
        if row.task not in TASKS or len(get_task(row.task).outputs) > 1:
            continue
        task, output = get_task(row.task), get_task(row.task).outputs[0]
        if row.metric not in output.metrics[:1]:
            continue
        results.append({
            "task": {"type": pipeline(task, output), "name": task.tag_text(row.source, row.target)},
            "dataset": {"type": row.recipe, "name": f"{row.recipe}, set {row.set}", "config": row.languages,
                        "split": row.set},
            "metrics": [{"type": row.metric, "name": METRIC_NAMES.get(row.metric, row.metric), "value": row.value}]})
    return results
