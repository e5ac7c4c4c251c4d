"""CVSS beside Common Voice 4, from miniatures in the official layout, through the command of stage 1."""

import re

import pytest
from miniatures.archives import lay_out, pack
from miniatures.covost2 import DAMAGED, PLAIN, clip_name, common_voice
from miniatures.cvss import make_cvss
from miniatures.sound import wav
from preparing import AWKWARD, check_set, errors_of, prepare, read_reasons

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import read_json
from audiopalm.corpora import cvss
from audiopalm.corpora.covost2 import INTO_ENGLISH
from audiopalm.corpora.data_set import ReaderOptions
from audiopalm.data.audio import read_audio
from audiopalm.data.datadir import read_table


@pytest.mark.parametrize("language", ["fr", "zh-CN", "sv-SE"])
@pytest.mark.parametrize("version", ["c", "t"])
def test_data_directories_have_texts_and_spoken_translations(tmp_path, language, version):
    downloads, output = tmp_path / AWKWARD, tmp_path / "data"
    kept_texts, dropped = make_cvss(downloads, language, version)
    result = prepare("cvss", downloads, output, "--langs", language, "--version", version)
    assert result.returncode == 0, result.stderr
    for name, english in kept_texts.items():
        sentences = {clip: PLAIN[int(clip.rsplit("_", 1)[1].removesuffix(".mp3"))][0] for clip in english}
        check_set(output / name, sentences, dropped[name])
        for key, path in read_table(output / name / "wav.scp.en").items():
            assert path.endswith(f"{key[key.index('common_voice'):]}.mp3.wav") and len(read_audio(path)) == 16000
        for text in read_table(output / name / "text.en").values():
            assert text == text.lower() and not set(text) & set('.,"\\')
    assert "1 recordings have no row" in result.stderr
    dev = f"{language} dev: recordings at 22050 Hz instead of 24000"
    assert dev in result.stderr and result.stderr.count("Hz instead of") == 1
    train = read_table(output / "train/text.en")
    assert "another voice" in train.values() and "combining marks 1 2" in train.values()
    assert not read_table(output / "train/utt2lang").keys() - train.keys()
    assert set(read_table(output / "train/utt2lang").values()) == {language[:2]}


def test_every_lost_row_is_named(tmp_path):
    make_cvss(tmp_path)
    assert prepare("cvss", tmp_path, tmp_path / "data", "--langs", "fr").returncode == 0
    names = {reason: name for name, reason in read_reasons(tmp_path / "data/train/dropped.tsv")}
    assert names["clip missing"] == clip_name("fr", 40) and names["clip of zero bytes"] == clip_name("fr", 41)
    assert names["empty translation"] == clip_name("fr", 54)
    assert names["row of 1 columns instead of 2"] == "train.tsv:14"
    names = {reason: name for name, reason in read_reasons(tmp_path / "data/test/dropped.tsv")}
    assert names["translation's recording cut off"] == clip_name("fr", list(DAMAGED)[3])


def test_rows_are_compared_with_the_published_ones(tmp_path):
    make_cvss(tmp_path, "zh-CN")
    result = prepare("cvss", tmp_path, tmp_path / "data", "--langs", "zh-CN")
    assert "CVSS-C, zh-CN: 15, 1, 7 rows of train, dev, test; published are 7085, 4843, 4897" in result.stderr
    assert read_json(tmp_path / "data/test/report.json")["hours_of_translations"] == {"en": 0.001}


def test_sets_of_the_published_size_give_no_warning(tmp_path, monkeypatch, caplog):
    """The figures of the miniature stand in for the published ones."""
    make_cvss(tmp_path, "zh-CN")
    monkeypatch.setitem(cvss.ROWS, "zh-CN", (15, 1, 7))
    cvss.prepare(ReaderOptions(tmp_path, tmp_path / "data", tmp_path / "unpacked", ["zh-CN"], 0.9))
    assert not re.search("CVSS.*rows of", caplog.text)


def test_all_21_languages_are_prepared(tmp_path):
    for language in INTO_ENGLISH:
        lay_out(tmp_path / language, {name: content for name, content in common_voice(language).items()
                                      if name == "validated.tsv" or name.endswith(("_1.mp3", "_20.mp3", "_30.mp3"))})
        lay_out(tmp_path / f"cvss_c_{language[:2]}_en_v1.0", {
            file: content for name, number in (("train", 1), ("dev", 20), ("test", 30)) for file, content in (
                (f"{name}.tsv", f"{clip_name(language, number)}\ttext\n".encode()),
                (f"{name}/{clip_name(language, number)}.wav", wav(24000, "PCM_16", 0.1)))})
    assert prepare("cvss", tmp_path, tmp_path / "data").returncode == 0
    assert read_json(tmp_path / "data/test/report.json")["kept"] == 21


@pytest.mark.parametrize("folder", ["cvss_c_fr_en_v1.0", "cvss_c_fr_en", "cvss/cvss_c_fr_en_v1.0"])
@pytest.mark.parametrize("packed", [False, True])
def test_archives_and_folders_are_read_in_every_layout(tmp_path, folder, packed):
    lay_out(tmp_path / "fr", common_voice("fr"))
    files = {file: content for name, number in (("train", 1), ("dev", 20), ("test", 30)) for file, content in (
        (f"{name}.tsv", f"{clip_name('fr', number)}\ttext\n".encode()),
        (f"{name}/{clip_name('fr', number)}.wav", wav(24000, "PCM_16", 0.1)))}
    if packed:  # flat, or in a folder of its own name
        name = "cvss_c_fr_en_v1.0"
        parent = tmp_path / "cvss" if "/" in folder else tmp_path
        pack(parent / f"{name}.tar.gz", files if folder != name else {f"{name}/{key}": files[key] for key in files})
    else:
        lay_out(tmp_path / folder, files)
    report = cvss.prepare(ReaderOptions(tmp_path, tmp_path / "data", tmp_path / "unpacked", ["fr"], 0.9))
    assert [entry["kept"] for entry in report.values()] == [1, 1, 1]


def test_an_archive_that_is_cut_off_is_refused(tmp_path):
    make_cvss(tmp_path)
    archive = tmp_path / "cvss_c_fr_en_v1.0.tar.gz"
    archive.write_bytes(archive.read_bytes()[:archive.stat().st_size // 2])
    with pytest.raises(AudioPaLMError, match="cut off; fetch it again"):
        cvss.prepare(ReaderOptions(tmp_path, tmp_path / "data", tmp_path / "unpacked", ["fr"], 0.9))


@pytest.mark.parametrize("lost", ["train.tsv", "dev.tsv", "test.tsv"])
def test_an_archive_that_lacks_a_table_is_refused(tmp_path, lost):
    """It may be cut off behind its first tables: then no set is complete."""
    lay_out(tmp_path / "fr", common_voice("fr"))
    files = {f"{name}.tsv": f"{clip_name('fr', 1)}\ttext\n".encode() for name in ("train", "dev", "test")}
    del files[lost]
    pack(tmp_path / "cvss_c_fr_en_v1.0.tar.gz", files)
    with pytest.raises(AudioPaLMError, match=r"lacks one of train\.tsv, dev\.tsv, test\.tsv"):
        cvss.prepare(ReaderOptions(tmp_path, tmp_path / "data", tmp_path / "unpacked", ["fr"], 0.9))


def test_an_absent_language_or_version_is_named(tmp_path):
    make_cvss(tmp_path)
    for more, message in ((["--langs", "zh"], "no source language 'zh'"),
                          (["--langs", "fr", "--version", "t"], "neither cvss_t_fr_en_v1.0.tar.gz nor a folder")):
        assert message in errors_of(prepare("cvss", tmp_path, tmp_path / "data", *more))
