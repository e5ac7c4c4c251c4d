"""Commands run in this process as users run them, for tests of their messages about damaged input."""

import signal
import sys
from collections.abc import Callable

import pytest

from audiopalm.core.command import run


def said_in_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, main: Callable[[], None],
                     *arguments: object) -> str:
    """The message of a command, which must end with exit code 1 and one line `name: error: ...` on stderr."""
    name = main.__module__.rsplit(".", 1)[-1]
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        run(main)
    assert isinstance(end.value.code, str), f"exit code {end.value.code}"  # Python prints a text and exits with 1
    lines = (capsys.readouterr().err + end.value.code).splitlines()
    assert len(lines) == 1 and lines[0].startswith(f"{name}: error: "), lines
    assert len(lines[0]) < 700, lines[0]
    return lines[0]
