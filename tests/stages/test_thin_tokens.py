"""Token folders with fewer units a second, which no model of the full rate takes."""

import shutil
from pathlib import Path

import pytest
from commands import call

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import read_json
from audiopalm.data.archive import TokenArchive
from audiopalm.data.datadir import read_table, write_table
from audiopalm.data.example_set import ExampleSet


def thin(tokens, output, every=3):
    call("thin_tokens", "--tokens", tokens, "--output", output, "--every", every)


def test_every_third_unit_is_kept_and_the_folder_is_another(tmp_path, digit_sets):
    data, tokens, dev_data, dev_tokens = map(Path, digit_sets)
    thin(tokens, tmp_path / "train")
    thin(tokens, tmp_path / "train")  # a finished folder stays as it is
    for name in ("units.scp", "units.en.scp", "units.es.scp"):
        whole, part = TokenArchive(tokens / name), TokenArchive(tmp_path / "train" / name)
        assert list(whole) == list(part)
        assert all(part[key].tolist() == whole[key][::3].tolist() for key in whole)
    meta = read_json(tmp_path / "train/meta.json")
    assert meta["units_rate"] == pytest.approx(25 / 3)
    examples = ExampleSet(data, tmp_path / "train")
    assert examples.count_units(0) == len(TokenArchive(tokens / "units.scp")[examples.id(0)][::3])
    with pytest.raises(AudioPaLMError, match="was made from other tokens; remove it"):
        thin(tokens, tmp_path / "train", 2)
    shutil.copytree(tokens, tmp_path / "more")
    table = read_table(tmp_path / "more/units.scp")
    write_table(tmp_path / "more/units.scp", {key: str(tmp_path / "more" / value.rpartition("/")[2])
                                              for key, value in list(table.items())[:-1]})
    with pytest.raises(AudioPaLMError, match="was made from other tokens; remove it"):  # with other utterances
        thin(tmp_path / "more", tmp_path / "train")
    with pytest.raises(AudioPaLMError, match="holds units of"):
        ExampleSet(data, tmp_path / "train", distorted=[(dev_data, dev_tokens)])


def test_a_rate_of_one_is_refused(tmp_path, digit_sets):
    with pytest.raises(AudioPaLMError, match="--every takes a number from 2 on, found 1"):
        thin(digit_sets[1], tmp_path / "train", 1)
