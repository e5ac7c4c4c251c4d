"""Which utterances an entry of the mixture draws from."""

import pytest

from audiopalm.data.datadir import read_table, write_table
from audiopalm.data.examples import ExampleSet
from audiopalm.train.mixture import MixtureEntry, expand


def test_entries_are_limited_to_languages_and_speakers(digit_sets):
    data, tokens, _, _ = digit_sets
    speakers = read_table(data / "utt2spk")
    english = [name for name in speakers if "-en-" in name]
    write_table(data / "utt2spk", speakers | dict.fromkeys(english[:5], "bella"))
    examples = ExampleSet(data, tokens)
    assert examples.languages == ["en", "es"]
    (everyone,) = expand([MixtureEntry("tts", sources=["en"])], examples)
    (bella,) = expand([MixtureEntry("tts", speakers=["bella"])], examples)  # she speaks no Spanish
    assert everyone.utterances == sorted(english) and bella.utterances == sorted(english[:5])
    both = expand([MixtureEntry("s2st", weight=2)], examples)
    assert [(cell.target, cell.weight) for cell in both] == [("es", 1), ("en", 1)]


def test_languages_share_an_entry_evenly_or_by_their_size(digit_sets):
    data, tokens, _, _ = digit_sets
    few = [name for name in read_table(data / "utt2lang") if "-es-" in name][:6]
    languages = {name: language for name, language in read_table(data / "utt2lang").items()
                 if language == "en" or name in few}
    write_table(data / "utt2lang", languages)
    examples = ExampleSet(data, tokens)
    english = len(languages) - 6
    for by_size, expected in ((0.0, 1.5), (1.0, 3 * english / (english + 6)),
                              (0.5, 3 * english ** 0.5 / (english ** 0.5 + 6 ** 0.5))):
        cells = expand([MixtureEntry("asr", weight=3, by_size=by_size)], examples)
        assert [len(cell.utterances) for cell in cells] == [english, 6]
        assert [cell.weight for cell in cells] == pytest.approx([expected, 3 - expected])
