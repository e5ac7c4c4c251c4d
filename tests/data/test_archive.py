"""Archives of tokens: written and read, by kaldiio too; commands and pickles in them are not run."""

import pickle

import kaldiio
import numpy as np
import pytest

from audiopalm.core.errors import AudioPaLMError
from audiopalm.data.archive import TokenArchive, read_vector, write_ark
from audiopalm.data.datadir import write_table


@pytest.fixture
def scp(tmp_path):
    table = write_ark(tmp_path / "units.ark", {"a": np.arange(6), "b": np.array([7])})
    write_table(tmp_path / "units.scp", table)
    return tmp_path / "units.scp"


def test_vectors_are_read_as_they_were_written(scp):
    archive = TokenArchive(scp)
    assert archive["a"].tolist() == [0, 1, 2, 3, 4, 5] and archive["a"].dtype == np.int32
    assert list(archive) == ["a", "b"] and len(archive) == 2
    assert TokenArchive(scp, levels=3)["a"].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_an_absent_id_is_named(scp):
    archive = TokenArchive(scp)
    assert "a" in archive and "c" not in archive and archive.get("a") is not None
    with pytest.raises(AudioPaLMError, match="has no tokens for 'c'"):
        archive["c"]


def test_a_missing_archive_names_the_stage_that_makes_it(tmp_path):
    with pytest.raises(AudioPaLMError, match=r"run stage 5 \(tokenize\) first"):
        TokenArchive(tmp_path / "units.scp")


@pytest.mark.parametrize("length", [0, 1, 1000])
def test_vectors_are_read_as_kaldiio_reads_them(tmp_path, length):
    values = np.random.default_rng(0).integers(-2 ** 31, 2 ** 31, length).astype(np.int32)
    table = write_ark(tmp_path / "a.ark", {"first": np.arange(3), "second": values})
    assert np.array_equal(read_vector(table["second"]), kaldiio.load_mat(table["second"]))
    assert np.array_equal(read_vector(table["second"]), values) and read_vector(table["second"]).dtype == np.int32


def test_a_command_in_an_scp_is_not_run(scp, tmp_path):
    scp.write_text(f"a touch {tmp_path}/ran |\nb cat {tmp_path}/units.ark |\n")
    for key in "ab":
        with pytest.raises(AudioPaLMError, match="is not `path:offset`"):
            TokenArchive(scp)[key]
    assert not (tmp_path / "ran").exists()


def test_a_pickle_in_an_archive_is_not_loaded(scp, tmp_path):
    class Evil:
        def __reduce__(self):
            return open, (str(tmp_path / "ran"), "w")

    (tmp_path / "evil.ark").write_bytes(b"x PKL" + pickle.dumps(Evil()))
    scp.write_text(f"a {tmp_path}/evil.ark:2\n")
    with pytest.raises(AudioPaLMError, match="no int32 vector"):
        TokenArchive(scp)["a"]
    assert not (tmp_path / "ran").exists()


def test_ids_beyond_the_codebook_and_incomplete_frames_are_refused(scp):
    assert TokenArchive(scp, size=6)["a"].max() == 5
    with pytest.raises(AudioPaLMError, match="units.scp: a holds the token 5, which does not exist, the largest is 4"):
        TokenArchive(scp, size=5)["a"]
    with pytest.raises(AudioPaLMError, match="b has 1 tokens, which is no multiple of its 3 levels"):
        TokenArchive(scp, levels=3)["b"]
