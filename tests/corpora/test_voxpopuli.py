"""VoxPopuli from miniatures in its three layouts, through the command of stage 1."""

import gzip

import numpy as np
import pytest
from miniatures.archives import lay_out
from miniatures.sound import ogg
from miniatures.voxpopuli import SEGMENTS, make_voxpopuli, segment_name, voxpopuli_speech
from preparing import AWKWARD, check_set, errors_of, format_audio, prepare, read_reasons, snapshot

from audiopalm.core.files import read_json
from audiopalm.corpora import voxpopuli
from audiopalm.data.audio import read_audio
from audiopalm.data.datadir import read_table


@pytest.mark.parametrize("layout", ["finished", "hub"])
def test_finished_utterances_are_prepared(tmp_path, layout):
    downloads, output = tmp_path / AWKWARD, tmp_path / "data"
    kept_texts, dropped = make_voxpopuli(downloads, layout)
    result = prepare("voxpopuli", downloads, output, "--langs", "en")
    assert result.returncode == 0, result.stderr
    for name, texts in kept_texts.items():
        check_set(output / name, texts, dropped[name])
    speakers = read_table(output / "train/utt2spk")
    assert set(speakers.values()) == {"en-1001", "en-1004", "en-unknown-20130114-0900-PLENARY-1"}
    report = read_json(output / "train/report.json")
    assert report["seconds"] == {"min": 1.0, "mean": 1.0, "max": 1.0} and report["hours"] == round(4 / 3600, 3)
    before = snapshot(output)
    assert prepare("voxpopuli", downloads, output, "--langs", "en").returncode == 0
    assert snapshot(output) == before


def test_utterances_are_cut_from_the_floor_recordings_by_the_annotations(tmp_path):
    downloads, output = tmp_path / AWKWARD, tmp_path / "data"
    kept_texts, dropped = make_voxpopuli(downloads)
    result = prepare("voxpopuli", downloads, output, "--langs", "en", "--targets", "de")
    assert result.returncode == 0, result.stderr
    for name, texts in kept_texts.items():
        text, report = read_table(output / name / "text"), read_json(output / name / "report.json")
        assert {key[key.index("20"):] if "unknown" not in key else key[key.rindex("20130114-0900"):]: value
                for key, value in text.items()} == texts
        assert report["dropped"] == dropped[name] and not any(":" in key for key in text)
        assert report["rows"] == len(texts) + sum(dropped[name].values())
        assert len(read_reasons(output / name / "dropped.tsv")) == sum(dropped[name].values())
    assert "data/train: 4 of 12 rows kept, 3 speakers, 0.00 h of 1.0 to 1.8 s, on average 1.2 s, checksum of ids" in (
        result.stderr)
    assert "1 recordings of original 2014 are missing; is original_2014.tar there?" in result.stderr
    assert "original 2015" not in result.stderr and "recording cannot be decoded; fetch it again" in result.stderr
    spoken = read_table(output / "train/segments.de")
    assert [key[-2:] for key in spoken] == ["_1"] and spoken.popitem()[1].split()[1:] == ["1.000000", "3.000000"]
    assert list(read_table(output / "train/text.de").values()) == ["Zwei Stücke."]
    assert len(read_table(output / "dev/segments.de")) == 1 and len(read_table(output / "test/segments.de")) == 2
    assert list(read_table(output / "test/text.de").values()) == ["Eine lange Zelle."]  # the other has no text
    train = read_json(output / "train/report.json")
    assert train["seconds"] == {"min": 1.0, "mean": pytest.approx(1.19, abs=0.01), "max": 1.75}
    assert read_json(output / "test/report.json")["hours_of_translations"] == {"de": 0.001}
    assert "VoxPopuli, en: 0.0 hours; published are 543" in result.stderr
    before = snapshot(output)
    assert prepare("voxpopuli", downloads, output, "--langs", "en", "--targets", "de").returncode == 0
    assert snapshot(output) == before


def test_every_lost_row_is_named(tmp_path):
    make_voxpopuli(tmp_path)
    result = prepare("voxpopuli", tmp_path, tmp_path / "data", "--langs", "en", "--targets", "de")
    names = {reason: name for name, reason in read_reasons(tmp_path / "data/train/dropped.tsv")}
    assert names["empty normed_text"] == segment_name("en", 8)
    assert names["recording of the session missing"] == segment_name("en", 12)
    assert names["recording of the session cannot be decoded"] == segment_name("en", 16)
    assert names["no speech inside the recording"] == segment_name("en", 11)
    assert names["row of 3 columns instead of 14"].startswith("asr_en.tsv.gz:")
    assert read_reasons(tmp_path / "data/dropped.de.tsv") == [
        ["s2s_de_ref.tsv.gz:7", "row of 1 columns instead of 4"], [segment_name("en", 77), "no such source utterance"],
        [segment_name("en", 15), "recording missing"], [segment_name("en", 2), "outside of the recording"]]
    assert ("4 utterances with interpretation into de; left out: 1 row of 1 columns instead of 4, "
            "1 no such source utterance") in result.stderr


def test_the_pieces_of_speech_of_an_utterance_are_joined(tmp_path):
    make_voxpopuli(tmp_path)
    assert prepare("voxpopuli", tmp_path, tmp_path / "data", "--langs", "en", "--targets", "de").returncode == 0
    removed = {name: format_audio(tmp_path / "data" / name, tmp_path / "raw" / name)
               for name in ("train", "dev", "test")}
    wavs = read_table(tmp_path / "raw/train/wav.scp")
    key = f"en-1001-{segment_name('en', 1).replace(':', '-')}"
    whole, samples = voxpopuli_speech(), read_audio(wavs[key])
    expected = np.concatenate([whole[8000:24000], whole[36000:48000]])
    assert len(samples) == len(expected) and np.corrcoef(samples, expected)[0, 1] > 0.8  # Vorbis is lossy
    assert len(read_audio(read_table(tmp_path / "raw/train/wav.scp.de")[key])) == 32000
    assert [float(value) for value in read_table(tmp_path / "raw/dev/utt2dur").values()] == [1.0]
    assert removed["train"] == removed["dev"] == {}
    assert {key[-2:]: reason for key, reason in removed["test"].items()} == {"14": "too long"}  # 109 s


@pytest.mark.parametrize("place", ["", "audios/", "raw_audios/"])
def test_recordings_of_a_year_may_lie_in_two_archives(tmp_path, place):
    make_voxpopuli(tmp_path)
    (tmp_path / place).mkdir(exist_ok=True)
    (tmp_path / "original_2016_2.tar").rename(tmp_path / place / "original_2016_2.tar")
    (tmp_path / place / "original_2016.tar").write_bytes((tmp_path / "original_2013.tar").read_bytes())
    assert prepare("voxpopuli", tmp_path, tmp_path / "data", "--langs", "en").returncode == 0
    assert "in the second archive of a year" in read_table(tmp_path / "data/train/text").values()


def test_recordings_may_be_unpacked_by_hand(tmp_path):
    make_voxpopuli(tmp_path)
    for archive in tmp_path.glob("*.tar"):
        archive.unlink()
    name = "20130114-0900-PLENARY-1_original.ogg"
    lay_out(tmp_path, {f"raw_audios/original/2013/{name}": ogg(voxpopuli_speech())})
    assert prepare("voxpopuli", tmp_path, tmp_path / "data", "--langs", "en").returncode == 0
    assert len(read_table(tmp_path / "data/test/text")) == 3


def test_interpretation_may_lack_its_text(tmp_path):
    make_voxpopuli(tmp_path)
    (tmp_path / "s2s_de_ref.tsv.gz").unlink()
    lay_out(tmp_path, {"annotations/s2s/s2s_de.tsv.gz": gzip.compress(
        f"id\tstart_time\tend_time\n{segment_name('en', 1)}\t1.0\t3.0\n".encode())})
    assert prepare("voxpopuli", tmp_path, tmp_path / "data", "--langs", "en", "--targets", "de").returncode == 0
    assert len(read_table(tmp_path / "data/train/segments.de")) == 1
    assert not (tmp_path / "data/train/text.de").exists()


def test_finished_utterances_may_have_interpretation(tmp_path):
    """The source is a file, the interpretation a piece of a recording. Both become segments."""
    make_voxpopuli(tmp_path / "raw")
    make_voxpopuli(tmp_path, "finished")
    for name in ("s2s_de_ref.tsv.gz", "de_2013.tar"):
        (tmp_path / "raw" / name).rename(tmp_path / name)
    assert prepare("voxpopuli", tmp_path, tmp_path / "data", "--langs", "en", "--targets", "de").returncode == 0
    assert len(read_table(tmp_path / "data/train/segments.de")) == 1
    assert len(read_table(tmp_path / "data/train/segments")) == 4
    assert format_audio(tmp_path / "data/train", tmp_path / "formatted") == {}
    assert set(read_table(tmp_path / "formatted/utt2dur").values()) == {"1.000"}


ASR_HEADER = "id\traw_text\tnormalized_text\tspeaker_id\tsplit\tgender\tis_gold_transcript\taccent\n"


def test_accented_english_has_a_test_set_only(tmp_path):
    key = "20130114-0900-PLENARY-1-en_20130114-17:12:30_0"
    lay_out(tmp_path / "transcribed_data/en_accented", {
        "asr_train.tsv": ASR_HEADER.encode(), "asr_dev.tsv": ASR_HEADER.encode(),
        "asr_test.tsv": f"{ASR_HEADER}{key}\tHi.\thi\tNone\ttest\tmale\tTrue\ten_nl\n".encode(),
        f"2013/{key}.ogg": ogg(voxpopuli_speech(seconds=1.0))})
    result = prepare("voxpopuli", tmp_path, tmp_path / "data", "--langs", "en_accented")
    assert result.returncode == 0, result.stderr
    assert set(read_json(tmp_path / "data/report.json")) == {"test"}
    session = "en-unknown-20130114-0900-PLENARY-1"
    assert read_table(tmp_path / "data/test/utt2spk") == {f"{session}-{key.replace(':', '-')}": session}
    assert set(read_table(tmp_path / "data/test/utt2lang").values()) == {"en"}
    lay_out(tmp_path / "transcribed_data/en", {"asr_test.tsv": ASR_HEADER.encode()})
    assert "en: none of 0 rows" in errors_of(prepare("voxpopuli", tmp_path, tmp_path / "data", "--langs", "en")
                                             ).replace("train", "en")


def test_all_16_languages_are_prepared(tmp_path):
    languages = [language for language in voxpopuli.HOURS if language != voxpopuli.ACCENTED]
    for language in languages:
        for name in ("train", "dev", "test"):
            key = f"20130114-0900-PLENARY-1-{language}_20130114-17:12:30_{name}"
            lay_out(tmp_path / "transcribed_data" / language, {
                f"asr_{name}.tsv": f"{ASR_HEADER}{key}\tX.\tx\t12\t{name}\tmale\tTrue\tNone\n".encode(),
                f"2013/{key}.ogg": ogg(voxpopuli_speech(seconds=0.2))})
    assert prepare("voxpopuli", tmp_path, tmp_path / "data").returncode == 0
    assert read_json(tmp_path / "data/test/report.json")["languages"] == dict.fromkeys(sorted(languages), 1)
    assert len(languages) == 16


def test_a_missing_download_is_named(tmp_path):
    make_voxpopuli(tmp_path)
    for more, message in ((["--langs", "xx"], "no language 'xx'"), (["--langs", "fr"], "neither asr_fr.tsv.gz"),
                          (["--langs", "en", "--targets", "lt"], "no s2s_lt.tsv.gz"),
                          (["--langs", "en", "--targets", "da"], "no s2s_da.tsv.gz"),
                          (["--langs", "en", "--targets", "hr"], "no interpretation into 'hr'")):
        assert message in errors_of(prepare("voxpopuli", tmp_path, tmp_path / "data", *more))
    table = tmp_path / "annotations/asr/asr_en.tsv.gz"
    table.write_bytes(table.read_bytes()[:-40])
    assert "cut off" in errors_of(prepare("voxpopuli", tmp_path, tmp_path / "data", "--langs", "en"))


def test_a_vad_that_is_no_list_of_pieces_is_named_and_an_endless_piece_ends_with_the_recording(tmp_path):
    make_voxpopuli(tmp_path)
    table = tmp_path / "annotations/asr/asr_en.tsv.gz"
    header, first, *_ = gzip.decompress(table.read_bytes()).decode().split("\n")
    vad = SEGMENTS[1][4]
    wrong = ("[(1, 2, 3)]", "[1, 2]", "(" * 100000, "[('a', 'b')]", "", "x" * 10, "{}", "[(1, None)]")
    rows = [first.replace(vad, value).replace(":30_1", f":30_{20 + number}") for number, value in enumerate(wrong)]
    rows += [first.replace(vad, "[(9.0, 1e999)]"), *(
        first.replace("train", name).replace(":30_1", f":30_{number}") for number, name in ((2, "dev"), (3, "test")))]
    table.write_bytes(gzip.compress("\n".join([header, *rows]).encode()))
    assert prepare("voxpopuli", tmp_path, tmp_path / "data", "--langs", "en").returncode == 0
    report = read_json(tmp_path / "data/train/report.json")
    assert report["dropped"] == {"vad is no list of pieces": len(wrong)}
    assert report["seconds"] == {"min": 1.0, "mean": 1.0, "max": 1.0}


def test_tables_of_an_earlier_run_with_other_languages_are_removed(tmp_path):
    """Stage 2 would read `segments.de`, whose recordings are no longer in wav.scp."""
    make_voxpopuli(tmp_path, "raw")
    directory, raw = tmp_path / "data/train", tmp_path / "raw"
    for more, present in ((["--targets", "de"], True), ([], False)):
        result = prepare("voxpopuli", tmp_path, tmp_path / "data", "--langs", "en", *more)
        assert result.returncode == 0, result.stderr
        format_audio(directory, raw)
        assert (directory / "segments.de").exists() == (directory / "text.de").exists() == present
        assert (raw / "wav.scp.de").exists() == (raw / "text.de").exists() == present
