"""Parallel texts (WMT, TED ...) as data directories without audio, for the tasks `mt` and `lm`.

Two layouts are read: `<name>.<source>-<target>.tsv`, two columns; and `<name>.<source>-<target>.<source>` beside
`<name>.<source>-<target>.<target>`, line by line. Languages are codes of audiopalm/languages.py.
"""

import logging
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from audiopalm.core.errors import AudioPaLMError, nearest
from audiopalm.core.files import atomic_path, write_json
from audiopalm.corpora.tables import counts
from audiopalm.data.datadir import languages_of, remove_index, table_line, why_bad_id
from audiopalm.languages import LANGUAGES

DEV_EVERY = 1000  # one of so many pairs of a file is for dev, beginning with the first
LONGEST = 1000  # characters of a text; longer texts are rarely one sentence


def prepare(texts: str | Path, output: str | Path) -> dict[str, Any]:
    """Write <output>/{train,dev} with text, text.<target>, utt2lang, utt2spk, spk2utt, and <output>/report.json.

    An utterance is a pair, `mt-<source>-<target>-<name>-<line>`; its speaker is the file. Pairs with an empty or a long
    side are dropped, and from `train` those that are also in `dev`. Returns the report: {kept: number, dropped:
    {reason: number}}. Raises AudioPaLMError for a name with other languages or with spaces, for files of unequal
    length, and when no pair is left.
    """
    files = sorted(((f"mt-{source}-{target}-{name}", (source, target), path) for path in Path(texts).iterdir()
                    for name, source, target in _name_and_languages(path)), key=lambda file: f"{file[0]}-".encode())
    dev_pairs = {pair for _, languages, path in files
                 for pair in islice(_pairs(path, *languages), 0, None, DEV_EVERY) if not isinstance(pair, str)}
    number_kept = 0
    dropped: list[tuple[str, str]] = []
    kinds = ("train", "dev")
    with ExitStack() as stack:
        tables: dict[tuple[str, str], TextIO] = {}

        def write(kind: str, name: str, key: str, value: str) -> None:
            if (kind, name) not in tables:
                temporary = stack.enter_context(atomic_path(Path(output) / kind / name))
                tables[kind, name] = stack.enter_context(open(temporary, "w", encoding="utf-8"))
            tables[kind, name].write(table_line(key, value))

        for speaker, (source, target), path in files:
            kept: dict[str, list[str]] = {kind: [] for kind in kinds}
            for number, pair in enumerate(_pairs(path, source, target)):
                key = f"{speaker}-{number:09d}"
                reason = pair if isinstance(pair, str) else _problem(pair)
                kind = "train" if number % DEV_EVERY else "dev"
                if not reason and kind == "train" and pair in dev_pairs:
                    reason = "also in dev"
                if reason:
                    dropped.append((key, reason))
                    continue
                kept[kind].append(key)
                for name, value in (("text", pair[0]), (f"text.{target}", pair[1]), ("utt2lang", source),
                                    ("utt2spk", speaker)):
                    write(kind, name, key, value)
            for kind, keys in kept.items():
                if keys:
                    write(kind, "spk2utt", speaker, " ".join(keys))
            number_kept += sum(map(len, kept.values()))
            logging.info("%s: %d pairs", path, sum(map(len, kept.values())))
        missing = [kind for kind in kinds if (kind, "text") not in tables]
        if missing:
            raise AudioPaLMError(f"{texts} has no pair of texts for {missing[0]}; expected are files such as "
                                 "news.fr-en.tsv, or news.fr-en.fr and news.fr-en.en, with some lines each")
    for kind in kinds:
        remove_index(Path(output) / kind)
        for code in languages_of(Path(output) / kind, "text"):  # of an earlier call with other files
            if (kind, f"text.{code}") not in tables:
                (Path(output) / kind / f"text.{code}").unlink()
    report = {"kept": number_kept, "dropped": counts(dropped)}
    write_json(Path(output) / "report.json", report)
    return report


def _problem(pair: tuple[str, str]) -> str:
    """The reason why a pair is left out; empty for a pair that is used."""
    if any("\ufffd" in text for text in pair):
        return "not UTF-8"
    return "" if all(0 < len(text) <= LONGEST for text in pair) else "an empty or a long text"


def _name_and_languages(path: Path) -> Iterator[tuple[str, str, str]]:
    """`news.fr-en.tsv` and `news.fr-en.fr` -> (`news`, `fr`, `en`); nothing for other files.

    Raises AudioPaLMError for a name that cannot be part of an id, and for languages without a code.
    """
    name, _, ending = path.name.rpartition(".")
    name, _, pair = name.rpartition(".")
    source, _, target = pair.partition("-")
    if not (name and target and ending in ("tsv", source)):
        return
    for code in (source, target):
        if code not in LANGUAGES:
            raise AudioPaLMError(f"{path}: {pair!r} is no pair of languages such as fr-en; {nearest(code, LANGUAGES)}")
    if reason := why_bad_id(name):
        raise AudioPaLMError(f"{path}: utterances are named by {name!r}, but {reason}; rename the file")
    yield name, source, target


def _pairs(path: Path, source: str, target: str) -> Iterator[tuple[str, str] | str]:
    """The pairs of one file, or of two files line by line. In place of a malformed pair, the reason."""
    with ExitStack() as stack:
        def lines(path: Path) -> Iterator[str]:
            try:
                return stack.enter_context(open(path, encoding="utf-8-sig", errors="replace", newline="\n"))
            except OSError as error:
                raise AudioPaLMError(f"{path} cannot be read: {error.strerror}") from None

        if path.suffix == ".tsv":
            for line in lines(path):
                cells = [_one_line(cell) for cell in line.split("\t")]
                yield (cells[0], cells[1]) if len(cells) == 2 else "not two columns"
            return
        other = path.with_suffix(f".{target}")
        try:
            for left, right in zip(lines(path), lines(other), strict=True):
                yield _one_line(left), _one_line(right)
        except ValueError:
            raise AudioPaLMError(f"{path} and {other} have different numbers of lines: they do not belong together"
                                 ) from None


def _one_line(text: str) -> str:
    return " ".join(text.split())
