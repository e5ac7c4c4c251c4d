"""Overrides may stand anywhere; seeds are checked when they are parsed; imports write nothing."""

import argparse
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import audiopalm.bin
from audiopalm.core.arguments import MAX_SEED, add_seed, parse_with_overrides
from audiopalm.core.errors import AudioPaLMError

WITH_SEED = sorted(path.stem for path in Path(audiopalm.bin.__file__).parent.glob("*.py")
                   if "add_seed(" in path.read_text() or '"--seed"' in path.read_text())


@pytest.mark.parametrize("line", ["a=1 --output X b=2", "--output X a=1 b=2", "a=1 b=2 --output X"])
def test_overrides_may_stand_before_between_and_behind_the_options(monkeypatch, line):
    monkeypatch.setattr(sys, "argv", ["command", *line.split()])
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", required=True)
    parsed = parse_with_overrides(parser, "a=1")
    assert (parsed.output, parsed.overrides) == ("X", ["a=1", "b=2"])


@pytest.mark.parametrize("command, line", [
    ("format_audio", "--input a b --output c --audio_dir d"),
    ("tokenize", "--data_dir a b --output c --units d --codec e")])
def test_folders_without_a_counterpart_are_one_line(monkeypatch, command, line):
    monkeypatch.setattr(sys, "argv", [command, *line.split()])
    with pytest.raises(AudioPaLMError, match="names 2 folders, --output names 1; give one for each"):
        importlib.import_module(f"audiopalm.bin.{command}").main()


def test_faiss_reports_no_import_errors():
    """faiss logs each of its builds that is absent, and commands that import it late would show these lines."""
    script = "import logging; logging.basicConfig(level=logging.INFO); import audiopalm.core.kmeans"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stderr == ""


@pytest.mark.parametrize("command", WITH_SEED)
@pytest.mark.parametrize("seed", ["-1", str(2 ** 31), "1" * 30, "1.5", "x"])
def test_a_seed_that_cannot_be_used_is_one_line_in_every_command(monkeypatch, command, seed):
    monkeypatch.setattr(sys, "argv", [command, "--seed", seed])
    with pytest.raises(AudioPaLMError, match=f"seed must be .*, found '?{seed}") as error:
        importlib.import_module(f"audiopalm.bin.{command}").main()
    assert "\n" not in str(error.value)


def test_the_smallest_and_the_largest_seed_are_accepted():
    parser = argparse.ArgumentParser()
    add_seed(parser)
    assert [parser.parse_args(words).seed for words in ([], ["--seed", "0"], ["--seed", str(MAX_SEED)])] == [
        0, 0, MAX_SEED]
