"""Overrides may stand anywhere; what commands import says nothing."""

import argparse
import subprocess
import sys

import pytest

from audiopalm.core.arguments import parse_with_overrides


@pytest.mark.parametrize("line", ["a=1 --output X b=2", "--output X a=1 b=2", "a=1 b=2 --output X"])
def test_overrides_before_between_and_behind_the_options(monkeypatch, line):
    monkeypatch.setattr(sys, "argv", ["command", *line.split()])
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", required=True)
    parsed = parse_with_overrides(parser, "a=1")
    assert (parsed.output, parsed.overrides) == ("X", ["a=1", "b=2"])


def test_faiss_reports_no_import_errors():
    """It logs each of its builds that is not there; commands that load it late showed that to their users."""
    script = "import logging; logging.basicConfig(level=logging.INFO); import audiopalm.core.quantiser"
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert said.stderr == ""
