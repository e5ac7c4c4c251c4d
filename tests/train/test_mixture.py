"""Which utterances an entry of the mixture draws from."""

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
