"""Manifests of Lhotse, read and validated by lhotse."""

from importlib.util import find_spec

import pytest
from miniatures.archives import lay_out
from miniatures.covost2 import make_covost2
from miniatures.cvss import make_cvss
from miniatures.voxpopuli import make_voxpopuli, segment_name
from preparing import errors_of, prepare, read_reasons

from audiopalm.data.datadir import read_table

needs_lhotse = pytest.mark.skipif(find_spec("lhotse") is None, reason="lhotse, an extra, is not installed")


def manifests(folder, prefix, part, *types):
    from lhotse.recipes.utils import read_manifests_if_cached

    return read_manifests_if_cached([part], folder, prefix, types=types)[part]


@needs_lhotse
def test_supervisions_have_the_values_of_the_tables(tmp_path):
    from lhotse import validate_recordings_and_supervisions

    make_covost2(tmp_path, "fr", unpacked=True)
    result = prepare("covost2", tmp_path, tmp_path / "data", "--langs", "fr", "--lhotse", "true")
    assert result.returncode == 0, result.stderr
    loaded = manifests(tmp_path / "data/lhotse", "covost2", "train", "recordings", "supervisions")
    validate_recordings_and_supervisions(loaded["recordings"], loaded["supervisions"], read_data=True)
    text, english = (read_table(tmp_path / "data/train" / name) for name in ("text", "text.en"))
    speakers = read_table(tmp_path / "data/train/utt2spk")
    by_id = {row.id: row for row in loaded["supervisions"]}
    damaged = {f"_{number}" for number in (50, 51, 52)}  # their damage shows only in decoding
    assert set(by_id) == {key for key in text if key[-3:] not in damaged}
    assert all(f"{key} is not in the manifests" in result.stderr for key in text if key[-3:] in damaged)
    for key, row in by_id.items():
        assert (row.text, row.speaker, row.language) == (text[key], speakers[key], "fr")
        assert row.custom == {"translated_text": {"en": english[key]}}
    guessed = next(row for key, row in by_id.items() if key.endswith("_53"))
    assert guessed.duration == pytest.approx(49536 / 48000)  # by its samples; the header states 88704


@needs_lhotse
def test_spoken_translations_are_manifests_of_their_own(tmp_path):
    from lhotse import validate_recordings_and_supervisions

    make_cvss(tmp_path)
    assert prepare("cvss", tmp_path, tmp_path / "data", "--langs", "fr", "--lhotse", "true").returncode == 0
    for name in ("train", "dev", "test"):
        loaded = manifests(tmp_path / "data/lhotse", "cvss", f"{name}.en", "recordings", "supervisions")
        validate_recordings_and_supervisions(loaded["recordings"], loaded["supervisions"], read_data=True)
        assert {row.id: row.text for row in loaded["supervisions"]} == read_table(tmp_path / "data" / name / "text.en")
        assert {row.language for row in loaded["supervisions"]} == {"en"}
        source = manifests(tmp_path / "data/lhotse", "cvss", name, "recordings", "supervisions")
        assert {row.id for row in source["supervisions"]} == {row.id for row in loaded["supervisions"]}


@needs_lhotse
def test_utterances_of_several_pieces_are_cuts(tmp_path):
    from lhotse import validate, validate_recordings_and_supervisions

    make_voxpopuli(tmp_path)
    more = ["--langs", "en", "--targets", "de", "--lhotse", "true"]
    assert prepare("voxpopuli", tmp_path, tmp_path / "data", *more).returncode == 0
    loaded = manifests(tmp_path / "data/lhotse", "voxpopuli", "train", "recordings", "cuts")
    validate(loaded["recordings"], read_data=True)
    validate(loaded["cuts"], read_data=True)
    text = read_table(tmp_path / "data/train/text")
    assert {cut.id: [row.text for row in cut.supervisions] for cut in loaded["cuts"]} == {
        key: [value] for key, value in text.items()}
    cut = loaded["cuts"][f"en-1001-{segment_name('en', 1).replace(':', '-')}"]
    assert cut.load_audio().shape == (1, 28000) and cut.supervisions[0].duration == 1.75
    assert cut.supervisions[0].custom == {"translated_text": {"de": "Zwei Stücke."}}
    # A single piece of a recording is a supervision.
    german = manifests(tmp_path / "data/lhotse", "voxpopuli", "train.de", "recordings", "supervisions")
    validate_recordings_and_supervisions(german["recordings"], german["supervisions"], read_data=True)
    assert [(row.start, row.duration, row.text) for row in german["supervisions"]] == [(1.0, 2.0, "Zwei Stücke.")]


def test_without_lhotse_the_option_says_what_to_install(tmp_path):
    """A module of the same name that raises ImportError stands for an absent lhotse."""
    lay_out(tmp_path, {"lhotse.py": b"raise ImportError\n"})
    result = prepare("covost2", tmp_path, tmp_path / "out", "--lhotse", "true", before=tmp_path)
    assert "--lhotse true needs lhotse: pip install lhotse" in errors_of(result)
    assert not (tmp_path / "out").exists()


def test_there_are_no_manifests_without_the_option(tmp_path):
    make_covost2(tmp_path, "fr", unpacked=True)
    assert prepare("covost2", tmp_path, tmp_path / "data", "--langs", "fr").returncode == 0
    assert not (tmp_path / "data/lhotse").exists() and read_reasons(tmp_path / "data/dev/dropped.tsv")
