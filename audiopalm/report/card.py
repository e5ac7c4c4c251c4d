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
    """README.md of the pack.

    rows: the scores of this model. example: Markdown that is put before the scores. licence: of the weights, as the hub
    names it, for example `cc-by-sa-3.0`. domain: the sentences that the model understands.
    """
    first = _shown_task(trained)
    codes = {code for row in trained for code in (row.source, row.target) if code}
    task = get_task(first.task)
    sets = _score_sets(rows)
    scores = [f"\n## Scores on the set `{name}`\n\n{figures}\n" for name in sets
              if (figures := headline_table(rows, recipe, name, goals))]
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
    """The task of the card's example call: from speech, spoken, with the most parts, into English, if possible."""
    def rank(row: TrainedTask) -> tuple:
        task = get_task(row.task)
        return task.input != AUDIO, not task.spoken, -len(task.outputs), list(TASKS).index(row.task), row.target != "en"

    return min(trained, key=rank)


def _task_list(trained: Iterable[TrainedTask]) -> str:
    """A Markdown list with a line for each task: its tag and its languages or language pairs."""
    languages: dict[str, list[str]] = {}
    for row in trained:
        pair = language_name(row.source) + (f" to {language_name(row.target)}" if row.target else "")
        languages.setdefault(row.task, []).append(pair)
    return "\n".join(f"  - `[{get_task(name).tag} ...]`: {', '.join(languages[name])}"
                     for name in task_order(languages) if get_task(name).tag)


def scores_of_model(results: Path, recipe: str, model_sha256: str) -> list[ResultRow]:
    """The rows of a model in results.json, and the ceilings of the same sets and seeds."""
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
    """An example from the first set with decodes of a model, as Markdown; empty, with a warning, if there is none."""
    try:
        for name in set_order(sets_of(decode_dir)):
            test_set = TestSet(decode_dir, data_dir, name)
            own = [decode for decode in test_set.decodes if decode.meta["model_sha256"] == model_sha256]
            if own:
                return true_example(test_set, own)
        reason = f"{decode_dir} has no decode of the packed model"
    except AudioPaLMError as error:  # a model can be packed without decodes
        reason = str(error)
    logging.warning("the card has no example: %s", reason)
    return ""


def true_example(test_set: TestSet, decodes: list[Decode]) -> str:
    """The first utterance of the decode with the most text parts, with its answer; empty if no decode has texts."""
    def rank(decode: Decode) -> tuple[int, bool, bool]:
        text_parts = sum(not output.is_audio for output in decode.task.outputs)
        return text_parts, decode.task.input == AUDIO, decode.target == "en"

    written = [decode for decode in decodes if any(not output.is_audio for output in decode.task.outputs)]
    if not written:
        return ""
    decode = max(written, key=rank)
    tables = {output: decode.hypotheses(output) for output in decode.task.outputs if not output.is_audio}
    name = min(next(iter(tables.values())), key=str.encode)
    text = test_set.table("text")[name]
    given = f'the recording `{name}`, in which is said "{text}"' if decode.task.input == AUDIO else f'the text "{text}"'
    answers = [f'  - {output.part} "{table[name]}" (reference: '
               f'"{test_set.references(decode, output, [name])[name]}")' for output, table in tables.items()]
    return (f"\n## An example\n\nThe first utterance of the set `{test_set.name}`, not chosen for its answer. To "
            f"{given}, the model answers to `{decode.meta['tag']}`:\n\n" + "\n".join(answers) + "\n")
