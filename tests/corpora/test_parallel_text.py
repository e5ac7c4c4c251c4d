"""Parallel texts as data directories: names of files, repeated pairs, tables of an earlier call."""

import pytest

from audiopalm.core.errors import AudioPaLMError
from audiopalm.corpora import parallel_text
from audiopalm.data.datadir import read_table


@pytest.fixture
def texts(tmp_path, monkeypatch):
    monkeypatch.setattr(parallel_text, "DEV_EVERY", 10)
    (tmp_path / "texts").mkdir()
    return tmp_path / "texts"


def test_no_pair_of_dev_is_in_train(texts, tmp_path):
    """The corpus has every pair twice, and begins with a byte order mark."""
    lines = [f"mot {number}\tword {number}\n" for number in range(45)]
    (texts / "news.fr-en.tsv").write_text("\ufeff" + "".join(lines + lines[::-1]), encoding="utf-8")
    report = parallel_text.prepare(texts, tmp_path / "out")
    pairs = {kind: set(zip(*(read_table(tmp_path / "out" / kind / name).values() for name in ("text", "text.en")),
                           strict=True)) for kind in ("train", "dev")}
    assert ("mot 0", "word 0") in pairs["dev"] and pairs["dev"] and pairs["train"]
    assert not pairs["dev"] & pairs["train"]
    assert report == {"kept": 90 - report["dropped"]["also in dev"], "dropped": report["dropped"]}


def test_no_table_of_an_earlier_call_stays(texts, tmp_path):
    (texts / "news.en-fr.tsv").write_text("word\tmot\n" * 3 + "other\tautre\n")
    parallel_text.prepare(texts, tmp_path / "out")
    (texts / "news.en-fr.tsv").rename(texts / "news.fr-en.tsv")
    parallel_text.prepare(texts, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out/train").glob("text*")) == ["text", "text.en"]


@pytest.mark.parametrize(("name", "message"), [
    ("news.zh-CN-en.tsv", "'zh-CN-en' is no pair of languages such as fr-en"),
    ("news.fr-xx.tsv", "'fr-xx' is no pair of languages"),
    ("my news.fr-en.tsv", "utterances are named by 'my news', but it contains ' '; rename the file")])
def test_a_name_that_cannot_be_read_is_named(texts, tmp_path, name, message):
    (texts / name).write_text("a\tb\nc\td\n")
    with pytest.raises(AudioPaLMError, match=message):
        parallel_text.prepare(texts, tmp_path / "out")
