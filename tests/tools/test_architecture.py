"""docs/architecture.md agrees with the code: the order of the components, and the files of its walks."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_components_are_listed_in_the_order_of_the_linter():
    (contract,) = [contract for contract in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
                   ["contracts"] if contract["type"] == "layers"]
    layers = [sorted(layer.split(" | ")) for layer in reversed(contract["layers"])]
    rows = [line.split("|")[1] for line in DOCUMENT.splitlines() if line.startswith("| `")]
    assert [sorted(re.findall(r"`(\w+)`", row)) for row in rows] == layers


def test_files_and_functions_of_the_walk_through_a_training_exist():
    (walk,) = [section for section in DOCUMENT.split("\n## ") if section.startswith("Walk 2")]
    lines = [line for line in walk.splitlines() if re.search(r"[\w/]+\.py", line)]
    assert len(lines) >= 6
    for line in lines:
        path = ROOT / "audiopalm" / re.search(r"[\w/]+\.py", line)[0]
        assert path.exists(), line
        for name in re.findall(r"(?:\w+\.)?(\w+)\(\)", line):
            assert f"def {name}(" in path.read_text(encoding="utf-8"), line
