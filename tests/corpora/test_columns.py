"""Tables read as columns have the same rows and the same account as tables read row by row."""

import gzip
import random

import pytest

from audiopalm.core.errors import AudioPaLMError
from audiopalm.corpora import columns
from audiopalm.corpora.columns import places, read_columns
from audiopalm.corpora.tables import Account, read_rows

PLAIN = "".join(f"{number}\ttext {number}\ttrain\n" for number in range(20)).encode()
ODD = {
    "nothing": b"", "another width": b"a\tb\na\tb\tc\td\n", "one cell": b"a\n", "empty cells": b"\t\t\n",
    "quotes": b'"a\tb"\t"\n""\t"""\t\'\n', "backslashes": b"\\\t\\\\\tb\\\nb\\\tc\\n\td\n", "NA": b"NA\tnull\t1.5\n",
    "CRLF": b"a\tb\tc\r\n\r\n", "lone CR": b"a\tb\rb\tc\n", "many CRs": b"a\tb\tc\r\r\n", "CR at the end": b"a\tb\tc\r",
    "empty lines": b"\n\n\na\tb\tc\n \n", "not UTF-8": b"a\t\xff\tc\n\xed\xa0\x80\tb\tc\n", "NUL": b"\0\tb\0\tc\n",
    "ends of lines of Unicode": "a\u2028\tb\u0085\u000b\u000c\tc\u2029\u001c\n".encode(),
    "byte order mark": b"\xef\xbb\xbfa\tb\tc\xef\xbb\xbf\n\xef\xbb\xbfa\tb\tc\n",
    "a long cell": b"a\t" + b"b" * 200000 + b"\tc\n",
    "no table": b"<html>\n<body>\n" + b"\t" * 2000, "no newline at the end": b"a\tb\tc", "spaces": b" a \t b\t \n",
}


def read_both(path, bad: Account, careful: Account, recurring=()) -> tuple[list, list]:
    """The rows of a table read as columns, with the account `bad`, and read row by row, with the account `careful`."""
    columns_read = [column.to_pylist() for column in read_columns(path, ["c", "a"], bad, recurring)]
    return list(zip(*columns_read, strict=True)), list(read_rows(path, ["c", "a"], careful))


@pytest.mark.parametrize("block", [1, 30, columns.BLOCK])
@pytest.mark.parametrize("lines", ODD)
def test_columns_have_the_values_of_the_rows(tmp_path, monkeypatch, lines, block):
    """Odd lines first, amid, and last; blocks of one line and more."""
    monkeypatch.setattr(columns, "BLOCK", block)
    for name, content in (("first", ODD[lines] + PLAIN), ("amid", PLAIN + ODD[lines] + PLAIN),
                          ("last", PLAIN + ODD[lines])):
        (tmp_path / name).write_bytes(b"\xef\xbb\xbfa\tb\tc\n" + content)
        bad, careful = Account(), Account()
        rows, expected = read_both(tmp_path / name, bad, careful)
        assert rows == expected and len(rows) >= 19
        assert bad == careful


def test_any_mixture_of_odd_lines_has_the_values_of_the_rows(tmp_path, monkeypatch):
    draw = random.Random(0)
    monkeypatch.setattr(columns, "BLOCK", 50)
    for _ in range(100):
        content = b"".join(draw.choice([b"a\tb\tc\n", PLAIN, *ODD.values()]) for _ in range(8))
        path = tmp_path / "t.tsv.gz"
        path.write_bytes(gzip.compress(b"a\tb\tc\n" + content))
        bad, careful = Account(), Account()
        rows, expected = read_both(path, bad, careful, recurring=["c"])
        assert rows == expected and bad == careful


def test_a_bad_line_of_a_late_block_is_named_by_its_line_in_the_table(tmp_path, monkeypatch):
    monkeypatch.setattr(columns, "BLOCK", len(PLAIN))
    (tmp_path / "t.tsv").write_bytes(b"a\tb\tc\n" + 3 * PLAIN.replace(b"\n", b"\r\n") + b"bad\n" + 3 * PLAIN)
    bad = Account()
    assert len(read_columns(tmp_path / "t.tsv", ["a", "b"], bad)[0]) == 120
    assert bad.dropped == [("t.tsv:62", "row of 1 columns instead of 3")]


@pytest.mark.parametrize("content, message", [
    (b"", "is empty"), (gzip.compress(b"a\tb\n" * 5000, mtime=0)[:-30], "damaged or cut off"),
    (b"a\tc\n", "no column 'b'")])
def test_a_file_that_is_no_table_is_refused(tmp_path, content, message):
    table = tmp_path / ("t.tsv.gz" if content[:1] == b"\x1f" else "t.tsv")
    table.write_bytes(content)
    with pytest.raises(AudioPaLMError, match=message):
        read_columns(table, ["a", "b"], Account())


def test_places_are_those_of_the_first_equal_value(tmp_path):
    (tmp_path / "t.tsv").write_bytes(b"a\tb\nx\ty\nz\tx\nx\tx\nx\tw\n")
    first, second = read_columns(tmp_path / "t.tsv", ["a", "b"], Account())
    assert places(second, first).tolist() == [-1, 0, 0, -1]
