"""FLEURS from miniatures in each of its layouts, through the command of stage 1."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from miniatures.archives import pack
from miniatures.fleurs import SENTENCES, make_fleurs, write_fleurs_parquet
from miniatures.sound import HTML, wav
from preparing import AWKWARD, check_set, errors_of, prepare, read_reasons, snapshot

from audiopalm.core.files import read_json
from audiopalm.corpora import fleurs
from audiopalm.data.audio import read_audio
from audiopalm.data.datadir import read_table

LAYOUTS = ["google", "folder", "huggingface", "parquet"]
needs_pyarrow = pytest.mark.skipif(find_spec("pyarrow") is None, reason="pyarrow, an extra, is not installed")


@pytest.fixture(params=[pytest.param(name, marks=needs_pyarrow if name == "parquet" else []) for name in LAYOUTS])
def layout(request):
    return request.param


def test_data_directories_have_the_sentences_and_their_english_in_every_layout(tmp_path, layout):
    downloads, output = tmp_path / AWKWARD, tmp_path / "data"
    kept_texts, dropped = make_fleurs(downloads, layout)
    result = prepare("fleurs", downloads, output, "--langs", "fr_fr", "en_us")
    assert result.returncode == 0, result.stderr
    for name, texts in kept_texts.items():
        if name == "train":  # the English readers of the sentence without text
            dropped[name] = {**dropped[name], "empty sentence": 1 + 3}
        check_set(output / name, texts, dropped[name])
        spoken = {key: value for key, value in texts.items() if key.startswith("fr_fr")}
        english = read_table(output / name / "text.en")
        french = {row[1]: row[2] for row in SENTENCES.values()}
        assert english == {key.removesuffix(".wav"): french[text] for key, text in spoken.items()
                           if (french[text] or "").strip()}
    report = read_json(output / "train/report.json")
    assert report["lacking"] == {"sentence in English": 4} and report["languages"] == {"en": 8, "fr": 12}
    lacking = [["fr_fr-3100", "sentence in English"], *(
        [f"fr_fr-{8100 + reader}", "sentence in English"] for reader in range(3))]
    assert sorted(read_reasons(output / "train/lacking.tsv")) == lacking
    assert report["seconds"] == {"min": 0.8, "mean": 0.8, "max": 0.8} and report["hours"] == round(20 * 0.8 / 3600, 3)
    assert ("1 recordings have no row" in result.stderr) == (layout != "parquet")
    assert "fr_fr dev: 2 recordings have another number of samples than their row states" in result.stderr
    assert "fr_fr train:" not in result.stderr.replace("fr_fr train: 1 recordings have no row", "")
    assert "FLEURS, fr_fr: " in result.stderr and "; published are 3193, 289, 676" in result.stderr
    before = snapshot(output)
    assert prepare("fleurs", downloads, output, "--langs", "fr_fr", "en_us").returncode == 0
    assert snapshot(output) == before


def test_every_lost_recording_is_named(tmp_path, layout):
    make_fleurs(tmp_path, layout)
    assert prepare("fleurs", tmp_path, tmp_path / "data", "--langs", "fr_fr").returncode == 0
    names = {reason: name for name, reason in read_reasons(tmp_path / "data/train/dropped.tsv")}
    assert names["recording missing"] == "fr_fr-8000" and names["empty sentence"] == "fr_fr-8002"
    assert names["file appears twice"] == "train.tsv:1100.wav"
    assert [names[f"recording {problem}"] for problem in (
        "of zero bytes", "cannot be decoded", "without samples", "cut off")] == [
        f"fr_fr-900{number}" for number in range(4)]
    if layout != "parquet":
        assert names["id is no number"] == "train.tsv:9013.wav"


@needs_pyarrow
def test_parquet_files_give_the_same_as_archives(tmp_path):
    for name in ("google", "parquet"):
        make_fleurs(tmp_path / name, name)
        result = prepare("fleurs", tmp_path / name, tmp_path / name / "data", "--langs", "fr_fr", "en_us")
        assert result.returncode == 0, result.stderr
    for name in ("train", "dev", "test"):
        archive, parquet = (tmp_path / layout / "data" / name for layout in ("google", "parquet"))
        for table in ("text", "text.en", "utt2spk", "spk2utt", "utt2lang", "lacking.tsv"):
            assert (archive / table).read_bytes() == (parquet / table).read_bytes()
        assert read_json(archive / "report.json")["ids_sha256"] == read_json(parquet / "report.json")["ids_sha256"]
        paths = read_table(parquet / "wav.scp")
        assert paths.keys() == read_table(archive / "wav.scp").keys()
        for key, path in read_table(archive / "wav.scp").items():
            assert np.array_equal(read_audio(path), read_audio(paths[key]))
            assert "unpacked" in Path(paths[key]).parts


def parquet_of(folder: Path, file: str = "1.wav", text: str = "Un.", content: bytes | None = None) -> None:
    """A language with one recording in each set."""
    for name in ("train", "dev", "test"):
        write_fleurs_parquet(folder, name, [(1, file, text, 1600, "FEMALE")],
                             {f"audio/{name}/{file}": wav(16000, "FLOAT", 0.1) if content is None else content})


@needs_pyarrow
@pytest.mark.parametrize("place", ["parquet-data/{}", "{}", "data/{}", "fleurs/{}"])
def test_parquet_files_are_found_in_every_place_and_by_every_name(tmp_path, place):
    for code in ("fr_fr", "en_us"):
        folder = tmp_path / place.format(code)
        parquet_of(folder)
        if place == "{}":  # names of the branches that the hub's converter made
            (folder / "train-00000-of-00001.parquet").rename(folder / "fleurs-train.parquet")
            (folder / "validation").mkdir()
            (folder / "validation-00000-of-00001.parquet").rename(folder / "validation/0000.parquet")
    result = prepare("fleurs", tmp_path, tmp_path / "out", "--langs", "fr_fr")
    assert result.returncode == 0, result.stderr
    assert read_table(tmp_path / "out/dev/text.en") == {"fr_fr-1": "Un."}


@needs_pyarrow
def test_names_and_texts_of_parquet_files_cannot_leave_the_folder_or_break_tables(tmp_path):
    """Only the name of a path is used. A tab or a line end in a text becomes a space."""
    parquet_of(tmp_path / "fr_fr", "../../../evil.wav", "Un\tdeux\ntrois\r\nquatre.")
    parquet_of(tmp_path / "en_us", "..")
    result = prepare("fleurs", tmp_path, tmp_path / "out", "--langs", "fr_fr")
    assert result.returncode == 0, result.stderr
    assert read_table(tmp_path / "out/dev/text") == {"fr_fr-evil": "Un deux trois quatre."}
    assert {path.parent.parent.parent for path in tmp_path.rglob("evil.wav")} == {
        tmp_path / "out/unpacked/fleurs/fr_fr-parquet"}
    assert len(list(tmp_path.rglob("evil.wav"))) == 3


@needs_pyarrow
def test_damaged_or_missing_parquet_files_are_refused_and_leave_nothing(tmp_path):
    parquet_of(tmp_path / "en_us")
    parquet_of(tmp_path / "fr_fr")
    test = tmp_path / "fr_fr/test-00000-of-00001.parquet"
    whole = test.read_bytes()

    def error() -> str:
        return errors_of(prepare("fleurs", tmp_path, tmp_path / "out", "--langs", "fr_fr"))

    for content in (whole[:len(whole) // 2], b"", HTML):
        test.write_bytes(content)
        assert f"{test} is damaged or cut off" in error()
        assert not list((tmp_path / "out/unpacked/fleurs").glob("*fr_fr*"))
    test.rename(tmp_path / "fr_fr/test-00001-of-00003.parquet")
    assert "is one of 3 files, but only 1 are in the folder" in error()
    (tmp_path / "fr_fr/test-00001-of-00003.parquet").unlink()
    assert "no parquet file of the set 'test'" in error()
    test.write_bytes(whole)
    assert prepare("fleurs", tmp_path, tmp_path / "out", "--langs", "fr_fr").returncode == 0


@needs_pyarrow
def test_a_parquet_file_without_the_columns_is_refused(tmp_path):
    import pyarrow
    from pyarrow import parquet

    parquet_of(tmp_path / "en_us")
    parquet.write_table(pyarrow.table({"text": ["x"]}), tmp_path / "en_us/train-00000-of-00001.parquet")
    assert "has no column 'id'" in errors_of(prepare("fleurs", tmp_path, tmp_path / "out", "--langs", "en_us"))


@needs_pyarrow
def test_parquet_files_are_read_again_only_when_they_have_changed(tmp_path):
    parquet_of(tmp_path / "en_us")
    assert prepare("fleurs", tmp_path, tmp_path / "out", "--langs", "en_us").returncode == 0
    recording = next((tmp_path / "out/unpacked").rglob("train/1.wav"))
    first = recording.stat().st_mtime_ns
    assert prepare("fleurs", tmp_path, tmp_path / "out", "--langs", "en_us").returncode == 0
    assert recording.stat().st_mtime_ns == first
    parquet_of(tmp_path / "en_us", text="Two.")
    assert prepare("fleurs", tmp_path, tmp_path / "out", "--langs", "en_us").returncode == 0
    assert read_table(tmp_path / "out/train/text") == {"en_us-1": "Two."}


def test_an_unknown_language_and_absent_english_are_named(tmp_path):
    make_fleurs(tmp_path)
    assert "no language 'fr'" in errors_of(prepare("fleurs", tmp_path, tmp_path / "data", "--langs", "fr"))
    (tmp_path / "en_us.tar.gz").unlink()
    assert "neither en_us.tar.gz" in errors_of(prepare("fleurs", tmp_path, tmp_path / "data", "--langs", "fr_fr"))


def test_a_language_without_its_recordings_is_named(tmp_path):
    make_fleurs(tmp_path, "huggingface")
    (tmp_path / "data/fr_fr/audio/dev.tar.gz").unlink()
    message = errors_of(prepare("fleurs", tmp_path, tmp_path / "out", "--langs", "fr_fr"))
    assert "audio/dev/ nor" in message and "fetch the language again" in message


def test_all_102_languages_are_prepared(tmp_path):
    for code in fleurs.CODES:
        pack(tmp_path / "fleurs" / f"{code}.tar.gz", {
            file: content for name in ("train", "dev", "test") for file, content in (
                (f"{code}/{name}.tsv", f"1\t{code}.wav\tText.\ttext\tt |\t1600\t\n".encode()),
                (f"{code}/audio/{name}/{code}.wav", wav(16000, "FLOAT", 0.1)))})
    result = prepare("fleurs", tmp_path, tmp_path / "out")
    assert result.returncode == 0, result.stderr
    report = read_json(tmp_path / "out/test/report.json")
    assert report["kept"] == len(fleurs.CODES) == 102 and report["translations"] == {"en": 101}
    assert report["languages"]["zh"] == report["languages"]["yue"] == 1
