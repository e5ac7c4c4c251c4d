"""The YAML header of a model card, which the Hugging Face hub reads: licence, languages, task, scores."""

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
    """The header with its lines of dashes. `shown` is the main task of the model; `rows` are the model's scores."""
    codes = in_order({code for row in trained for code in (row.source, row.target) if code})
    values: dict[str, Any] = {"license": licence}
    if licence == UNSTATED_LICENCE:
        values["license_name"] = "licences-of-the-recordings"
    parts = {output.part for row in trained for output in get_task(row.task).outputs if get_task(row.task).tag}
    values |= {"language": codes, "pipeline_tag": pipeline(shown, shown.spoken or shown.outputs[-1]),
               "library_name": "audiopalm", "tags": ["audiopalm", "speech", *sorted(parts)]}
    if results := _results(rows):
        values["model-index"] = [{"name": f"audiopalm-{recipe}", "results": results}]
    return f"---\n{yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120)}---\n"


def pipeline(task: Task, output: Output) -> str:
    """The hub's pipeline tag for an output of a task. The hub has no own tag for speech translation into text."""
    if output.is_audio:
        return "audio-to-audio" if task.input == AUDIO else "text-to-speech"
    return "automatic-speech-recognition" if task.input == AUDIO else "translation"


def _results(rows: list[ResultRow]) -> list[dict[str, Any]]:
    """The entries of `model-index`: the first metric of every task with one output, for each set and language pair."""
    results = []
    for row in one_judge(select(rows, system="model")):
        if row.task not in TASKS or len(get_task(row.task).outputs) > 1:
            continue
        task, output = get_task(row.task), get_task(row.task).outputs[0]
        if row.metric not in output.metrics[:1]:
            continue
        results.append({
            "task": {"type": pipeline(task, output), "name": task.tag_text(row.source or "", row.target)},
            "dataset": {"type": row.recipe, "name": f"{row.recipe}, set {row.set}", "config": row.languages,
                        "split": row.set},
            "metrics": [{"type": row.metric, "name": METRIC_NAMES.get(row.metric, row.metric), "value": row.value}]})
    return results
