"""audiopalm/data/archive.py"""

import numpy as np
import pytest

from audiopalm.core.errors import AudioPaLMError
from audiopalm.data.archive import TokenArchive, write_ark
from audiopalm.data.datadir import write_table


@pytest.fixture
def scp(tmp_path):
    table = write_ark(tmp_path / "units.ark", {"a": np.arange(6), "b": np.array([7])})
    write_table(tmp_path / "units.scp", table)
    return tmp_path / "units.scp"


def test_what_is_written_is_read(scp):
    archive = TokenArchive(scp)
    assert archive["a"].tolist() == [0, 1, 2, 3, 4, 5] and archive["a"].dtype == np.int32
    assert list(archive) == ["a", "b"] and len(archive) == 2
    assert TokenArchive(scp, levels=3)["a"].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_absent_ids(scp):
    archive = TokenArchive(scp)
    assert "a" in archive and "c" not in archive and archive.get("a") is not None
    with pytest.raises(AudioPaLMError, match="has no tokens for 'c'"):
        archive["c"]


def test_a_missing_archive_names_the_stage_that_makes_it(tmp_path):
    with pytest.raises(AudioPaLMError, match=r"run stage 5 \(tokenize\) first"):
        TokenArchive(tmp_path / "units.scp")
