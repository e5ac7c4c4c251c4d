"""Recordings in archives: read here, by kaldiio and by ESPnet. Entries that are no audio are refused."""

import importlib.util
import pickle

import kaldiio
import numpy as np
import pytest
import soundfile

from audiopalm.core import optional
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import sha256
from audiopalm.data.audio import read_audio
from audiopalm.data.audio_archive import audio_exists, hash_audio, read_part, write_audio_ark
from audiopalm.data.datadir import write_table
from audiopalm.data.speech import count_samples

RATE = 16000


@pytest.fixture
def recordings():
    random = np.random.default_rng(0)
    return {name: random.uniform(-0.5, 0.5, length).astype(np.float32)
            for name, length in (("a", 16000), ("ü", 1), ("b", 70000))}


@pytest.fixture
def table(tmp_path, recordings):
    """{name: `archive:offset`}"""
    ark = tmp_path / "a b.ark"
    return {name: f"{ark}:{offset}" for name, offset, _ in write_audio_ark(ark, recordings.items(), RATE)}


def test_recordings_are_read_as_they_were_written(table, recordings):
    for name, entry in table.items():
        assert np.abs(read_audio(entry) - recordings[name]).max() < 1e-4
        assert count_samples(entry) == len(recordings[name]) and audio_exists(entry)
    assert np.array_equal(read_part(table["b"], 100, 50), read_audio(table["b"])[100:150])
    assert len(read_part(table["b"], 69990, 50)) == 10


def test_kaldiio_reads_the_same_samples(table, tmp_path):
    write_table(tmp_path / "wav.scp", table)
    scp = kaldiio.load_scp(str(tmp_path / "wav.scp"))
    for name, entry in table.items():
        rate, samples = scp[name]
        assert rate == RATE and np.array_equal(samples.astype(np.float32), read_audio(entry))


@pytest.mark.skipif(importlib.util.find_spec("espnet2") is None, reason="needs espnet")
def test_espnet_reads_the_same_samples(table, tmp_path):
    optional.install()
    from espnet2.train.dataset import ESPnetDataset

    write_table(tmp_path / "wav.scp", table)
    data = ESPnetDataset([(str(tmp_path / "wav.scp"), "speech", "kaldi_ark")], preprocess=None)
    assert np.allclose(data["b"][1]["speech"], read_audio(table["b"]))


def test_archives_of_kaldiio_are_read(tmp_path, recordings):
    """FLAC and WAV in the container of kaldiio, and WAV files one after another, as Kaldi's wav-copy writes them."""
    for settings in ({"write_function": "soundfile", "write_kwargs": {"format": "flac"}},
                     {"write_function": "soundfile"}, {}):
        whole = {name: (RATE, (samples * 32767).astype(np.int16)) for name, samples in recordings.items()}
        kaldiio.save_ark(str(tmp_path / "k.ark"), whole, scp=str(tmp_path / "k.scp"), **settings)
        for line in (tmp_path / "k.scp").read_text().splitlines():
            name, entry = line.split()
            assert np.abs(read_audio(entry) - recordings[name]).max() < 1e-4


def test_the_hash_is_that_of_the_file_inside(table, tmp_path, recordings):
    soundfile.write(tmp_path / "a.flac", recordings["a"], RATE, subtype="PCM_16", compression_level=0)
    assert hash_audio(table["a"]) == hash_audio(tmp_path / "a.flac") == sha256(tmp_path / "a.flac")


def test_a_file_is_preferred_to_an_archive_entry_of_the_same_name(tmp_path, recordings):
    soundfile.write(tmp_path / "x.wav", recordings["a"], RATE)
    (tmp_path / "x.wav").rename(tmp_path / "x:7")
    assert len(read_audio(tmp_path / "x:7")) == 16000


def test_commands_pickles_and_ranges_are_refused(table, tmp_path):
    class Evil:
        def __reduce__(self):
            return open, (str(tmp_path / "ran"), "w")

    (tmp_path / "evil.ark").write_bytes(b"a PKL" + pickle.dumps(Evil()))
    for entry, message in ((f"touch {tmp_path}/ran |", "does not exist"), (f"{tmp_path}/evil.ark:2", "no recording"),
                           (f"{table['a']}[0:100]", "does not exist"), (f"{table['a']}00000000", "no recording"),
                           (f"{tmp_path}/gone.ark:2", "gone.ark' does not exist"), (f"{tmp_path}:2", "does not exist"),
                           (table["a"].rpartition(":")[0] + ":0", "no recording at this offset")):
        with pytest.raises(AudioPaLMError, match=message):
            read_audio(entry)
    assert not (tmp_path / "ran").exists()


def test_an_archive_that_is_cut_off_is_one_line(table, tmp_path):
    ark = tmp_path / "a b.ark"
    ark.write_bytes(ark.read_bytes()[:-1000])
    with pytest.raises(AudioPaLMError, match="is cut off: a recording of .* bytes begins there"):
        read_audio(table["b"])
    assert len(read_audio(table["a"])) == 16000
