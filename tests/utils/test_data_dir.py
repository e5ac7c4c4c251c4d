"""utils/*_data_dir.sh, split_data.sh and combine_data.sh on a small data directory, with every mistake they report."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from audiopalm.data.checks import Options, problems
from audiopalm.data.datadir import read_table, write_table

UTILS = Path(__file__).resolve().parents[2] / "utils"
IDS = ("a-1", "a-2", "b-1")


@pytest.fixture
def data(tmp_path):
    directory = tmp_path / "my data"
    for name, value in (("text", "some words"), ("utt2lang", "en"), ("wav.scp", "/audio/x.flac"), ("text.es", "unas")):
        write_table(directory / name, dict.fromkeys(IDS, value))
    write_table(directory / "utt2spk", {key: key[0] for key in IDS})
    write_table(directory / "spk2utt", {"a": "a-1 a-2", "b": "b-1"})
    return directory


def call(script, *arguments):
    return subprocess.run([str(UTILS / script), *map(str, arguments)], text=True, capture_output=True,
                          env={**os.environ, "AUDIOPALM_PYTHON": sys.executable})


def mistakes(directory, **options):
    return " ".join(problems(directory, Options(**options)))


def test_a_sound_directory_is_valid_and_fixing_changes_nothing(data):
    assert call("validate_data_dir.sh", "--no-feats", data).returncode == 0
    before = {path.name: path.read_bytes() for path in data.iterdir()}
    result = call("fix_data_dir.sh", data)
    assert result.returncode == 0 and "kept 3" in result.stdout and "lost" not in result.stdout
    assert {path.name: path.read_bytes() for path in data.iterdir() if path.is_file()} == before


@pytest.mark.parametrize(("table", "content", "message"), [
    ("text", "a-1 x\na-2 y\n", "lacks 1 utterances of utt2spk, for example b-1"),
    ("text", "a-1 x\na-2 y\nb-1 z\nc-1 w\n", "besides the 1 utterances of utt2spk, for example c-1"),
    ("text", "a-2 y\na-1 x\nb-1 z\n", "text is not sorted"), ("text", "a-1 x\na-1 x\na-2 y\nb-1 z\n", "appears twice"),
    ("text", "a-1\na-2 y\nb-1 z\n", "a-1 has no value"), ("spk2utt", "a a-1 a-2 b-1\n", "not the inverse"),
    ("text.es", "z-1 x\n", "text.es has besides"), ("utt2spk", "a-1 b\na-2 a\nb-1 b\n", "not sorted by speaker"),
    ("segments", "a-1 x 0 1\na-2 x 0 1\nb-1 x 0 1\n", "recording x is not in wav.scp"),
    ("segments", "a-1 a-1 0\na-2 a-1 0 1\nb-1 a-1 0 1\n", "not `recording start end`"),
])
def test_a_mistake_in_a_table_is_named(data, table, content, message):
    (data / table).write_text(content)
    assert message in mistakes(data)
    result = call("validate_data_dir.sh", data)
    assert result.returncode == 1 and message in result.stderr and "Traceback" not in result.stderr


def test_text_and_wav_scp_may_be_missing_only_where_the_options_say_so(data):
    (data / "text").unlink()
    assert "text is missing" in mistakes(data) and not mistakes(data, text=False)
    (data / "wav.scp").unlink()
    assert "wav.scp is missing" in mistakes(data, text=False) and not mistakes(data, text=False, wav=False)
    assert "is no directory" in mistakes(data / "none")


def test_fix_names_the_lost_utterances_of_each_table_and_leaves_a_valid_directory(data):
    (data / "text").write_text("b-1 z\na-1 x\nc-1 w\n")
    (data / "wav.scp").write_text("b-1 /b.flac\na-2 /a.flac\na-1 /a.flac\n")
    result = call("fix_data_dir.sh", data)
    assert result.returncode == 0
    assert "text lost 1: c-1" in result.stdout and "wav.scp lost 1: a-2" in result.stdout
    assert "text.es lost 1: a-2" in result.stdout and "kept 2" in result.stdout
    assert not mistakes(data) and list(read_table(data / "text")) == ["a-1", "b-1"]
    assert (data / ".backup/text").read_text() == "b-1 z\na-1 x\nc-1 w\n"
    assert read_table(data / "spk2utt") == {"a": "a-1", "b": "b-1"}


def test_fix_does_not_lose_utterances_for_a_table_that_can_be_made_again(data):
    write_table(data / "utt2dur", {"a-1": "1.0"})
    (data / "text").write_text("a-1 one\na-1 two\na-2 x\nb-1 y\n")
    shown = call("fix_data_dir.sh", data).stdout
    assert "removed utt2dur, which lacked utterances; make it again" in shown and "kept 3" in shown
    assert "text had more lines of 1: a-1" in shown and read_table(data / "text")["a-1"] == "one"
    assert not mistakes(data) and (data / ".backup/utt2dur").read_text() == "a-1 1.0\n"


def test_fix_drops_segments_of_unknown_recordings_and_refuses_to_leave_nothing(data):
    write_table(data / "wav.scp", {"r": "/r.flac"})
    (data / "segments").write_text("a-1 r 0 1\na-2 q 0 1\nb-1 r 0 1 q 0 1\n")
    assert "segments lost 2: a-2 b-1" in call("fix_data_dir.sh", data).stdout and not mistakes(data)
    (data / "text").write_text("x-1 nothing\n")
    before = {path.name: path.read_bytes() for path in data.iterdir() if path.is_file()}
    result = call("fix_data_dir.sh", data)
    assert result.returncode == 1 and "no utterance is in all of" in result.stderr
    assert {path.name: path.read_bytes() for path in data.iterdir() if path.is_file()} == before


def test_copies_have_the_prefixes_of_speakers_and_utterances(data, tmp_path):
    call("copy_data_dir.sh", "--utt-prefix", "x-", "--spk-prefix", "x-", data, tmp_path / "copy")
    assert read_table(tmp_path / "copy/utt2spk") == {f"x-{key}": f"x-{key[0]}" for key in IDS}
    assert read_table(tmp_path / "copy/text.es").keys() == {f"x-{key}" for key in IDS}
    assert not mistakes(tmp_path / "copy")


@pytest.mark.parametrize(("arguments", "ids"), [
    (["--first", "2"], ["a-1", "a-2"]), (["--last", "1"], ["b-1"]), (["--per-spk", "1"], ["a-1", "b-1"]),
    (["--shortest", "2"], ["a-2", "b-1"]), (["3"], ["a-1", "a-2", "b-1"]),
    (["--speakers", "3"], ["a-1", "a-2", "b-1"])])
def test_a_subset_has_the_utterances_of_its_option(data, tmp_path, arguments, ids):
    write_table(data / "utt2dur", {"a-1": "3.0", "a-2": "1.0", "b-1": "2.0"})
    *option, number = arguments
    result = call("subset_data_dir.sh", *option, data, number, tmp_path / "part")
    assert result.returncode == 0 and list(read_table(tmp_path / "part/text")) == ids, result.stderr
    assert not mistakes(tmp_path / "part")


def test_a_subset_by_lists_takes_the_recordings_along(data, tmp_path):
    write_table(data / "wav.scp", {"r": "/r.flac", "q": "/q.flac"})
    write_table(data / "segments", {"a-1": "r 0 1", "a-2": "q 0 1", "b-1": "r 1 2"})
    (tmp_path / "list").write_text("a-1\nb-1\n")
    assert call("subset_data_dir.sh", "--utt-list", tmp_path / "list", data, tmp_path / "part").returncode == 0
    assert list(read_table(tmp_path / "part/wav.scp")) == ["r"] and not mistakes(tmp_path / "part")
    (tmp_path / "list").write_text("b\n")
    assert call("subset_data_dir.sh", "--spk-list", tmp_path / "list", data, tmp_path / "part2").returncode == 0
    assert list(read_table(tmp_path / "part2/text")) == ["b-1"]
    (tmp_path / "list").write_text("nobody\n")
    assert "no utterance is left" in call("subset_data_dir.sh", "--utt-list", tmp_path / "list", data,
                                          tmp_path / "part3").stderr
    assert "has 3 utterances; cannot take 9" in call("subset_data_dir.sh", data, "9", tmp_path / "part4").stderr


def test_the_parts_of_a_split_combine_to_the_directory(data, tmp_path):
    assert call("split_data.sh", data, 2).returncode == 0
    parts = [data / "split2" / number for number in "12"]
    assert [list(read_table(part / "text")) for part in parts] == [["a-1", "a-2"], ["b-1"]]
    assert call("split_data.sh", "--per-utt", data, 3).returncode == 0
    assert [list(read_table(data / "split3utt" / number / "text")) for number in "123"] == [[key] for key in IDS]
    assert "2 speakers; cannot split it into 3" in call("split_data.sh", data, 3).stderr
    assert call("combine_data.sh", tmp_path / "all", *parts).returncode == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "all").iterdir() if path.is_file()} == {
        path.name: path.read_bytes() for path in data.iterdir() if path.is_file()}
    (parts[1] / "text").write_text("a-1 else\nb-1 words\n")
    assert "a-1 of" in call("combine_data.sh", tmp_path / "wrong", *parts).stderr
    (parts[1] / "utt2lang").unlink()
    (parts[1] / "text").write_text("b-1 words\n")
    result = call("combine_data.sh", tmp_path / "less", *parts)
    assert "utt2lang is left out" in result.stdout and not (tmp_path / "less/utt2lang").exists()


def test_calls_written_for_kaldi_are_accepted(data, tmp_path):
    """Options may have - or _. A wrong call is one line and exit code 1."""
    assert call("subset_data_dir.sh", "--per_spk", data, 1, tmp_path / "a").returncode == 0
    assert call("copy_data_dir.sh", "--utt-prefix", "-x-", "--validate-opts", "--no-text", data, tmp_path / "b"
                ).returncode == 0
    assert next(iter(read_table(tmp_path / "b/text"))) == "-x-a-1"
    result = call("combine_data.sh", "--skip-fix", "true", "--extra-files", "text.es", tmp_path / "c", data)
    assert result.returncode == 0 and not (tmp_path / "c/.backup").exists()
    assert call("validate_data_dir.sh", "--non-print", "--no-feats", tmp_path / "c").returncode == 0
    for script, *arguments in (("subset_data_dir.sh", 2, data, tmp_path / "d"),
                               ("subset_data_dir.sh", "--frist", data, 2, tmp_path / "d"),
                               ("copy_data_dir.sh", data), ("fix_data_dir.sh", tmp_path),
                               ("copy_data_dir.sh", "--validate-opts", "--no-txt", data, tmp_path / "d")):
        result = call(script, *arguments)
        assert result.returncode == 1 and result.stderr.startswith(f"{script}: error: "), result.stderr
        assert len(result.stderr.splitlines()) == 1 and not (tmp_path / "d").exists()


def test_features_and_tables_of_speakers_and_recordings_are_copied_and_filtered(data, tmp_path):
    for name in ("feats.scp", "utt2num_frames", "utt2dur"):
        write_table(data / name, dict.fromkeys(IDS, "1"))
    write_table(data / "cmvn.scp", {"a": "c.ark:4", "b": "c.ark:9"})
    write_table(data / "spk2gender", {"a": "f", "b": "m"})
    write_table(data / "wav.scp", {"r": "/r.flac", "q": "/q.flac"})
    write_table(data / "segments", {"a-1": "r 0 1", "a-2": "q 0 1", "b-1": "r 1 2"})
    write_table(data / "reco2dur", {"r": "2.0", "q": "1.0"})
    assert not mistakes(data)
    assert call("subset_data_dir.sh", "--last", data, 1, tmp_path / "part").returncode == 0
    part = {path.name: list(read_table(path)) for path in (tmp_path / "part").iterdir()}
    assert part == {**dict.fromkeys(("text", "text.es", "utt2lang", "utt2spk", "utt2dur", "utt2num_frames", "feats.scp",
                                     "segments"), ["b-1"]),
                    **dict.fromkeys(("spk2utt", "cmvn.scp", "spk2gender"), ["b"]),
                    **dict.fromkeys(("wav.scp", "reco2dur"), ["r"])}
    assert call("copy_data_dir.sh", "--spk-prefix", "x-", "--utt-prefix", "x-", data, tmp_path / "copy").returncode == 0
    assert list(read_table(tmp_path / "copy/cmvn.scp")) == ["x-a", "x-b"] and not mistakes(tmp_path / "copy")
    assert list(read_table(tmp_path / "copy/reco2dur")) == ["q", "r"]
    write_table(data / "cmvn.scp", {"a": "c.ark:4"})
    assert "cmvn.scp lacks 1 speakers" in mistakes(data)
    assert "feats.scp lost 1: b-1" in call("fix_data_dir.sh", data).stdout and not mistakes(data)
    assert list(read_table(data / "spk2gender")) == ["a"]


def test_extra_tables_are_filtered_when_they_are_named(data):
    write_table(data / "emotion", {"a-1": "glad", "b-1": "sad"})
    write_table(data / "age", {"a": "30", "b": "40"})
    (data / "text").write_text("a-1 x\na-2 y\n")
    result = call("fix_data_dir.sh", "--utt-extra-files", "emotion", "--spk-extra-files", "age", data)
    assert "emotion lost 1: b-1" in result.stdout and "age lost 1: b" in result.stdout
    assert "no name of a table" in call("fix_data_dir.sh", "--utt-extra-files", "../x", data).stderr


def test_invalid_ids_are_refused_and_removed(data):
    for name in ("text", "utt2spk", "wav.scp"):
        with open(data / name, "a") as table:
            print("../../c a", file=table)
    assert "invalid id '../../c'" in mistakes(data)
    fixed = call("fix_data_dir.sh", data)
    assert "removed the invalid id '../../c'" in fixed.stdout and read_table(data / "text").keys() == set(IDS)
    result = call("copy_data_dir.sh", "--utt-prefix", "../", data, data.parent / "copy")
    assert result.returncode == 1 and "invalid id" in result.stderr and not (data.parent / "copy").exists()


def test_texts_that_cannot_be_printed_are_named(data):
    (data / "text").write_text("a-1 x\ty\na-2 z\x1b[0m\nb-1 w\n")
    assert "text: a-2 has characters that cannot be printed (1 such lines)" in mistakes(data)
    assert not mistakes(data, printable=False)


def test_relative_paths_of_another_recipe_survive(data, tmp_path):
    """The paths of both directories start from the folders of their own recipes; a third recipe combines them."""
    for recipe in ("anna", "bert"):
        directory = tmp_path / "egs" / recipe
        (directory / "dump").mkdir(parents=True)
        (directory / f"dump/{recipe}.flac").write_text("x")
        assert call("copy_data_dir.sh", "--utt-prefix", f"{recipe}-", "--spk-prefix", f"{recipe}-", data,
                    directory / "data/train").returncode == 0
        ids = list(read_table(directory / "data/train/text"))
        write_table(directory / "data/train/wav.scp", dict.fromkeys(ids, f"dump/{recipe}.flac"))
    (tmp_path / "egs/carl").mkdir()
    result = subprocess.run([UTILS / "combine_data.sh", "data/all", "../anna/data/train", "../bert/data/train"],
                            text=True, capture_output=True, cwd=tmp_path / "egs/carl",
                            env={**os.environ, "AUDIOPALM_PYTHON": sys.executable})
    assert result.returncode == 0, result.stderr
    paths = set(read_table(tmp_path / "egs/carl/data/all/wav.scp").values())
    assert paths == {"../anna/dump/anna.flac", "../bert/dump/bert.flac"}


def test_directories_with_and_without_segments_are_combined(data, tmp_path):
    call("copy_data_dir.sh", "--utt-prefix", "x-", "--spk-prefix", "x-", data, tmp_path / "other")
    write_table(data / "wav.scp", {"r": "/r.flac"})
    write_table(data / "segments", {"a-1": "r 0 1", "a-2": "r 1 2", "b-1": "r 2 3"})
    assert call("combine_data.sh", tmp_path / "all", data, tmp_path / "other").returncode == 0
    segments = read_table(tmp_path / "all/segments")
    assert segments["a-2"] == "r 1 2" and segments["x-a-2"] == "x-a-2 0 -1" and not mistakes(tmp_path / "all")


def test_translations_of_every_form_are_combined(data, tmp_path):
    """No translation is lost, whether a file, a segment or a text in another language. Contradictions are named."""
    call("copy_data_dir.sh", "--utt-prefix", "x-", "--spk-prefix", "x-", data, tmp_path / "other")
    write_table(data / "wav.scp", {"r": "/r.flac"})
    write_table(data / "segments", {"a-1": "r 0 1", "a-2": "r 1 2", "b-1": "r 2 3"})
    write_table(data / "segments.en", {"a-1": "r 3 4"})
    write_table(tmp_path / "other/wav.scp.en", {"x-a-2": "/translation.flac"})
    write_table(tmp_path / "other/text.nl", {"x-a-2": "woorden"})
    result = call("combine_data.sh", tmp_path / "all", data, tmp_path / "other")
    assert result.returncode == 0 and "speakers of several" not in result.stdout, result.stderr
    union = tmp_path / "all"
    assert read_table(union / "segments.en") == {"a-1": "r 3 4", "x-a-2": "x-a-2-en 0 -1"}
    assert not (union / "wav.scp.en").exists() and read_table(union / "wav.scp")["x-a-2-en"] == "/translation.flac"
    assert read_table(union / "text.nl") == {"x-a-2": "woorden"} and read_table(union / "text.es").keys() >= {"a-1"}
    assert len(read_table(union / "utt2lang")) == 6 and not mistakes(union)

    write_table(tmp_path / "other/wav.scp", {**read_table(tmp_path / "other/wav.scp"), "x-a-2-en": "/other.flac"})
    assert "a recording x-a-2-en" in call("combine_data.sh", tmp_path / "wrong", data, tmp_path / "other").stderr
    for name, value in (("utt2lang", "fr"), ("text.es", "otra cosa")):
        call("copy_data_dir.sh", data, tmp_path / name)
        write_table(tmp_path / name / name, {**read_table(tmp_path / name / name), "a-1": value})
        result = call("combine_data.sh", tmp_path / "wrong", data, tmp_path / name)
        assert result.returncode == 1 and f"a-1 of {tmp_path / name / name} is something else" in result.stderr
    call("copy_data_dir.sh", "--utt-prefix", "y-", data, tmp_path / "same")
    result = call("combine_data.sh", tmp_path / "both", data, tmp_path / "same")
    assert result.returncode == 0 and "taken for the same people: a b" in result.stdout


def test_no_table_of_an_earlier_directory_stays(data, tmp_path):
    write_table(data / "feats.scp", dict.fromkeys(IDS, "x.ark:3"))
    assert call("subset_data_dir.sh", "--first", data, 2, tmp_path / "part").returncode == 0
    (data / "feats.scp").unlink()
    assert call("subset_data_dir.sh", "--last", data, 1, tmp_path / "part").returncode == 0
    assert not (tmp_path / "part/feats.scp").exists() and not mistakes(tmp_path / "part")
