"""Budgets in tokens of a task, against the batches of a training; hours of speech."""

import json

import numpy as np
import pytest
import yaml
from commands import call

from audiopalm.core.config import load_config
from audiopalm.core.errors import AudioPaLMError
from audiopalm.data.example_set import ExampleSet
from audiopalm.lm.mixture import MixtureEntry, expand, limit_speech
from audiopalm.lm.training import LMConfig, LMInputs, read_data
from audiopalm.vocabulary.joint import load_vocabulary

MIXTURE = {"mixture": [{"task": "asr"}, {"task": "ast", "targets": ["en"]}, {"task": "mt"}],
           "batch": {"rows": 2, "row_length": 64}, "training": {"micro_batches": 2}}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory, digit_sets):
    folder = tmp_path_factory.mktemp("budget")
    data, tokens, _, _ = digit_sets
    (folder / "lm.yaml").write_text(yaml.safe_dump(MIXTURE))
    (folder / "vocabulary.yaml").write_text("text_size: 400")
    call("make_vocabulary", "--data_dir", data, "--tokens", tokens, "--output", folder / "vocabulary", "--config",
         folder / "vocabulary.yaml")
    return folder, ["--config", folder / "lm.yaml", "--vocabulary", folder / "vocabulary", "--data_dir", data,
                    "--tokens", tokens]


def tokens_seen(inputs, digit_sets, steps, task):
    """The tokens of a task in the batches that a training reads, by the lengths of its sequences."""
    folder, (data, tokens, _, _) = inputs[0], digit_sets
    config = load_config(LMConfig, folder / "lm.yaml")
    prepared = read_data(LMInputs(folder / "vocabulary", data, data, tokens, tokens))
    mixture = prepared.mixture(config, prepared.examples, seed=3)
    tag = mixture.builder.text(f"[{task.upper()} Spanish English]").tolist()
    seen = 0
    for number in range(steps * 2):
        batch = mixture.batch(number)
        for ids, segments in zip(batch.ids.tolist(), batch.segments.tolist(), strict=True):
            for segment in range(1, max(segments) + 1):
                document = [token for token, owner in zip(ids, segments, strict=True) if owner == segment]
                seen += len(document) if document[:len(tag)] == tag else 0
    return seen


def test_the_steps_see_as_many_tokens_as_the_budget_and_no_step_more(inputs, digit_sets, capsys):
    folder, options = inputs
    call("budget", *options, "--budget", 700, "--tasks", "ast", "--targets", "en", "--seed", 3, "--output",
         folder / "budget.json")
    count = json.loads((folder / "budget.json").read_text())
    assert f"training.steps={count['steps']}" in capsys.readouterr().out
    seen = tokens_seen(inputs, digit_sets, count["steps"], "ast")
    assert count["task_tokens"] == count["by_task"]["ast_es_en"] == seen
    assert tokens_seen(inputs, digit_sets, count["steps"] - 1, "ast") < 700 <= count["task_tokens"]
    assert count["tokens"] == sum(count["by_task"].values()) > 2 * count["task_tokens"]


def test_a_budget_of_a_task_that_the_mixture_lacks_is_refused(inputs):
    with pytest.raises(AudioPaLMError, match="the budget counts tokens of s2st into all languages, which the mixture"):
        call("budget", *inputs[1], "--budget", 700, "--tasks", "s2st")


def test_a_budget_of_sequences_that_fit_into_no_row_is_refused(inputs):
    """Counting the steps would never end, because batches have MT alone."""
    _, tokenizer = load_vocabulary(inputs[0] / "vocabulary")
    # The shortest sequence of S2ST has three units, a newline, three units and an end after its tag.
    length = min(len(tokenizer.encode(f"[S2ST {pair}]")) for pair in ("English Spanish", "Spanish English")) + 7
    with pytest.raises(AudioPaLMError, match="no sequence of s2st into all languages fits into rows of"):
        call("budget", *inputs[1], "--budget", 700, "--tasks", "s2st", "mixture=[{task: mt}, {task: s2st}]",
             f"batch.row_length={length}")


def test_a_text_size_below_the_number_of_characters_is_one_line(digit_sets, tmp_path):
    for _ in range(2):
        with pytest.raises(AudioPaLMError, match="text_size 40 is too small for the characters of .*text_size=N"):
            call("make_vocabulary", "--data_dir", digit_sets[0], "--tokens", digit_sets[1], "--output", tmp_path,
                 "text_size=40")
    assert not (tmp_path / "text.model").exists()


def test_hours_of_speech_are_a_part_of_more_hours(digit_sets):
    data, tokens, _, _ = digit_sets
    examples = ExampleSet(data, tokens)
    cells = expand([MixtureEntry("asr"), MixtureEntry("mt")], examples)
    units = {row: examples.count_units(row) for cell in cells for row in cell.rows}
    hours = sum(units.values()) / 25 / 3600
    chosen = []
    for share in (0.25, 0.5):
        limited = limit_speech(cells, examples, share * hours, seed=1)
        spoken = np.concatenate([cell.rows for cell in limited if cell.task.name == "asr"])
        assert sum(units[row] for row in spoken) / 25 / 3600 == pytest.approx(share * hours, rel=0.05)
        assert [len(cell.rows) for cell in limited if cell.task.name == "mt"] == [
            len(cell.rows) for cell in cells if cell.task.name == "mt"]
        chosen.append(set(spoken))
    assert chosen[0] < chosen[1]
    other = limit_speech(cells, examples, hours / 4, seed=2)
    assert set(np.concatenate([cell.rows for cell in other if cell.task.name == "asr"])) != chosen[0]
    with pytest.raises(AudioPaLMError, match="speech_hours asks for 9 hours, the tasks of the mixture have"):
        limit_speech(cells, examples, 9, seed=1)


def test_hours_of_speech_count_recordings_that_are_spoken(digit_sets):
    """The English recordings are those of TTS alone."""
    examples = ExampleSet(*digit_sets[:2])
    cells = expand([MixtureEntry("asr", sources=["es"]), MixtureEntry("tts", sources=["en"])], examples)
    limited = limit_speech(cells, examples, 0.5 * sum(examples.count_units(row) for cell in cells
                                                      for row in cell.rows) / 25 / 3600, seed=1)
    assert [cell.task.name for cell in limited] == ["asr", "tts"]
    assert all(0 < len(cell.rows) < len(before.rows) for cell, before in zip(limited, cells, strict=True))
