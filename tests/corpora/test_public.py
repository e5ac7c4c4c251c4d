"""CoVoST 2, CVSS and FLEURS from miniatures in the official layouts, through the command of stage 1."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from miniatures import (
    PLAIN,
    SENTENCES,
    clip_name,
    common_voice,
    covost2_table,
    make_covost2,
    make_cvss,
    make_fleurs,
    make_voxpopuli,
    pack,
    segment_name,
    voxpopuli_speech,
)

from audiopalm.bin.format_audio import format_directory
from audiopalm.corpora import covost2, cvss
from audiopalm.data.audio import read_audio
from audiopalm.data.datadir import read_table
from audiopalm.data.files import read_json
from audiopalm.errors import AudioPaLMError

AWKWARD = "mes données"  # a space and a letter outside ASCII


def prepare(corpus: str, downloads: Path, output: Path, *more: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "audiopalm.bin.prepare", "--corpus", corpus, "--downloads", str(downloads),
               "--output", str(output), "--max_drop", "0.9", *more]
    return subprocess.run(command, text=True, capture_output=True, env={**os.environ, "LC_ALL": "C"})


def errors_of(result: subprocess.CompletedProcess) -> str:
    assert result.returncode == 1 and "Traceback" not in result.stderr, result.stderr
    return [line for line in result.stderr.splitlines() if "error:" in line][-1]


def snapshot(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def check_set(directory: Path, texts: dict[str, str], dropped: dict[str, int]) -> None:
    """The directory's ids, in order, its texts by the end of the id, its account and its other tables."""
    text, report = read_table(directory / "text"), read_json(directory / "report.json")
    ids = list(text)
    assert ids == sorted(ids, key=str.encode)
    found = {key: value for key, value in text.items()}
    wanted = {name.removesuffix(".mp3").removesuffix(".wav"): value for name, value in texts.items()}
    assert {next(name for name in wanted if key.endswith(name)): value for key, value in found.items()} == wanted
    assert report["kept"] == len(text) and report["dropped"] == dropped
    assert report["rows"] == len(text) + sum(dropped.values())
    assert len((directory / "dropped.tsv").read_text().splitlines()) == sum(dropped.values())
    speakers = read_table(directory / "utt2spk")
    assert list(speakers) == ids == list(read_table(directory / "utt2lang")) == list(read_table(directory / "wav.scp"))
    assert list(speakers.values()) == sorted(speakers.values(), key=str.encode)
    assert all(key.startswith(speaker) for key, speaker in speakers.items())
    assert report["speakers"] == len(read_table(directory / "spk2utt"))
    for path in read_table(directory / "wav.scp").values():
        assert len(read_audio(path)) >= 12800


@pytest.mark.parametrize("unpacked", [False, True])
@pytest.mark.parametrize("language", ["fr", "sv-SE"])
def test_covost2(tmp_path, language, unpacked):
    downloads, output = tmp_path / AWKWARD, tmp_path / AWKWARD / "data"
    kept, dropped = make_covost2(downloads, language, unpacked)
    result = prepare("covost2", downloads, output, "--langs", language)
    assert result.returncode == 0, result.stderr
    for name, texts in kept.items():
        check_set(output / name, texts, dropped[name])
        translations = read_table(output / name / "text.en")
        for key, value in translations.items():
            number = int(key.rsplit("_", 1)[1])
            assert value == PLAIN[number][1]
        assert set(read_table(output / name / "utt2lang").values()) == {language[:2]}
    assert "rows of train, dev, test; published are" in result.stderr
    assert not list(tmp_path.rglob("evil.txt")) and not Path("/evil.txt").exists()
    before = snapshot(output)
    assert prepare("covost2", downloads, output, "--langs", language).returncode == 0
    assert snapshot(output) == before


def test_english_is_translated_into_several_languages(tmp_path):
    make_covost2(tmp_path, "en", unpacked=True)
    (tmp_path / "covost_v2.en_en.tsv").unlink()
    rows = [f"{clip_name('en', 1)}\tHallo.\ttrain", f"{clip_name('en', 20)}\tTag.\tdev"]
    night = clip_name("en", 31)
    for target, more in (("de", [f"{clip_name('en', 30)}\t\ttest", f"{night}\tNacht.\ttest"]),
                         ("zh-CN", [f"{night}\t夜.\ttest"])):
        (tmp_path / f"covost_v2.en_{target}.tsv").write_text("\n".join(["path\ttranslation\tsplit", *rows, *more]))
    result = prepare("covost2", tmp_path, tmp_path / "data", "--langs", "en")
    assert result.returncode == 0, result.stderr
    assert len(read_table(tmp_path / "data/train/text.de")) == len(read_table(tmp_path / "data/train/text.zh")) == 1
    assert list(read_table(tmp_path / "data/test/text.zh").values()) == ["夜."]
    report = read_json(tmp_path / "data/test/report.json")
    assert report["kept"] == 1 and report["dropped"] == {"empty translation": 1}


def test_too_many_dropped_rows_end_with_the_reason(tmp_path):
    make_covost2(tmp_path, "fr", unpacked=True)
    result = prepare("covost2", tmp_path, tmp_path / "data", "--langs", "fr", "--max_drop", "0.05")
    message = errors_of(result)
    assert "train: 8 of 16 rows dropped" in message and "--max_drop 0.05" in message and "dropped.tsv" in message
    assert not (tmp_path / "data/train/text").exists() and (tmp_path / "data/train/dropped.tsv").is_file()


@pytest.mark.parametrize("wrong, message", [
    (["--langs", "frr"], "no source language 'frr'"), (["--langs", "de"], "no table covost_v2.de_"),
    (["--langs", "fr"], "Common Voice 4, 'fr': nothing found")])
def test_what_is_missing_is_named(tmp_path, wrong, message):
    (tmp_path / "covost_v2.fr_en.tsv").write_text("path\ttranslation\tsplit\na.mp3\tHello.\ttrain\n")
    assert message in errors_of(prepare("covost2", tmp_path, tmp_path / "data", *wrong))


def test_a_table_with_other_columns_says_what_it_found(tmp_path):
    (tmp_path / "covost_v2.fr_en.tsv").write_text("<html>\n<body>Not found</body>\n")
    message = errors_of(prepare("covost2", tmp_path, tmp_path / "data", "--langs", "fr"))
    assert "no column 'path'" in message and "<html>" in message


def test_a_later_common_voice_is_recognised(tmp_path, caplog):
    pack(tmp_path / "fr.tar.gz", common_voice("fr", later_release=True))
    (tmp_path / "covost_v2.fr_en.tsv").write_bytes(covost2_table("fr"))
    covost2.prepare(tmp_path, tmp_path / "data", ["fr"], tmp_path / "unpacked", max_drop=0.9)
    assert "Common Voice 5 or later" in caplog.text


def test_a_cut_off_archive_gives_what_it_holds_and_a_warning(tmp_path, caplog):
    make_covost2(tmp_path, "fr")
    archive = tmp_path / "fr.tar.gz"
    archive.write_bytes(archive.read_bytes()[:-35500])  # in the middle of the clips of the test set
    report = covost2.prepare(tmp_path, tmp_path / "data", ["fr"], tmp_path / "unpacked", max_drop=0.9)
    assert "is cut off after" in caplog.text
    assert report["train"]["kept"] == 8 and report["test"]["kept"] == 1
    assert report["test"]["dropped"] == {"clip missing": 1, "not in validated.tsv": 1}


@pytest.mark.parametrize("language", ["fr", "zh-CN"])
@pytest.mark.parametrize("version", ["c", "t"])
def test_cvss(tmp_path, language, version):
    downloads, output = tmp_path / AWKWARD, tmp_path / "data"
    kept, dropped = make_cvss(downloads, language, version)
    result = prepare("cvss", downloads, output, "--langs", language, "--version", version)
    assert result.returncode == 0, result.stderr
    for name, english in kept.items():
        sentences = {clip: PLAIN[int(clip.rsplit("_", 1)[1].removesuffix(".mp3"))][0] for clip in english}
        check_set(output / name, sentences, dropped[name])
        for key, path in read_table(output / name / "wav.scp.en").items():
            assert path.endswith(f"{key[key.index('common_voice'):]}.mp3.wav") and len(read_audio(path)) == 16000
        for text in read_table(output / name / "text.en").values():
            assert text == text.lower() and not set(text) & set('.,"\\')
    assert "1 recordings have no row" in result.stderr


def test_cvss_cut_off_archive_is_refused(tmp_path):
    make_cvss(tmp_path)
    archive = tmp_path / "cvss_c_fr_en_v1.0.tar.gz"
    archive.write_bytes(archive.read_bytes()[:archive.stat().st_size // 2])
    with pytest.raises(AudioPaLMError, match="cut off; fetch it again"):
        cvss.prepare(tmp_path, tmp_path / "data", ["fr"], tmp_path / "unpacked", max_drop=0.9)


@pytest.mark.parametrize("layout", ["google", "folder", "huggingface"])
def test_fleurs(tmp_path, layout):
    downloads, output = tmp_path / AWKWARD, tmp_path / "data"
    kept, dropped = make_fleurs(downloads, layout)
    result = prepare("fleurs", downloads, output, "--langs", "fr_fr", "en_us")
    assert result.returncode == 0, result.stderr
    for name, texts in kept.items():
        check_set(output / name, texts, dropped[name])
        spoken = {key: value for key, value in texts.items() if key.startswith("fr_fr")}
        english = read_table(output / name / "text.en")
        french = {row[1]: row[2] for row in SENTENCES.values()}
        assert english == {key.removesuffix(".wav"): french[text] for key, text in spoken.items() if french[text]}
    assert read_json(output / "train/report.json")["lacking"] == {"sentence in English": 1}
    assert "1 recordings have no row" in result.stderr


def test_fleurs_needs_english_and_a_known_language(tmp_path):
    make_fleurs(tmp_path)
    assert "no language 'fr'" in errors_of(prepare("fleurs", tmp_path, tmp_path / "data", "--langs", "fr"))
    (tmp_path / "en_us.tar.gz").unlink()
    assert "neither en_us.tar.gz" in errors_of(prepare("fleurs", tmp_path, tmp_path / "data", "--langs", "fr_fr"))


@pytest.mark.parametrize("layout", ["finished", "hub"])
def test_voxpopuli_made_ready_by_others(tmp_path, layout):
    downloads, output = tmp_path / AWKWARD, tmp_path / "data"
    kept, dropped = make_voxpopuli(downloads, layout)
    result = prepare("voxpopuli", downloads, output, "--langs", "en")
    assert result.returncode == 0, result.stderr
    for name, texts in kept.items():
        check_set(output / name, texts, dropped[name])
    speakers = read_table(output / "train/utt2spk")
    assert {value for value in speakers.values()} == {"en-1001", "en-unknown-20130114-0900-PLENARY-1"}


def test_voxpopuli_from_annotations_and_floor_recordings(tmp_path):
    downloads, output = tmp_path / AWKWARD, tmp_path / "data"
    kept, dropped = make_voxpopuli(downloads)
    result = prepare("voxpopuli", downloads, output, "--langs", "en", "--targets", "de")
    assert result.returncode == 0, result.stderr
    for name, texts in kept.items():
        text, report = read_table(output / name / "text"), read_json(output / name / "report.json")
        assert {key[key.rindex("20130114-0900"):]: value for key, value in text.items()} == texts
        assert report["dropped"] == dropped[name] and not any(":" in key for key in text)
        assert report["rows"] == len(texts) + sum(dropped[name].values())
    assert "1 recordings of original 2014 are missing; is original_2014.tar there?" in result.stderr
    assert "2 utterances with interpretation into de; left out: 1 no such source utterance, 1 outside" in result.stderr
    spoken = read_table(output / "train/segments.de")
    assert [key[-2:] for key in spoken] == ["_1"] and spoken.popitem()[1].split()[1:] == ["1.000000", "3.000000"]
    assert list(read_table(output / "train/text.de").values()) == ["Zwei Stücke."]
    assert len(read_table(output / "test/segments.de")) == 1 and not (output / "test/text.de").exists()


def test_voxpopuli_joins_the_pieces_of_vad(tmp_path):
    make_voxpopuli(tmp_path)
    assert prepare("voxpopuli", tmp_path, tmp_path / "data", "--langs", "en", "--targets", "de").returncode == 0
    for name in ("train", "dev"):
        format_directory(tmp_path / "data" / name, tmp_path / "raw" / name, tmp_path / "audio")
    wavs = read_table(tmp_path / "raw/train/wav.scp")
    key = f"en-1001-{segment_name('en', 1).replace(':', '-')}"
    whole, found = voxpopuli_speech(), read_audio(wavs[key])
    expected = np.concatenate([whole[8000:24000], whole[36000:48000]])
    assert len(found) == len(expected) and np.corrcoef(found, expected)[0, 1] > 0.8  # Vorbis is lossy
    assert len(read_audio(read_table(tmp_path / "raw/train/wav.scp.de")[key])) == 32000
    assert [float(value) for value in read_table(tmp_path / "raw/dev/utt2dur").values()] == [1.0]


def test_voxpopuli_names_what_is_missing(tmp_path):
    make_voxpopuli(tmp_path)
    for more, message in ((["--langs", "xx"], "no language 'xx'"), (["--langs", "fr"], "neither asr_fr.tsv.gz"),
                          (["--langs", "en", "--targets", "lt"], "no s2s_lt.tsv.gz")):
        assert message in errors_of(prepare("voxpopuli", tmp_path, tmp_path / "data", *more))
    table = tmp_path / "annotations/asr/asr_en.tsv.gz"
    table.write_bytes(table.read_bytes()[:-40])
    assert "cut off" in errors_of(prepare("voxpopuli", tmp_path, tmp_path / "data", "--langs", "en"))
