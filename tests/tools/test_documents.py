"""Modules and files that README.md and docs/ name exist, and the documents agree with driver and results."""

import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiopalm.data.examples import Example
from audiopalm.lm.sequences import SequenceBuilder
from audiopalm.report.results_page import headline_table
from audiopalm.scoring.headline import recipe_goals
from audiopalm.scoring.results import read_rows
from audiopalm.tasks import get_task
from audiopalm.units.registry import UnitTokenizer
from audiopalm.vocabulary.joint import load_vocabulary

ROOT = Path(__file__).resolve().parents[2]
MINI = ROOT / "egs" / "mini"
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md",
                    *(ROOT / "docs").glob("*.md"), *(ROOT / "egs").glob("*/README.md"), *MINI.glob("*/README.md"),
                    *(ROOT / "egs").glob("*/NOTES.md"), *(ROOT / "benchmarks").glob("*.md")])
# A run makes these. They are not part of the repository.
MADE = ("egs/mini/exp/", "egs/mini/RESULTS.md", "egs/mini/results.json", ".venv/")
EXAMPLES = ("egs/anna", "audiopalm/corpora/anna.py")  # the recipe that docs/new_recipe.md makes


@pytest.fixture(params=DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def document(request):
    return request.param


def test_named_modules_exist(document):
    names = set(re.findall(r"python -m ([\w.]+\w)\b(?![.<])", document.read_text(encoding="utf-8")))
    names |= set(re.findall(r"from (audiopalm[\w.]*) import", document.read_text(encoding="utf-8")))
    missing = [name for name in names if not (ROOT / (name.replace(".", "/") + ".py")).exists()
               and not (ROOT / name.replace(".", "/") / "__init__.py").exists()]
    assert sorted(missing) == []


def test_named_files_exist(document):
    text = document.read_text(encoding="utf-8")
    words = {word.rstrip(".,:;") for quoted in re.findall(r"`([^`\n]+)`", text) for word in quoted.split()}
    words |= {word for block in re.findall(r"```\w*\n(.*?)```", text, re.S) for word in block.split()}
    missing = []
    for word in words:
        name = word.removeprefix("./").rstrip("/")
        if not re.fullmatch(r"(egs|audiopalm|tools|utils|conf|docs|tests|corpus|local)/[\w./-]+", name):
            continue
        if any(name.startswith(prefix.rstrip("/")) for prefix in (*MADE, *EXAMPLES)):
            continue
        if not any((folder / name).exists() for folder in (ROOT, document.parent, ROOT / "egs" / "mini")):
            missing.append(name)
    assert sorted(missing) == []


def test_links_lead_to_files(document):
    links = re.findall(r"\]\(([^)\s#]+)", re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.S))
    assert [link for link in links if "://" not in link and not (document.parent / link).exists()] == []


def test_the_readme_has_both_commands_and_the_marks_of_the_results():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "./egs/mini/run.sh" in text and "./tools/test.sh" in text
    assert text.count("<!-- RESULTS -->") == text.count("<!-- /RESULTS -->") == 1


def test_each_stage_has_a_section_with_the_name_of_the_driver():
    driver = (ROOT / "egs" / "TEMPLATE" / "audiopalm.sh").read_text(encoding="utf-8")
    stages = re.findall(r"if begin (\d+) (\w+); then", driver)
    assert [int(number) for number, _ in stages] == list(range(1, 15))
    sections = (ROOT / "docs" / "stages.md").read_text(encoding="utf-8").split("\n## ")[1:]
    assert [section.split("\n")[0] for section in sections] == [f"{number} {name}" for number, name in stages]
    for section in sections:
        assert all(f"\n- {word}: " in section for word in ("Reads", "Writes", "Limits")), section.split("\n")[0]


def test_the_readme_shows_the_results_of_the_mini_recipe():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = readme.partition("<!-- RESULTS -->")[2].partition("<!-- /RESULTS -->")[0]
    goals = recipe_goals(MINI / "conf/goals.yaml")
    assert headline_table(read_rows(MINI / "results.json"), "mini", "test", goals) in shown


def test_the_row_that_the_page_of_scores_explains_is_one_of_the_results():
    block = re.search(r"```\n(.*?)```", (ROOT / "docs/scores.md").read_text(encoding="utf-8"), re.S)[1]
    chapter = (MINI / "RESULTS.md").read_text(encoding="utf-8").partition("\n## mini: test\n")[2].partition("\n## ")[0]
    assert [line for line in block.splitlines() if line not in chapter.splitlines()] == []


def shown_sequence(path: Path) -> list[tuple[str, list[str]]]:
    """The token sequence that a document shows: for each part `input` or `output`, and its ids; `...` may end them."""
    parts = []
    for line in path.read_text(encoding="utf-8").splitlines():
        columns = re.split(r" {2,}", line.strip())
        if columns[0] in ("input", "output") and len(columns) == 3:
            parts.append((columns[0], columns[2].split()))
        elif parts and re.fullmatch(r" {2,}[\d ]+", line):
            parts[-1][1].extend(line.split())
    return parts


def test_the_token_sequence_of_the_documents_is_what_the_shipped_model_makes_of_the_utterance():
    parts = shown_sequence(ROOT / "docs/index.md")
    vocabulary, tokenizer = load_vocabulary(MINI / "pretrained/pack/vocabulary")
    source, target = (np.array(parts[number][1], dtype=np.int64) - vocabulary.text_size for number in (1, 5))
    fields = {"audio": source, "transcript": "seis dólares", "translation": "six dollars", "translated_audio": target}
    builder = SequenceBuilder(vocabulary, tokenizer)
    sequence = builder.sequence(get_task("asr+ast+s2st"), Example("x", "es", "en", fields))
    assert sequence.ids.tolist() == [int(word) for _, words in parts for word in words]
    assert sequence.is_output.tolist() == [kind == "output" for kind, words in parts for _ in words]

    units = UnitTokenizer.load(MINI / "pretrained/pack/units")
    for recording, cuts, shown in (("allison-es", [(437.79, 438.58), (462.27, 463.15)], source),
                                   ("allison-en", [(349.80, 350.42), (366.12, 366.98)], target)):
        encoded = units.encode_one(joined(MINI / f"corpus/recordings/{recording}.ogg", cuts))
        # Another processor rounds otherwise, which may change a unit here and there.
        assert len(encoded) == len(shown) and np.mean(encoded == shown) > 0.9


def joined(path: Path, cuts: list[tuple[float, float]]) -> np.ndarray:
    """float32 `[T]`: cuts of a recording in seconds, joined as stage 2 joins them."""
    parts = []
    for start, end in cuts:
        samples, rate = soundfile.read(path, start=round(start * 16000), stop=round(end * 16000), dtype="float32")
        assert rate == 16000
        parts.append(samples)
    return np.concatenate(parts)


@pytest.mark.parametrize("document", ["README.md", "audiopalm/tasks.py"])
def test_other_documents_show_the_beginning_of_the_same_sequence(document):
    shown, whole = shown_sequence(ROOT / document), shown_sequence(ROOT / "docs/index.md")
    assert shown == [(kind, ids if short[-1] != "..." else [*ids[:10], "..."])
                     for (_, short), (kind, ids) in zip(shown, whole, strict=True)]
