"""The version is in audiopalm/__init__.py. CHANGELOG.md, CITATION.cff and the command state the same."""

import re
from pathlib import Path

import pytest
import yaml

from audiopalm import __version__, cli

ROOT = Path(__file__).parents[2]
HEADING = re.compile(r"^## \[(.+)\](?: - (\d{4}-\d\d-\d\d))?$", re.MULTILINE)


def test_the_latest_release_of_the_changelog_is_that_of_the_citation_and_of_the_package():
    (first, _), (latest, date), *_ = HEADING.findall((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert first == "Unreleased" and latest == __version__
    assert (citation["version"], str(citation["date-released"])) == (latest, date)


def test_the_command_states_the_version(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0 and capsys.readouterr().out == f"audiopalm {__version__}\n"
