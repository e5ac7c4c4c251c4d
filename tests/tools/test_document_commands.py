"""Each command that a document shows is accepted by the parser of its program, or is named in NOT_PARSED.

The commands are not run. Their programs exist, their options are those of the real parsers, and where all arguments are
shown, the parser takes them.
"""

import argparse
import functools
import importlib
import importlib.util
import re
import subprocess
from pathlib import Path

import pytest
from shown_commands import SHELL, SHELL_BLOCKS, Command, block_commands, shown_commands, split_blocks

from audiopalm.cli import make_parser
from audiopalm.core.config import load_config
from audiopalm.lm.training import LMConfig

ROOT = Path(__file__).resolve().parents[2]
EGS = ROOT / "egs"
DRIVER = EGS / "TEMPLATE/audiopalm.sh"
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "conf/README.md",
                    *EGS.glob("mini/pretrained/*/README.md"), *EGS.glob("mini/*/README.md"),
                    *EGS.glob("*/README.md"), *EGS.glob("*/NOTES.md"),
                    *(ROOT / "docs").glob("*.md"), *(ROOT / "benchmarks").glob("*.md")])
# Programs of others: no test reads their arguments.
NOT_PARSED = {
    "pip": "installs packages from the network", "pre-commit": "a tool of developers",
    "ruff": "run by tools/test.sh", "lint-imports": "run by tools/test.sh", "pytest": "runs these tests",
    "coverage": "a tool of developers", "wget": "downloads", "apt-get": "downloads",
    "dpkg-deb": "unpacks a package of Debian",
    "ct2-transformers-converter": "tests/lm/test_exported_lm.py calls its Python interface",
    "tensorboard": "shows logs", "torchrun": "tests call its agent through bin.start_ranks", "scontrol": "Slurm's",
    "sox": "an example in wav.scp", "espeak-ng": "an example of a program that speaks",
    "run.pl": "a sketch of a job", "slurm.pl": "a sketch of a job",
}
STAGES = {"data": "prepare", "audio": "format_audio", "units": "train_units", "codec": "train_codec",
          "tokenize": "tokenize", "vocabulary": "make_vocabulary", "textlm": "train_lm", "lm": "train_lm",
          "acoustic": "train_acoustic", "decode": "decode", "synthesize": "synthesize", "score": "score",
          "report": "report", "calibrate": "calibrate", "pack": "pack"}
JOINT = ("mixture", "corpora", "mt_text", "synthesize_mt")  # options of egs/joint/run.sh alone


@pytest.fixture(params=DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def document(request):
    return request.param


def test_options_and_arguments_are_those_of_the_programs(document):
    for command in filter(is_command, shown_commands(document)):
        check(command, document)


def test_a_block_that_begins_with_a_command_holds_nothing_but_known_commands(document):
    for language, block in split_blocks(document.read_text(encoding="utf-8"))[0]:
        commands = block_commands(block) if language in SHELL_BLOCKS else []
        if commands and is_command(commands[0]):
            assert [command.program for command in commands if not is_command(command)] == []


def test_blocks_of_python_compile(document):
    for language, block in split_blocks(document.read_text(encoding="utf-8"))[0]:
        if language == "python":
            compile(block, str(document), "exec")


@pytest.mark.parametrize("text", [
    "python -m audiopalm.bin.train_lm --no_such_option x", "./run.sh --no_such_option 1", "./run.sh --publish perhaps",
    './run.sh --lm_args "training.no_such_key=1"', './run.sh --score_args "--no_such_option"',
    "audiopalm translate in.wav --no_such_option", "python benchmarks/train.py --no_such_option",
    "tools/no_such_script.sh",
])
def test_an_option_or_program_that_does_not_exist_is_noticed(text):
    [command] = block_commands(text)
    with pytest.raises(Mismatch):
        check(command, ROOT / "docs/page.md")


class Mismatch(AssertionError):
    """A command that its program would refuse."""


def is_command(command: Command) -> bool:
    return (command.program in (*NOT_PARSED, *SHELL, "python", "audiopalm", ".venv/bin/python", ".venv/bin/audiopalm")
            or Path(command.program).suffix in (".sh", ".pl"))


def check(command: Command, document: Path) -> None:
    """Raise Mismatch if the program does not exist or does not take the arguments."""
    name = Path(command.program).name
    if command.program in NOT_PARSED or command.program in SHELL:
        return
    if name in ("run.sh", "shipped.sh", "audiopalm.sh"):
        if not command.program.startswith("egs/anna/"):
            find(command.program, document)
        check_driver(command.arguments, joint=document.parent.name == "joint")
    elif name == "audiopalm":
        check_cli(command)
    elif name == "python" and command.arguments[0] == "-m":
        check_module(command.arguments[1], Command(tuple(command.words[2:]), command.whole))
    else:
        script, *arguments = command.arguments if name == "python" else command.words
        text = find(script.removeprefix("./"), document).read_text(encoding="utf-8")
        unknown = [word for word in long_options(arguments)
                   if not re.search(rf"{word}\b|^{word[2:]}=", text, re.MULTILINE)]
        require(not unknown, f"{script} has no {unknown}")


def find(name: str, document: Path) -> Path:
    """The file of a program: below the root, beside the document, in a recipe, or by name in utils/."""
    for folder in (ROOT, document.parent, EGS / "mini", ROOT / "utils"):
        if (folder / name).is_file():
            return folder / name
    raise Mismatch(f"{name} does not exist")


def long_options(arguments: list[str]) -> list[str]:
    return [word.partition("=")[0] for word in arguments if re.match(r"--[a-z]", word)]


def require(condition: bool, message: str) -> None:
    if not condition:
        raise Mismatch(message)


def check_cli(command: Command) -> None:
    """A command of the console script; where arguments are left out, its name and its options only."""
    if command.whole:
        parse(make_parser().parse_args, command)
    else:
        source = (ROOT / "audiopalm/cli.py").read_text(encoding="utf-8")
        require(command.words[1] in make_parser().format_help(), f"audiopalm has no command {command.words[1]}")
        unknown = [word for word in long_options(command.arguments) if f'"{word}"' not in source]
        require(not unknown, f"audiopalm has no {unknown}")


def check_module(module: str, command: Command) -> None:
    """A command of audiopalm.bin, by its own parser; ESPnet's options by ESPnet's sources, which are slow to import."""
    if not re.fullmatch(r"[\w.]*\w", module):  # a placeholder, as in `audiopalm.bin.<name>`
        return
    require((ROOT / (module.replace(".", "/") + ".py")).is_file(), f"{module} does not exist")
    if module == "audiopalm.bin.espnet_train_lm":
        sources = [*ROOT.glob("audiopalm/espnet/*.py"), *ROOT.glob("audiopalm/bin/espnet_train_lm.py"), *espnet_tasks()]
        text = "\n".join(path.read_text(encoding="utf-8") for path in sources)
        unknown = [word for word in long_options(command.arguments) if not re.search(
            rf'"{word}"|--\{{\w+\}}_{word.partition("_")[2]}"', text) and word != "--config"]
        require(not unknown, f"{module} has no {unknown}")
    elif module.startswith("audiopalm.bin."):
        parser, method = real_parser(module)
        parse(getattr(parser, method), command)


def espnet_tasks() -> list[Path]:
    spec = importlib.util.find_spec("espnet2")
    return [Path(folder) / "tasks/abs_task.py" for folder in spec.submodule_search_locations] if spec else []


def parse(method, command: Command) -> None:
    """Parse all arguments of a whole command by `method` of its parser; of another one look at its options."""
    parser = method.__self__
    if command.whole:
        try:
            method(command.arguments)
        except SystemExit as end:
            require(not end.code, f"{' '.join(command.words)} is refused")
    else:
        known = set(re.findall(r"--[\w-]+", parser.format_help()))
        unknown = [word for word in long_options(command.arguments) if word not in known]
        require(not unknown, f"no options {unknown} of {parser.prog}")


@functools.cache
def real_parser(module: str) -> tuple[argparse.ArgumentParser, str]:
    """The parser that the command itself makes, and the name of the method by which it parses."""

    class Made(BaseException):
        pass

    def stop(name):
        def method(parser, *_, **__):
            raise Made(parser, name)
        return method

    with pytest.MonkeyPatch.context() as patch:
        main = importlib.import_module(module).main
        for name in ("parse_args", "parse_intermixed_args", "parse_known_args"):
            patch.setattr(argparse.ArgumentParser, name, stop(name))
        try:
            main()
        except Made as made:
            parser, name = made.args
    return parser, name


def check_driver(arguments: list[str], joint: bool) -> None:
    """Options of run.sh, by the parser of the driver; what it passes on to a stage, by the parser of that stage."""
    if joint:
        own = [index for index, word in enumerate(arguments) if word.removeprefix("--") in JOINT]
        arguments = [word for index, word in enumerate(arguments) if index not in own and index - 1 not in own]
    arguments = [word for previous, word in zip(["", *arguments], arguments, strict=False)
                 if not word.startswith("$") and (word != "..." or previous.startswith("--"))]
    defaults = DRIVER.read_text(encoding="utf-8").partition("\nset -euo pipefail\n")[2].partition("\nroot=")[0]
    # A file of --config would be looked for in the folder of this test.
    pairs = zip(["", *arguments], arguments, strict=False)
    given = [word for previous, word in pairs if "--config" not in (previous, word)]
    script = f"{defaults}\n. {ROOT}/utils/parse_options.sh"
    result = subprocess.run(["bash", "-euc", script, str(DRIVER), *given], text=True, capture_output=True)
    require(result.returncode == 0, result.stderr)
    for option, value in zip(arguments, arguments[1:], strict=False):
        stage = option.removeprefix("--").removesuffix("_args")
        if option.endswith("_args") and stage in STAGES:
            check_stage(STAGES[stage], value.split())


def check_stage(name: str, words: list[str]) -> None:
    parser, _ = real_parser(f"audiopalm.bin.{name}")
    parse(parser.parse_args, Command((name, *words), False))
    overrides = [word for word in words if re.match(r"[a-z][\w.]*=", word)]
    require(not overrides or "key=value" in parser.format_help(), f"{name} takes no {overrides}")
    if name == "train_lm" and overrides and not any("N" in word or "..." in word for word in overrides):
        try:
            load_config(LMConfig, EGS / "mini/conf/lm.yaml", overrides)
        except Exception as error:
            raise Mismatch(f"{name} refuses {overrides}: {error}") from None
