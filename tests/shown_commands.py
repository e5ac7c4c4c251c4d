"""The commands that a Markdown document shows: in blocks of code and in backticks."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SHELL = {"for", "do", "done", "cd", "cp", "mkdir", "rm", ".", "export", "echo"}
SHELL_BLOCKS = ("", "sh")
PLACEHOLDER = re.compile(r"\.\.\.|\$|<\w|\bNAME\b|\bFILE\b|\bDIR\b|\bID\b")


@dataclass(frozen=True)
class Command:
    """words: the program and its arguments. whole: all arguments are shown, so that they can be parsed as they are."""

    words: tuple[str, ...]
    whole: bool

    @property
    def program(self) -> str:
        return self.words[0].removeprefix("./")

    @property
    def arguments(self) -> list[str]:
        return list(self.words[1:])


def shown_commands(path: Path) -> list[Command]:
    """All commands of a document. Text in backticks is a command where it has arguments; it may leave out others."""
    blocks, prose = split_blocks(path.read_text(encoding="utf-8"))
    commands = [command for language, block in blocks if language in SHELL_BLOCKS for command in block_commands(block)]
    for quoted in re.findall(r"`([^`]+)`", prose):
        commands += [Command(words, False) for words in _split(" ".join(quoted.split())) if len(words) > 1]
    return [command for command in commands if command.program not in SHELL]


def split_blocks(text: str) -> tuple[list[tuple[str, str]], str]:
    """Blocks of code as (language, lines), and the text between. A block is fenced, or indented after a blank line."""
    blocks: list[tuple[str, list[str]]] = []
    prose: list[str] = []
    fenced = indented = False
    previous = ""
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
            if fenced:
                blocks.append((line.strip("` "), []))
        elif fenced:
            blocks[-1][1].append(line)
        else:
            was_indented, indented = indented, line.startswith("    ") and (indented or not previous.strip())
            if indented and not was_indented:
                blocks.append(("", []))
            (blocks[-1][1] if indented else prose).append(line)
        previous = line
    return [(language, "\n".join(lines)) for language, lines in blocks], "\n".join(prose)


def block_commands(block: str) -> list[Command]:
    """The simple commands of a block, those of the shell itself included."""
    return [Command(words, not PLACEHOLDER.search(" ".join(words))) for words in _split(block)]


def _split(text: str) -> Iterator[tuple[str, ...]]:
    """The simple commands of shell text; nothing for text that is none, such as a drawing."""
    lines = re.sub(r"\w+\+?=\([^)]*\)", "", text.replace("\\\n", " ")).splitlines()
    for line in lines:
        try:
            words = list(shlex.shlex(line, posix=True, punctuation_chars="|;&"))
            words = shlex.split(line, comments=True) if not set(words) & {"|", ";", "&&"} else words
        except ValueError:  # an apostrophe of prose
            continue
        command: list[str] = []
        for word in [*words, ";"]:
            if word in ("|", ";", "&&"):
                while command and re.match(r"\w+=", command[0]):
                    del command[0]
                if command:
                    yield tuple(command)
                command = []
            else:
                command.append(word)
