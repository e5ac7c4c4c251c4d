"""Kaldi tables: the separator of an id and its value, and valid ids."""

import pytest

from audiopalm.core.errors import AudioPaLMError
from audiopalm.data.datadir import check_id, read_table
from audiopalm.data.segments import read_speech

VALID = ["anna-0001", "fr-0123-common_voice_fr_17", "20090112-0900-PLENARY-3-en_20090112-17:05:21_3", "é-1", "...",
         "-x", "a..b", "a\\b", "~", "x" * 200]
INVALID = ["", ".", "..", "../../x", "a/b", "/", "a b", "a\tb", "a\u2028b", "a\u00a0b", "a\0b", "a\x1bb", "x" * 201]


@pytest.mark.parametrize("name", VALID)
def test_ids_of_real_corpora_are_valid(name):
    assert check_id(name, "text") == name


@pytest.mark.parametrize("name", INVALID)
def test_ids_that_are_no_file_name_are_refused_in_one_line(name):
    with pytest.raises(AudioPaLMError, match="text: invalid id") as error:
        check_id(name, "text")
    assert len(str(error.value).splitlines()) == 1


def test_tabs_and_spaces_separate_an_id_from_its_value(tmp_path):
    (tmp_path / "text").write_text("a\tone two\nb three\tfour\nc \t five\r\nd\n\n\r\n")
    assert read_table(tmp_path / "text") == {"a": "one two", "b": "three\tfour", "c": "five", "d": ""}


def test_bytes_that_are_not_utf8_are_one_line(tmp_path):
    (tmp_path / "text").write_bytes("a é\n".encode("latin1"))
    with pytest.raises(AudioPaLMError, match="text, line 1: byte 0xe9 is not UTF-8"):
        read_table(tmp_path / "text")


@pytest.mark.parametrize(("table", "message"), [
    ("a sox x.mp3 -t wav - |\n", "a: 'sox x.mp3 -t wav - |' is a command; where you trust it, have stage 2 run it by "
     "--pipes true (of run.sh: --audio_args \"--pipes true\")"), ("../a x.wav\n", "invalid id '../a'")])
def test_stage_2_refuses_commands_and_ids_that_lead_out_of_the_folder(tmp_path, table, message):
    (tmp_path / "wav.scp").write_text(table)
    with pytest.raises(AudioPaLMError) as error:
        read_speech(tmp_path)
    assert message in str(error.value) and "wav.scp" in str(error.value)
