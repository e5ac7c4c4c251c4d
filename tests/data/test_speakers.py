"""The choice of some utterances and of other speakers."""

from audiopalm.data.speakers import other_speakers, speakers_beside, spread

UTT2SPK = {"a-1": "a", "a-2": "a", "b-1": "b", "b-2": "b", "c-1": "c"}


def test_the_other_speaker_is_never_the_speaker():
    chosen = other_speakers(["a-1", "a-2", "b-1", "c-1"], list(UTT2SPK), UTT2SPK)
    assert {name: UTT2SPK[other] for name, other in chosen.items()} == {"a-1": "b", "a-2": "b", "b-1": "c", "c-1": "a"}
    assert chosen["a-1"] != chosen["a-2"]  # the sentences differ too
    assert other_speakers(["c-1"], ["c-1"], UTT2SPK) == {}


def test_other_speakers_are_of_another_language_only_where_the_language_has_no_others():
    languages = {"a-1": "es", "a-2": "fr", "b-1": "es", "b-2": "fr", "c-1": "it"}
    assert speakers_beside(["a-1"], UTT2SPK, UTT2SPK, languages, "es") == ({"a-1": "b-1"}, "the same language")
    assert speakers_beside(["c-1"], UTT2SPK, UTT2SPK, languages, "it") == ({"c-1": "a-1"}, "another language")


def test_the_chosen_utterances_are_spread_over_the_ids():
    assert spread([f"{number}" for number in range(9, -1, -1)], 3) == ["1", "5", "8"]
    assert spread(["b", "a"], 5) == spread(["b", "a"], None) == ["a", "b"]
    assert spread([], 3) == []
