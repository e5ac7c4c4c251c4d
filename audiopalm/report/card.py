"""The model card of a pack: what the model was trained on, an example, its licence, and the scores of that model."""

import logging
from collections.abc import Iterable
from pathlib import Path

import audiopalm
from audiopalm.core.errors import AudioPaLMError
from audiopalm.data.domain import Domain
from audiopalm.languages import in_order, language_name
from audiopalm.lm.trained import TrainedTask
from audiopalm.report.card_header import UNSTATED_LICENCE, header
from audiopalm.report.results_page import headline_table, set_order, task_order
from audiopalm.scoring.decodes import Decode, TestSet, sets_of
from audiopalm.scoring.goals import Goals
from audiopalm.scoring.results import MODEL_DIGITS, ResultRow, read_rows
from audiopalm.stages.pack import MANIFEST
from audiopalm.tasks import AUDIO, TASKS, get_task

CARD = """\
{header}# AudioPaLM, recipe `{recipe}`

A decoder-only language model over text and audio tokens, trained by the recipe `{recipe}` of audiopalm {version}.

    from audiopalm import AudioPaLM
    model = AudioPaLM.from_pretrained("this folder, its zip, or its name on the Hugging Face hub")
    answer = model({source}, task="{tag}"{voice})

- Languages: {languages}.
- Tasks that it was trained on; it refuses or guesses at others:
{tasks}
- Parts: `lm/` the language model, `vocabulary/` text and audio ids, `units/` speech to audio tokens, `acoustic/` audio
  tokens to codec tokens in the voice of a prompt, `codec/` codec tokens to a waveform at 16 kHz.
- Limits: it knows the kind of sentences it was trained on, and no others{limits}.
- Licence: Apache-2.0 for the code{licence}. The weights were trained on the recordings of the recipe, whose licences
  and authors stand in its folder `corpus/`; attribute them when you pass the weights on.
- Files with their SHA-256: `{manifest}`.
{domain}{example}{scores}"""


def card(recipe: str, trained: list[TrainedTask], rows: list[ResultRow], goals: Goals, example: str,
         licence: str = UNSTATED_LICENCE, domain: Domain | None = None) -> str:
    """README.md of the pack. `rows` are the scores of this model, `example` is Markdown that stands before them.

    licence: of the weights, as the hub calls it, for example `cc-by-sa-3.0`. domain: what can be said to it.
    """
    first = _shown_task(trained)
    codes = {code for one in trained for code in (one.source, one.target) if code}
    task = get_task(first.task)
    sets = _score_sets(rows)
    scores = [f"\n## Scores on the set `{name}`\n\n{found}\n" for name in sets
              if (found := headline_table(rows, recipe, name, goals))]
    return CARD.format(
        header=header(recipe, trained, task, [row for row in rows if row.set in sets], licence),
        licence="" if licence == UNSTATED_LICENCE else f", {licence} for the weights",
        recipe=recipe, version=audiopalm.__version__, tag=task.tag_text(first.source, first.target),
        source='"x.wav"' if task.input == AUDIO else 'text="a sentence"',
        voice=', voice="voice.wav"' if task.spoken and task.input != AUDIO else "",
        languages=", ".join(map(language_name, in_order(codes))), tasks=_task_list(trained), manifest=MANIFEST,
        limits=" (see below)" if domain else "",
        domain=f"\n## What can be said\n\n{domain.markdown()}\n" if domain else "",
        example=example, scores="".join(scores))


def _shown_task(trained: list[TrainedTask]) -> TrainedTask:
    """What the card shows a call of: the longest answer to speech, the first of the task table otherwise."""
    def rank(one: TrainedTask) -> tuple:
        task = get_task(one.task)
        return task.input != AUDIO, not task.spoken, -len(task.outputs), list(TASKS).index(one.task), one.target != "en"

    return min(trained, key=rank)


def _task_list(trained: Iterable[TrainedTask]) -> str:
    """A line for each task: its tag and its languages or pairs."""
    languages: dict[str, list[str]] = {}
    for one in trained:
        pair = language_name(one.source) + (f" to {language_name(one.target)}" if one.target else "")
        languages.setdefault(one.task, []).append(pair)
    return "\n".join(f"  - `[{get_task(name).tag} ...]`: {', '.join(languages[name])}"
                     for name in task_order(languages) if get_task(name).tag)


def scores_of_model(results: Path, recipe: str, model_sha256: str) -> list[ResultRow]:
    """The rows of results.json that are of a model, and the ceilings that were measured beside them."""
    rows = [row for row in read_rows(results) if row.recipe == recipe] if results.exists() else []
    own = [row for row in rows if row.model == model_sha256[:MODEL_DIGITS]]
    if rows and not own:
        logging.warning("%s has no score of the packed model; the card states none. Run stage 12 (score)", results)
    beside = {(row.set, row.seed) for row in own}
    return own + [row for row in rows if row.system.startswith("true_") and (row.set, row.seed) in beside]


def _score_sets(rows: list[ResultRow]) -> list[str]:
    names = set_order({row.set for row in rows})
    return ["test"] if "test" in names else names


def example_of_model(decode_dir: Path, data_dir: Path, model_sha256: str) -> str:
    """An example from the first set with decodes of a model, as Markdown; empty, with a warning, where none is."""
    try:
        for name in set_order(sets_of(decode_dir)):
            test_set = TestSet(decode_dir, data_dir, name)
            found = [decode for decode in test_set.decodes if decode.meta["model_sha256"] == model_sha256]
            if found:
                return true_example(test_set, found)
        reason = f"{decode_dir} has no decode of the packed model"
    except AudioPaLMError as error:  # a model can be packed without decodes
        reason = str(error)
    logging.warning("the card has no example: %s", reason)
    return ""


def true_example(test_set: TestSet, decodes: list[Decode]) -> str:
    """The first utterance of the decode with the most text parts, and the answer to it; empty without such a decode."""
    written = [decode for decode in decodes if any(not output.is_audio for output in decode.task.outputs)]
    if not written:
        return ""
    decode = max(written, key=lambda one: (sum(not output.is_audio for output in one.task.outputs),
                                           one.task.input == AUDIO, one.target == "en"))
    tables = {output: decode.hypotheses(output) for output in decode.task.outputs if not output.is_audio}
    name = min(next(iter(tables.values())), key=str.encode)
    said = test_set.table("text")[name]
    given = f'the recording `{name}`, in which is said "{said}"' if decode.task.input == AUDIO else f'the text "{said}"'
    answers = [f'  - {output.part} "{table[name]}" (reference: '
               f'"{test_set.references(decode, output, [name])[name]}")' for output, table in tables.items()]
    return (f"\n## An example\n\nThe first utterance of the set `{test_set.name}`, not chosen for its answer. To "
            f"{given}, the model answers to `{decode.meta['tag']}`:\n\n" + "\n".join(answers) + "\n")
