"""The order of the tests, and what several folders share: a miniature set of utterances with texts and units."""

import signal

import numpy as np
import pytest
from prestarted import prestarted

from audiopalm.core.files import write_json
from audiopalm.data.archive import write_ark
from audiopalm.data.datadir import write_table

# Tests send Ctrl-C to commands. Where pytest runs in the background of a script it ignores SIGINT, and they would too.
signal.signal(signal.SIGINT, signal.default_int_handler)


# Files that take a quarter of a minute or longer, the longest first.
LONG = ("test_mini_recipe.py", "test_trainings.py", "test_parallel_training.py", "test_public_models.py",
        "test_launch.py", "test_joint.py", "test_lm_commands.py", "test_slurm.py", "test_public_recipes.py",
        "test_demo_in_browser.py", "test_espnet_task.py", "test_lora.py", "test_judge.py", "test_new_recipe.py",
        "test_driver.py", "test_driver_failures.py", "test_rehearse_gpu.py", "test_finetune.py",
        "test_hostile_calls.py", "test_imported_lm.py")


def pytest_collection_modifyitems(items):
    """Long files first: one that is begun last leaves a core without work. Their tests carry the mark `slow`."""
    for item in items:
        if item.path.name in LONG:
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


@pytest.fixture
def prestarted_jobs(monkeypatch):
    """Jobs that a stage starts from the process of the tests spare the imports of a new Python."""
    monkeypatch.setattr("sys.executable", prestarted()["AUDIOPALM_PYTHON"])


WORDS = {"en": ["one", "two", "three", "four"], "es": ["uno", "dos", "tres", "cuatro"]}
UNITS = 12  # ids 0..11: three units spell a digit


def make_token_set(root, name: str, numbers: list[tuple[int, ...]]):
    """A data directory and its token folder: digit sentences in English and Spanish, three units a digit."""
    data, tokens = root / "raw" / name, root / "tokens" / name
    text, language, speaker, units = {}, {}, {}, {}
    translations = {"en": {}, "es": {}}
    target_units = {"en": {}, "es": {}}
    for sentence, digits in enumerate(numbers):
        spoken = np.repeat(np.array(digits) * 3, 3) + np.tile([0, 1, 2], len(digits))
        for code in WORDS:
            utterance = f"anna-{code}-{sentence:04d}"
            text[utterance] = " ".join(WORDS[code][digit] for digit in digits)
            language[utterance], speaker[utterance] = code, "anna"
            units[utterance] = spoken if code == "en" else spoken[::-1]
            for other in WORDS:
                translations[other][utterance] = " ".join(WORDS[other][digit] for digit in digits)
                target_units[other][utterance] = spoken if other == "en" else spoken[::-1]
    for file, table in (("text", text), ("utt2lang", language), ("utt2spk", speaker),
                        *((f"text.{code}", translations[code]) for code in WORDS)):
        write_table(data / file, table)
    write_table(tokens / "units.scp", write_ark(tokens / "units.ark", units))
    for code in WORDS:
        write_table(tokens / f"units.{code}.scp", write_ark(tokens / f"units.{code}.ark", target_units[code]))
    write_json(tokens / "meta.json", {"units_rate": 25, "units_size": UNITS, "units_sha256": "units of the test"})
    return data, tokens


@pytest.fixture(scope="module")
def digit_sets(tmp_path_factory):
    """(train data, train tokens, dev data, dev tokens) of a file: 150 sentences of one to four digits and 10 others."""
    root = tmp_path_factory.mktemp("digits")
    random = np.random.default_rng(0)
    numbers = sorted({tuple(random.integers(0, 4, random.integers(1, 5)).tolist()) for _ in range(600)})
    random.shuffle(numbers)
    numbers = [tuple(row) for row in numbers]
    return (*make_token_set(root, "train", numbers[:150]), *make_token_set(root, "dev", numbers[150:160]))
