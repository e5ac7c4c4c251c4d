"""A strict reader of YAML: keys are strings and occur once, and every error is one line with the file and the line."""

from pathlib import Path
from typing import Any

import yaml

from audiopalm.core.errors import AudioPaLMError

# Of one file. An alias (`*name`) counts each time, so that a few lines cannot expand into millions of values.
MAX_VALUES, MAX_DEPTH = 100_000, 50


class _StrictLoader(yaml.SafeLoader):
    """The safe loader, which refuses two equal keys and keys that are not strings, such as `no`, which means false."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} is no text; put it into quotes", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} occurs twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def parse_yaml(text: str, where: str, lines: bool = True) -> Any:
    """The value of `text`. Raises AudioPaLMError for a text that is not strict YAML.

    The message names `where` and, if `lines`, the line of the error.
    """
    try:
        loader = _StrictLoader(text)
        try:
            value = loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if lines and mark else ""
        raise AudioPaLMError(f"{where}{line}: {_one_line(error.problem or error.context)}") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date or a number that Python cannot hold
        raise AudioPaLMError(f"{where}: {_one_line(error)}") from None
    except RecursionError:
        raise AudioPaLMError(f"{where}: the values are nested too deeply") from None
    _check_size(value, where)
    return value


def _check_size(value: Any, where: str) -> None:
    """Refuse values that contain themselves or that aliases multiply."""
    waiting: list[tuple[Any, int]] = [(value, 0)]
    count = 0
    while waiting:
        item, depth = waiting.pop()
        count += 1
        if depth > MAX_DEPTH or count > MAX_VALUES:
            raise AudioPaLMError(f"{where}: the values are nested too deeply or too many")
        if isinstance(item, dict | list):
            waiting += [(inner, depth + 1) for inner in (item.values() if isinstance(item, dict) else item)]


def read_yaml(path: str | Path) -> Any:
    """The value of a YAML file in UTF-8; None for an empty file.

    Raises AudioPaLMError for a file that is missing, cannot be read, or is not strict YAML in UTF-8.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise AudioPaLMError(f"configuration {path} does not exist") from None
    except OSError as error:
        raise AudioPaLMError(f"configuration {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise AudioPaLMError(f"{path}, line {line}: byte 0x{error.object[error.start]:02x} is not UTF-8; save the file "
                             "as UTF-8") from None
    return parse_yaml(text, str(path))


def _one_line(problem: object) -> str:
    text = " ".join(str(problem).split())
    if r"'\t'" in text:
        text += "; indent with spaces instead of tabs"
    return text
