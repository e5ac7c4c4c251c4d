"""The grammar of the embedded corpus: numbers, wording, and the split by meaning."""

from pathlib import Path

import pytest
from miniatures.normal_form import NORMAL_FORM

from audiopalm.core.errors import AudioPaLMError
from audiopalm.corpora.grammar import Grammar, Sentence, apportion, parse_numbers

CORPUS = Path(__file__).parents[2] / "egs" / "mini" / "corpus"


@pytest.fixture(scope="module")
def grammar():
    return Grammar(CORPUS)


@pytest.fixture(scope="module")
def sets(grammar):
    return grammar.sample()


def words_of(grammar, number, language):
    return grammar.text(Sentence("difference", (("any", str(number)), ("few", "5"))), language).rsplit(" ", 2)[0]


@pytest.mark.parametrize(("language", "number", "words"), [
    ("en", 21, "twenty one"), ("en", 13, "thirteen"), ("es", 26, "veintiséis"), ("es", 31, "treinta y uno"),
    ("fr", 21, "vingt et un"), ("fr", 71, "soixante et onze"), ("fr", 81, "quatre vingt un"),
    ("fr", 99, "quatre vingt dix neuf"), ("it", 22, "ventidue"), ("it", 23, "ventitré"), ("it", 28, "ventotto"),
    ("ru", 45, "сорок пять"),
])
def test_a_number_is_said_by_its_words(grammar, language, number, words):
    assert words_of(grammar, number, language) == words


def test_no_two_numbers_are_said_alike(grammar):
    for language in grammar.languages:
        assert len({words_of(grammar, number, language) for number in range(1, 100)}) == 99


def test_a_sentence_has_its_text_in_five_languages_and_its_clips(grammar):
    sentence = Sentence("clock", (("day", "monday"), ("hour", "16"), ("minute", "57")))
    assert {language: grammar.text(sentence, language) for language in grammar.languages} == {
        "en": "monday at four fifty seven p m",
        "es": "el lunes a las cuatro cincuenta y siete p m",
        "fr": "lundi à seize heures cinquante sept",
        "it": "lunedì alle sedici e cinquantasette",
        "ru": "в понедельник в шестнадцать часов пятьдесят семь минут",
    }
    assert grammar.clips(sentence, "it") == ["digits/day-1", "digits/at", "digits/16", "digits/e", "digits/50",
                                             "digits/7"]


def test_noon_is_twelve_p_m(grammar):
    sentence = Sentence("hour", (("day", "today"), ("hour", "12")))
    assert grammar.text(sentence, "en") == "today at twelve p m"


def test_the_sets_are_large_enough(sets):
    assert len(sets["train"]) >= 2000 and len(sets["dev"]) >= 100 and len(sets["test"]) >= 100


def test_no_sentence_of_one_set_occurs_in_another_in_any_language(grammar, sets):
    for language in grammar.languages:
        texts = {name: [grammar.text(sentence, language) for sentence in sentences] for name, sentences in sets.items()}
        for name, values in texts.items():
            assert len(set(values)) == len(values), (language, name)
        assert not set(texts["train"]) & set(texts["dev"]), language
        assert not set(texts["train"]) & set(texts["test"]), language
        assert not set(texts["dev"]) & set(texts["test"]), language


def test_every_template_reaches_its_sets(grammar, sets):
    shared = {name for name, template in grammar.templates.items() if "share" in template}
    for name, sentences in sets.items():
        assert {sentence.template for sentence in sentences} == (set(grammar.templates) if name == "train" else shared)


def test_templates_for_training_only_do_not_change_dev_and_test(grammar, sets):
    plain = Grammar(CORPUS)
    plain.templates = {name: template for name, template in grammar.templates.items() if "share" in template}
    without = plain.sample()
    assert without["dev"] == sets["dev"] and without["test"] == sets["test"]
    extra = sum(template.get("train", 0) for template in grammar.templates.values())
    assert len(sets["train"]) == len(without["train"]) + extra > len(without["train"])


def test_sampling_is_deterministic(grammar, sets):
    assert Grammar(CORPUS).sample() == sets


def test_all_texts_have_the_normal_form(grammar, sets):
    for language in grammar.languages:
        for clip, text in grammar.transcripts[language].items():
            assert NORMAL_FORM.fullmatch(text) and text == text.lower(), (language, clip, text)
        for sentence in sets["dev"]:
            assert NORMAL_FORM.fullmatch(grammar.text(sentence, language))


def test_counted_things_take_the_russian_genitive_plural(grammar):
    for slot in ("count", "few", "minute", "minutes", "hour"):
        for number in parse_numbers(grammar.slots[slot]["numbers"]):
            assert number % 10 in (0, 5, 6, 7, 8, 9) or 11 <= number <= 14, (slot, number)


def test_all_clips_covers_the_sampled_sentences(grammar, sets):
    for language in grammar.languages:
        clips = set(grammar.all_clips(language))
        assert clips >= {clip for sentence in sets["train"] for clip in grammar.clips(sentence, language)}


def test_apportion_keeps_the_total_and_the_order_of_shares():
    assert apportion({"a": 1, "b": 1, "c": 1}, 100) == {"a": 34, "b": 33, "c": 33}
    assert apportion({"a": 3, "b": 1}, 4) == {"a": 3, "b": 1}


def test_a_template_without_enough_sentences_is_refused(grammar):
    small = Grammar(CORPUS)
    small.sizes = {"train": 100_000}
    with pytest.raises(AudioPaLMError, match="too few sentences"):
        small.sample()
