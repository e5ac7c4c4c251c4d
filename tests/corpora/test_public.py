"""Code that the readers of public corpora share: tables, archives, limits, comparison with published figures."""

import gzip
import io
import tarfile
from pathlib import Path

import pytest
from miniatures.archives import pack
from miniatures.covost2 import clip_name, common_voice, covost2_table, make_covost2
from miniatures.fleurs import make_fleurs
from miniatures.sound import wav
from preparing import errors_of, prepare, read_reasons, snapshot

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import read_json
from audiopalm.core.lock import locked
from audiopalm.corpora.archives import unpack
from audiopalm.corpora.data_set import DataSet, Utterance, UtteranceList, compare, write_sets
from audiopalm.corpora.recordings import look_at
from audiopalm.corpora.tables import Account, read_rows
from audiopalm.data.datadir import read_table


def test_too_many_dropped_rows_are_an_error_with_the_reason(tmp_path):
    make_covost2(tmp_path, "fr", unpacked=True)
    result = prepare("covost2", tmp_path, tmp_path / "data", "--langs", "fr", "--max_drop", "0.05")
    message = errors_of(result)
    assert "train: 11 of 26 rows dropped" in message and "--max_drop 0.05" in message and "dropped.tsv" in message
    assert not (tmp_path / "data/train/text").exists()
    assert [clip_name("fr", 40), "clip missing"] in read_reasons(tmp_path / "data/train/dropped.tsv")


def test_a_set_without_rows_is_an_error(tmp_path):
    make_covost2(tmp_path, "fr", unpacked=True)
    table = tmp_path / "covost_v2.fr_en.tsv"
    table.write_bytes(b"".join(line for line in table.read_bytes().splitlines(True) if not line.endswith(b"\ttest\n")))
    assert "test: none of 0 rows is left" in errors_of(prepare("covost2", tmp_path, tmp_path / "data", "--langs", "fr"))


@pytest.mark.parametrize("wrong, message", [
    (["--langs", "frr"], "no source language 'frr'"), (["--langs", "de"], "no table covost_v2.de_"),
    (["--langs", "fr"], "Common Voice 4, 'fr': nothing found")])
def test_a_missing_download_is_named(tmp_path, wrong, message):
    (tmp_path / "covost_v2.fr_en.tsv").write_text("path\ttranslation\tsplit\na.mp3\tHello.\ttrain\n")
    assert message in errors_of(prepare("covost2", tmp_path, tmp_path / "data", *wrong))


def test_a_web_page_in_place_of_a_table_is_quoted(tmp_path):
    (tmp_path / "covost_v2.fr_en.tsv").write_text("<html>\n<body>Not found</body>\n")
    message = errors_of(prepare("covost2", tmp_path, tmp_path / "data", "--langs", "fr"))
    assert "no column 'path'" in message and "<html>" in message


@pytest.mark.parametrize("content, message", [
    (b"", "is empty"), (gzip.compress(b"a\tb\n" * 5000, mtime=0)[:-30], "damaged or cut off"),
    (b"<html>", "damaged or cut off")], ids=["empty", "cut off", "web page"])
def test_a_file_that_is_no_table_is_refused(tmp_path, content, message):
    table = tmp_path / ("t.tsv.gz" if content else "t.tsv")
    table.write_bytes(content)
    with pytest.raises(AudioPaLMError, match=message):
        list(read_rows(table, ["a"], Account()))


def test_rows_that_do_not_fit_are_named_by_their_line(tmp_path):
    table, bad = tmp_path / "t.tsv", Account()
    table.write_bytes(b"\xef\xbb\xbfa\tb\r\n1\tx\r\n\n2\t\xff\n3\n4\ty\tz\n5\t\xe2\x80\xa8\"\\\n6\t\x00" + b"\t" * 2000)
    assert list(read_rows(table, ["b", "a"], bad)) == [("x", "1"), ('\u2028"\\', "5")]
    assert bad.rows == 4 and bad.dropped == [
        ("t.tsv:4", "not UTF-8"), ("t.tsv:5", "row of 1 columns instead of 2"),
        ("t.tsv:6", "row of 3 columns instead of 2"), ("t.tsv:8", "not a table row")]


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    info.size = 4 if kind == tarfile.REGTYPE else 0
    return info


@pytest.mark.parametrize("evil, reason", [
    (member("../evil.txt"), "outside of the folder"), (member("a/../../evil.txt"), "outside of the folder"),
    (member("/tmp/evil.txt"), "outside of the folder"), (member("link", tarfile.SYMTYPE, "/etc"), "link"),
    (member("hard", tarfile.LNKTYPE, "../../etc/passwd"), "link"), (member("pipe", tarfile.FIFOTYPE), "not a file")])
def test_members_of_an_archive_that_lead_out_of_the_folder_are_left_out(tmp_path, evil, reason):
    before = Path("/tmp/evil.txt").exists()
    pack(tmp_path / "a.tar.gz", {"good.txt": b"good"}, [evil])
    folder = unpack(tmp_path / "a.tar.gz", tmp_path / "unpacked")
    assert set(snapshot(tmp_path)) == {"a.tar.gz", "unpacked/a/good.txt", "unpacked/a/.unpacked.json"}
    assert read_json(folder / ".unpacked.json")["left_out"] == {evil.name: reason}
    assert Path("/tmp/evil.txt").exists() == before and not any(path.is_symlink() for path in tmp_path.rglob("*"))


def test_a_file_does_not_follow_a_link_out_of_the_folder(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    pack(tmp_path / "a.tar.gz", {"link/evil.txt": b"evil"}, [member("link", tarfile.SYMTYPE, str(outside))])
    unpack(tmp_path / "a.tar.gz", tmp_path / "unpacked")
    assert not list(outside.iterdir())


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tar"])
def test_an_archive_that_is_cut_off_gives_its_whole_files(tmp_path, name, caplog):
    with tarfile.open(tmp_path / name, "w:gz" if name.endswith("gz") else "w") as tar:
        for number in range(20):
            info = tarfile.TarInfo(f"{number}.bin")
            info.size = 3000
            content = bytes((number * 7 + offset * offset) % 251 for offset in range(3000))
            tar.addfile(info, io.BytesIO(content))
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[:len(whole) // 2])
    folder = unpack(tmp_path / name, tmp_path / "unpacked")
    files = list(folder.glob("*.bin"))
    assert 0 < len(files) < 20 and all(path.stat().st_size == 3000 for path in files)
    assert f"cut off after {len(files)} files" in caplog.text
    (tmp_path / name).write_bytes(whole)  # fetched again: unpacked anew
    assert len(list(unpack(tmp_path / name, tmp_path / "unpacked").glob("*.bin"))) == 20


def test_an_archive_without_a_file_leaves_nothing(tmp_path):
    (tmp_path / "a.tar.gz").write_bytes(b"<html>")
    with pytest.raises(AudioPaLMError, match="is no archive or is cut off"):
        unpack(tmp_path / "a.tar.gz", tmp_path / "unpacked")
    assert not list((tmp_path / "unpacked").iterdir())


def test_an_unpacked_archive_is_not_unpacked_again(tmp_path):
    pack(tmp_path / "a.tar.gz", {"good.txt": b"good"})
    folder = unpack(tmp_path / "a.tar.gz", tmp_path)
    (folder / "good.txt").write_text("changed")
    assert (unpack(tmp_path / "a.tar.gz", tmp_path) / "good.txt").read_text() == "changed"


def test_two_processes_do_not_unpack_into_one_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("audiopalm.core.lock.GRACE_SECONDS", 0.1)
    pack(tmp_path / "a.tar.gz", {"good.txt": b"good"})
    with locked(tmp_path / ".a.lock", "unpacking a.tar.gz"), pytest.raises(AudioPaLMError, match="is being written by"):
        unpack(tmp_path / "a.tar.gz", tmp_path)
    assert not (tmp_path / "a").exists()
    assert (unpack(tmp_path / "a.tar.gz", tmp_path) / "good.txt").exists() and not (tmp_path / ".a.lock").exists()
    with locked(tmp_path / ".a.lock", "unpacking a.tar.gz"):  # what is whole is read without a lock
        assert unpack(tmp_path / "a.tar.gz", tmp_path) == tmp_path / "a"


def test_a_small_language_that_is_lost_is_an_error(tmp_path):
    """Of the whole set 4 of 100 rows are lost."""
    data = DataSet()
    for language, count in (("en", 48), ("cy", 4), ("en", 48)):
        data.account.begin(language)
        for number in range(count):
            data.account.rows += 1
            if language == "cy":
                data.account.drop(f"cy-{number}", "clip missing")
            else:
                name = f"en-{len(data.utterances)}"
                data.utterances.append(Utterance(name, name, "en", "x.wav", "word"))
    with pytest.raises(AudioPaLMError, match=r"test: 4 of 4 rows of cy dropped \(4 clip missing\), more than"):
        write_sets(tmp_path, {"test": data}, 0.05)
    assert not (tmp_path / "test/text").exists()


@pytest.mark.parametrize("value", ["5", "-0.1", "nan", "few"])
def test_a_fraction_that_is_none_is_refused(tmp_path, value):
    result = prepare("folder", tmp_path, tmp_path / "data", f"--max_drop={value}")
    assert f"expected a fraction from 0 to 1, found {value!r}" in errors_of(result)


def test_missing_clips_of_an_archive_that_is_cut_off_are_counted(tmp_path):
    make_covost2(tmp_path, "fr")
    archive = tmp_path / "fr.tar.gz"
    archive.write_bytes(archive.read_bytes()[:archive.stat().st_size // 2])
    result = prepare("covost2", tmp_path, tmp_path / "data", "--langs", "fr")
    assert "is cut off after" in result.stderr
    report = read_json(tmp_path / "data/report.json")
    assert report["train"]["kept"] >= 3 and report["train"]["dropped"]["clip missing"] > 5
    assert "dev: none of 2 rows is left (2 clip missing)" in errors_of(result)


def test_a_later_release_of_common_voice_is_recognised(tmp_path):
    pack(tmp_path / "fr.tar.gz", common_voice("fr", later_release=True))
    (tmp_path / "covost_v2.fr_en.tsv").write_bytes(covost2_table("fr"))
    result = prepare("covost2", tmp_path, tmp_path / "data", "--langs", "fr")
    assert result.returncode == 0 and "is of Common Voice 5 or later" in result.stderr
    assert "23 of 25 clips are in it" in result.stderr


def test_figures_are_shown_beside_the_published_ones(caplog):
    compare("X", "rows", [10, 20], [10, 20])
    compare("X", "hours", [98.5], [100.0], tolerance=0.02)
    assert not caplog.text
    compare("X", "rows of train, dev", [10, 19], [10, 20])
    compare("Y", "hours", [97.0], [100.0], tolerance=0.02)
    assert "X: 10, 19 rows of train, dev; published are 10, 20" in caplog.text
    assert "Y: 97.0 hours; published are 100.0" in caplog.text


def test_line_ends_in_texts_become_spaces(tmp_path):
    rows = [Utterance(id="a", speaker="a", language="fr", audio=tmp_path / "a.wav", text=" un\rdeux\ntrois\u2028 ")]
    write_sets(tmp_path, {"train": DataSet(UtteranceList(rows))}, 0.0)
    assert (tmp_path / "train/text").read_bytes().decode() == "a un deux trois\n"


@pytest.mark.parametrize("identifier", ["a b", "../a", "a\u2028b", "a\rb"])
def test_ids_that_tables_cannot_hold_are_dropped(tmp_path, identifier):
    rows = [Utterance(id=key, speaker="a", language="fr", audio=tmp_path / "a.wav", text="x")
            for key in (identifier, "good")]
    report = write_sets(tmp_path, {"train": DataSet(UtteranceList(rows), Account(rows=2))}, 0.5)
    assert report["train"]["dropped"] == {"invalid id": 1}
    assert read_table(tmp_path / "train/text") == {"good": "x"}
    assert read_reasons(tmp_path / "train/dropped.tsv") == [[identifier.replace("\r", " "), "invalid id"]]


def test_ids_that_appear_twice_are_counted(tmp_path):
    rows = [Utterance(id="a", speaker="a", language="fr", audio=tmp_path / "a.wav", text=text) for text in "xy"]
    report = write_sets(tmp_path, {"train": DataSet(UtteranceList(rows), Account(rows=2))}, 0.5)
    assert report["train"]["dropped"] == {"id appears twice": 1}
    assert read_table(tmp_path / "train/text") == {"a": "x"}


def test_a_wav_file_written_into_a_pipe_is_not_cut_off(tmp_path):
    content = wav(16000, "PCM_16")
    (tmp_path / "a.wav").write_bytes(content[:4] + b"\xff\xff\xff\xff" + content[8:])
    assert look_at(tmp_path / "a.wav").seconds == 1.0


def test_a_damaged_second_language_is_named_by_its_file(tmp_path):
    """FLEURS reads English besides the language that was asked for."""
    make_fleurs(tmp_path)
    (tmp_path / "en_us.tar.gz").write_bytes(b"<html>")
    assert "en_us.tar.gz is no archive" in errors_of(prepare("fleurs", tmp_path, tmp_path / "data", "--langs", "fr_fr"))
