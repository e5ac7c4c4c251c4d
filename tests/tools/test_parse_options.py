"""utils/parse_options.sh, which a small script sources."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

SCRIPT = f"""#!/usr/bin/env bash
# Prints its options.
#   --nj N  processes
#   --test_sets "NAMES"
set -euo pipefail
nj=1
test_sets="a b"
train_codec=false
empty=
. {ROOT}/utils/parse_options.sh
echo "$nj|$test_sets|$train_codec|$empty|$*"
"""


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "script.sh"
    path.write_text(SCRIPT)

    def call(*arguments):
        result = subprocess.run(["bash", path, *arguments], text=True, capture_output=True)
        return result.returncode, result.stdout, result.stderr

    return call


@pytest.mark.parametrize("arguments, expected", [
    ([], "1|a b|false||"),
    (["--nj", "8", "--test-sets", "c d"], "8|c d|false||"),
    (["--test_sets", "", "--empty", "x"], "1||false|x|"),
    (["--nj=8", "--test-sets=c d=e"], "8|c d=e|false||"),
    (["--train-codec", "true", "first", "--nj", "2"], "1|a b|true||first --nj 2"),
    (["--empty", "--nj"], "1|a b|false|--nj|"),
    (["--nj", "-1", "--", "--nj"], "-1|a b|false||--nj"),
])
def test_options_have_their_values_and_other_words_stay_arguments(script, arguments, expected):
    assert script(*arguments) == (0, expected + "\n", "")


@pytest.mark.parametrize("arguments, message", [
    (["--njj", "3"], "unknown option --njj; did you mean --nj? (--help lists the options)"),
    (["--test-set", "3"], "unknown option --test-set; did you mean --test_sets? (--help lists the options)"),
    (["--other", "3"], "unknown option --other (--help lists the options)"),
    (["-x"], "unknown option -x (--help lists the options)"),
    (["--a.b", "3"], "unknown option --a.b (--help lists the options)"),
    (["--nj"], "option --nj needs a value"),
    (["--train_codec", "1"], "option --train_codec takes true or false, not '1'"),
    (["--config", "/nonexistent"], "--config /nonexistent: no such file"),
    (["--config=/nonexistent"], "--config /nonexistent: no such file"),
    (["--nj", "3", "--config"], "--config : no such file"),
])
def test_errors_are_one_line(script, arguments, message):
    assert script(*arguments) == (1, "", f"script.sh: error: {message}\n")


def test_the_command_line_overrides_the_config_file(script, tmp_path):
    config = tmp_path / "options"
    config.write_text("nj=4\ntest_sets='from file'\n")
    assert script("--test_sets", "typed", "--config", str(config)) == (0, "4|typed|false||\n", "")


@pytest.mark.parametrize("content, message", [
    ("test_set=x", "there is no option test_set (--help lists the options)"),
    ("train_codec=True", "option --train_codec takes true or false, not 'True'"),
])
def test_a_file_is_checked_like_the_command_line(script, tmp_path, content, message):
    config = tmp_path / "options"
    config.write_text(f"nj=4\n{content}\n")
    assert script(f"--config={config}") == (1, "", f"script.sh: error: {config}: {message}\n")
    config.write_text("train_codec=true\n")
    assert script(f"--config={config}") == (0, "1|a b|true||\n", "")


def test_the_help_is_the_comment_at_the_top_of_the_script(script):
    assert script("--help") == (0, "Prints its options.\n  --nj N  processes\n  --test_sets \"NAMES\"\n", "")
