"""Damaged token archives, tables and meta.json: the training command says one line, and runs no command in them."""

import json
import random
import shutil
import struct
from pathlib import Path

import pytest
from commands import call
from one_line import said_in_one_line

from audiopalm.bin import train_lm

CONFIG = """
mixture: [{task: asr}]
model: {dim: 16, layers: 1, heads: 2, kv_heads: 1, hidden_dim: 16}
batch: {rows: 1, row_length: 128}
training: {steps: 1}
"""


def with_count(ark: bytes, count: int) -> bytes:
    """The archive with another count of values in its first entry."""
    offset = ark.index(b"\0B\4") + 3
    return ark[:offset] + struct.pack("<i", count) + ark[offset + 4:]


def with_values(ark: bytes, number: int) -> bytes:
    """The archive with the value `number` in place of every value 3."""
    return ark.replace(b"\4" + struct.pack("<i", 3), b"\4" + struct.pack("<i", number))


ARKS = {
    "empty": lambda ark: b"", "cut": lambda ark: ark[:len(ark) // 50], "cut in the header": lambda ark: ark[:20],
    "a pickle": lambda ark: b"PKL" + ark, "a text": lambda ark: b"anna-en-0000 [ 1 2 3 ]\n" * 900,
    "a float matrix": lambda ark: ark.replace(b"\0B\4", b"\0BF"), "big-endian": lambda ark: ark.replace(b"\4", b"\0"),
    "a negative count": lambda ark: with_count(ark, -1), "a count of 2 ** 31": lambda ark: with_count(ark, 2 ** 31 - 1),
    "a count beyond the end": lambda ark: with_count(ark, len(ark)), "zeros": lambda ark: b"\0" * len(ark),
    "units that do not exist": lambda ark: with_values(ark, 12), "negative units": lambda ark: with_values(ark, -1),
    "units of 2 ** 30": lambda ark: with_values(ark, 2 ** 30),
    "shifted by a byte": lambda ark: b"x" + ark,
}
ENTRIES = ["touch {ran} |", "| touch {ran}", "cat {ark} |", "{ark}", "{ark}:", "{ark}:-1", "{ark}:x", "{ark}:0x10",
           "{ark}:99999999999", "{ark}:9999999999999999999999", "{ark}:13[0:2]", "nowhere.ark:13", "/dev/zero:0", "/:0",
           "/proc/self/mem:0", "-", "", "{ark}:\u0661\u0663", "http://example.org/x.ark:13", "{ark}:1 3", "a\0b:3"]
METAS = ["{}", "[]", "null", "", "{", "3", '{"units_size": 12}', '{"units_sha256": "units of the test"}',
         '{"units_rate": 25, "units_size": "12", "units_sha256": "units of the test"}',
         '{"units_rate": 25, "units_size": true, "units_sha256": "units of the test"}',
         '{"units_rate": 25, "units_size": 12, "units_sha256": null}',
         '{"units_rate": 25, "units_size": 12, "units_sha256": "others"}',
         '{"units_rate": 25, "units_size": -1, "units_sha256": "units of the test"}']
TABLES = [b"\xff\xfe\x00garbage", b"anna-en-0000 x\nanna-en-0000 x\n", b"../../x y\n", b"a/b y\n", b".. y\n", b""]


@pytest.fixture(scope="module")
def whole(digit_sets, tmp_path_factory):
    """{option of train_lm: value} of a run on whole data."""
    root = tmp_path_factory.mktemp("lm")
    train, tokens, dev, dev_tokens = digit_sets
    call("make_vocabulary", "--data_dir", train, "--tokens", tokens, "--output", root / "vocabulary", "text_size=300")
    (root / "lm.yaml").write_text(CONFIG)
    return {"--config": root / "lm.yaml", "--vocabulary": root / "vocabulary", "--data_dir": train, "--tokens": tokens,
            "--dev_data_dir": dev, "--dev_tokens": dev_tokens}


@pytest.fixture
def damaged(whole, tmp_path):
    """A copy of the tokens to damage, and the arguments of a training on them."""
    tokens = Path(shutil.copytree(whole["--tokens"], tmp_path / "tokens"))
    for scp in tokens.glob("*.scp"):
        scp.write_text(scp.read_text().replace(str(whole["--tokens"]), str(tokens)))
    options = {**whole, "--tokens": tokens, "--output": tmp_path / "lm"}
    return tokens, [word for pair in options.items() for word in pair] + ["--show_batch"]


def test_undamaged_data_are_read(damaged, capsys):
    call("train_lm", *damaged[1])
    assert "[ASR" in capsys.readouterr().out


@pytest.mark.parametrize("name", ARKS)
def test_a_damaged_archive_is_one_line(damaged, monkeypatch, capsys, name):
    tokens, arguments = damaged
    content = (tokens / "units.ark").read_bytes()
    (tokens / "units.ark").write_bytes(ARKS[name](content))
    if "count" in name:  # only the first entry is damaged: every id refers to it
        table = (tokens / "units.scp").read_text().splitlines()
        (tokens / "units.scp").write_text("".join(f"{line.split()[0]} {table[0].split()[1]}\n" for line in table))
    line = said_in_one_line(monkeypatch, capsys, train_lm.main, *arguments)
    assert "units.scp: anna-" in line


@pytest.mark.parametrize("entry", ENTRIES)
def test_an_entry_of_a_table_that_is_no_place_in_an_archive_is_one_line(damaged, monkeypatch, capsys, tmp_path, entry):
    tokens, arguments = damaged
    value = entry.format(ran=tmp_path / "ran", ark=tokens / "units.ark")
    ids = [line.split()[0] for line in (tokens / "units.scp").read_text().splitlines()]
    (tokens / "units.scp").write_text("".join(f"{utterance} {value}\n" for utterance in ids))
    said_in_one_line(monkeypatch, capsys, train_lm.main, *arguments)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("seed", range(12))
def test_random_bytes_in_an_archive_are_one_line(damaged, monkeypatch, capsys, seed):
    tokens, arguments = damaged
    draw = random.Random(seed)
    size = (tokens / "units.ark").stat().st_size
    (tokens / "units.ark").write_bytes(draw.randbytes(size))
    said_in_one_line(monkeypatch, capsys, train_lm.main, *arguments)


@pytest.mark.parametrize("content", METAS)
def test_a_damaged_meta_json_is_one_line(damaged, monkeypatch, capsys, content):
    tokens, arguments = damaged
    (tokens / "meta.json").write_text(content)
    line = said_in_one_line(monkeypatch, capsys, train_lm.main, *arguments)
    assert "tokens" in line


@pytest.mark.parametrize("content", TABLES)
def test_a_damaged_table_is_one_line(damaged, monkeypatch, capsys, content):
    tokens, arguments = damaged
    (tokens / "units.scp").write_bytes(content)
    said_in_one_line(monkeypatch, capsys, train_lm.main, *arguments)


def test_other_units_of_the_development_set_are_refused(whole, damaged, monkeypatch, capsys):
    tokens, arguments = damaged
    (tokens / "meta.json").write_text(json.dumps({"units_rate": 25, "units_size": 12, "units_sha256": "others"}))
    arguments[arguments.index("--dev_tokens") + 1] = tokens
    arguments[arguments.index("--tokens") + 1] = whole["--tokens"]
    line = said_in_one_line(monkeypatch, capsys, train_lm.main, *arguments[:-1])
    assert "was made with units others" in line
