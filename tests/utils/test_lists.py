"""utils/*.pl: Kaldi's list tools by their names and options."""

import subprocess
from pathlib import Path

import pytest

UTILS = Path(__file__).resolve().parents[2] / "utils"


def call(name, *arguments, stdin="", code=0):
    result = subprocess.run([str(UTILS / name), *map(str, arguments)], input=stdin, text=True, capture_output=True)
    assert result.returncode == code if code == 0 else result.returncode != 0, result.stderr
    return result.stdout if code == 0 else result.stderr


def test_filter_scp_takes_the_lines_of_listed_ids_or_the_others(tmp_path):
    (tmp_path / "list").write_text("b more\nd\n")
    table = "a 1\nb 2\nc 3\nd 4\n"
    (tmp_path / "table").write_text(table)
    assert call("filter_scp.pl", tmp_path / "list", stdin=table) == "b 2\nd 4\n"
    assert call("filter_scp.pl", "--exclude", tmp_path / "list", tmp_path / "table") == "a 1\nc 3\n"
    assert call("filter_scp.pl", "-f", 2, tmp_path / "list", stdin="1 a\n2 b\n") == "2 b\n"
    assert "no field 2" in call("filter_scp.pl", "-f", 2, tmp_path / "list", stdin="alone\n", code=1)
    assert "unknown option --no" in call("filter_scp.pl", "--no", tmp_path / "list", code=1)
    assert "No such file" in call("filter_scp.pl", tmp_path / "none", code=1)
    assert call("filter_scp.pl", "-", tmp_path / "table", stdin="c\n") == "c 3\n"
    assert "cannot both be standard input" in call("filter_scp.pl", "-", code=1)


def test_utt2spk_and_spk2utt_are_inverse_to_each_other():
    utt2spk = "a-1 a\na-2 a\nb-1 b\n"
    spk2utt = call("utt2spk_to_spk2utt.pl", stdin=utt2spk)
    assert spk2utt == "a a-1 a-2\nb b-1\n"
    assert call("spk2utt_to_utt2spk.pl", stdin=spk2utt) == utt2spk
    assert "line 1" in call("utt2spk_to_spk2utt.pl", stdin="a-1\n", code=1)
    assert "line 1" in call("spk2utt_to_utt2spk.pl", stdin="a\n", code=1)


def test_shuffle_list_gives_one_order_for_each_seed():
    lines = "".join(f"{number}\n" for number in range(50))
    first, second = (call("shuffle_list.pl", "--srand", seed, stdin=lines) for seed in (1, 2))
    assert sorted(first.split()) == sorted(second.split()) == sorted(lines.split())
    assert lines != first != second and call("shuffle_list.pl", "--srand", 1, stdin=lines) == first
    assert "--srand takes a number" in call("shuffle_list.pl", "--srand", "x", code=1)


@pytest.mark.parametrize(("lines", "parts"), [(10, 3), (3, 3), (100, 7), (5, 1)])
def test_split_scp_gives_equal_parts_in_order(tmp_path, lines, parts):
    table = tmp_path / "table"
    table.write_text("".join(f"u{number:03d} x\n" for number in range(lines)))
    out = [tmp_path / str(number) for number in range(parts)]
    call("split_scp.pl", table, *out)
    assert "".join(path.read_text() for path in out) == table.read_text()
    sizes = [len(path.read_text().splitlines()) for path in out]
    assert max(sizes) - min(sizes) <= 1
    for number, path in enumerate(out):
        assert call("split_scp.pl", "-j", parts, number, table) == path.read_text()
        assert call("split_scp.pl", "-j", parts, number + 1, "--one-based", table) == path.read_text()


def test_split_scp_keeps_speakers_together(tmp_path):
    (tmp_path / "utt2spk").write_text("".join(f"{speaker}-{number} {speaker}\n" for speaker, count in
                                              (("a", 1), ("b", 9), ("c", 2), ("d", 1)) for number in range(count)))
    out = [tmp_path / str(number) for number in range(3)]
    call("split_scp.pl", f"--utt2spk={tmp_path / 'utt2spk'}", tmp_path / "utt2spk", *out)
    speakers = [{line.split()[1] for line in path.read_text().splitlines()} for path in out]
    assert all(speakers) and not speakers[0] & speakers[1] and not speakers[1] & speakers[2]
    assert "too few for 5 parts" in call("split_scp.pl", f"--utt2spk={tmp_path / 'utt2spk'}", tmp_path / "utt2spk",
                                         *[tmp_path / str(number) for number in range(5)], code=1)
    # Sorted by their bytes, the utterances of `ann` lie on both sides of those of `ann-b`.
    table = "ann-1 ann\nann-b-1 ann-b\nann-b-2 ann-b\nann-c ann\nbob-1 bob\n"
    (tmp_path / "utt2spk").write_text(table)
    call("split_scp.pl", f"--utt2spk={tmp_path / 'utt2spk'}", "-", *out, stdin=table)
    assert [path.read_text() for path in out] == ["ann-1 ann\nann-c ann\n", "ann-b-1 ann-b\nann-b-2 ann-b\n",
                                                  "bob-1 bob\n"]
    assert "wants 0 <= I < N" in call("split_scp.pl", "-j", 2, 2, tmp_path / "utt2spk", code=1)
    assert "wants 1 <= I < N + 1" in call("split_scp.pl", "--one-based", "-j", 2, 0, tmp_path / "utt2spk", code=1)
