"""Modules and files that README.md and docs/ name exist, and the documents agree with driver and results."""

import re
from pathlib import Path

import pytest

from audiopalm.report.results_page import headline_table
from audiopalm.scoring.headline import recipe_goals
from audiopalm.scoring.results import read_rows

ROOT = Path(__file__).resolve().parents[2]
MINI = ROOT / "egs" / "mini"
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md",
                    *(ROOT / "docs").glob("*.md"), *(ROOT / "egs").glob("*/README.md"),
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
