"""The paraphrases of the embedded corpus: agreement, numbers, the split, and the data directories of texts."""

import re
from pathlib import Path

import pytest
import yaml
from miniatures.normal_form import NORMAL_FORM

from audiopalm.core.errors import AudioPaLMError
from audiopalm.corpora.grammar import Sentence
from audiopalm.corpora.paraphrases import Paraphrases, expand, write_sets
from audiopalm.data.checks import Options, problems
from audiopalm.data.example_set import ExampleSet

CORPUS = Path(__file__).parents[2] / "egs" / "mini" / "corpus"


@pytest.fixture(scope="module")
def paraphrases():
    return Paraphrases(CORPUS)


@pytest.fixture(scope="module")
def sets(paraphrases):
    return paraphrases.sample()


@pytest.mark.parametrize(("text", "wordings"), [
    ("a", ["a"]), ("a / b c", ["a", "b c"]), ("(a|b) c", ["a c", "b c"]), ("a (b|) c", ["a b c", "a c"]),
    ("({x|12}|b) {y}", ["{x|12} {y}", "b {y}"]), ("(a|b) (c|d)", ["a c", "a d", "b c", "b d"]),
])
def test_a_line_expands_to_its_wordings(text, wordings):
    assert expand(text) == wordings


@pytest.mark.parametrize(("count", "texts"), [
    ("1", ["i have one new message", "tengo un mensaje nuevo", "j'ai un nouveau message", "ho un nuovo messaggio",
           "у меня одно новое сообщение"]),
    ("2", ["i have two new messages", "tengo dos mensajes nuevos", "j'ai deux nouveaux messages",
           "ho due nuovi messaggi", "у меня два новых сообщения"]),
    ("11", ["i have eleven new messages", "tengo once mensajes nuevos", "j'ai onze nouveaux messages",
            "ho undici nuovi messaggi", "у меня одиннадцать новых сообщений"]),
    ("21", ["i have twenty one new messages", "tengo veintiún mensajes nuevos", "j'ai vingt et un nouveaux messages",
            "ho ventuno nuovi messaggi", "у меня двадцать одно новое сообщение"]),
    ("80", ["i have eighty new messages", "tengo ochenta mensajes nuevos", "j'ai quatre vingts nouveaux messages",
            "ho ottanta nuovi messaggi", "у меня восемьдесят новых сообщений"]),
])
def test_a_noun_agrees_with_its_number(paraphrases, count, texts):
    row = next(row for row in paraphrases.rows if row.name == "inbox1")
    sentence = Sentence("inbox", (("count", count), ("messages", "new")))
    assert [paraphrases.text(row, sentence, language) for language in paraphrases.grammar.languages] == texts


def test_numbers_and_nouns_have_gender_and_case(paraphrases):
    row = next(row for row in paraphrases.rows if row.name == "duration1")
    sentence = Sentence("duration", (("few", "1"), ("minutes", "42")))
    assert [paraphrases.text(row, sentence, language) for language in paraphrases.grammar.languages] == [
        "it lasts one hour forty two minutes", "dura una hora cuarenta y dos minutos",
        "ça dure une heure quarante deux minutes", "dura un'ora quarantadue minuti",
        "это длится один час сорок две минуты"]
    length = next(row for row in paraphrases.rows if row.name == "length0")
    assert paraphrases.text(length, Sentence("length", (("count", "1"), ("unit", "minutes"))), "ru",
                            "это сообщение длится {count*unit.acc}") == "это сообщение длится одну минуту"


@pytest.mark.parametrize(("number", "words"), [
    (100, ["one hundred", "cien", "cent", "cento", "сто"]),
    (103, ["one hundred three", "ciento tres", "cent trois", "centotré", "сто три"]),
    (380, ["three hundred eighty", "trescientos ochenta", "trois cent quatre vingt", "trecentottanta",
           "триста восемьдесят"]),
])
def test_numbers_above_a_hundred_are_said_by_their_words(paraphrases, number, words):
    assert [paraphrases.number(number, language) for language in paraphrases.grammar.languages] == words


def test_digits_are_read_in_several_ways(paraphrases):
    row, sentence = paraphrases.rows[0], Sentence("digits", (("three", "305"),))
    assert paraphrases.text(row, sentence, "en", "{three|oh}") == "three oh five"
    assert paraphrases.text(row, sentence, "en", "{three|and}") == "three hundred and five"
    assert paraphrases.text(row, Sentence("digits", (("three", "316"),)), "fr", "{three|split}") == "trois seize"


def test_the_sets_have_their_sizes_and_the_normal_form(paraphrases, sets):
    assert {name: len(pairs) for name, pairs in sets.items()} == paraphrases.sizes
    for pairs in sets.values():
        for pair in pairs:
            for text in (pair.text, *pair.translations.values()):
                assert NORMAL_FORM.fullmatch(text), pair


def test_no_dev_or_test_sentence_of_the_grammar_occurs(paraphrases, sets):
    grammar = paraphrases.grammar
    for name in ("dev", "test"):
        for sentence in grammar.sample()[name]:
            texts = {language: grammar.text(sentence, language) for language in grammar.languages}
            for pairs in sets.values():
                assert not any(texts[pair.language] == pair.text for pair in pairs), texts


def test_the_test_set_has_texts_and_wordings_that_training_does_not_have(paraphrases, sets):
    seen = {(pair.language, pair.text) for name in ("train", "dev") for pair in sets[name]}
    assert not seen & {(pair.language, pair.text) for pair in sets["test"]}
    hidden = {(row.name, language): paraphrases._held_out(row, language) for row in paraphrases.rows
              for language in row.wordings}
    assert sum(wording is not None for wording in hidden.values()) > 200
    wording = hidden["inbox1", "es"]
    start = wording.partition("{")[0]
    assert not any(pair.text.startswith(start) for pair in sets["train"] if pair.row == "inbox1"
                   and pair.language == "es" and start.strip() != "tengo")


def test_a_text_always_has_the_same_translation(paraphrases, sets):
    grammar, known = paraphrases.grammar, {}
    plain = [(language, grammar.text(sentence, language),
              {other: grammar.text(sentence, other) for other in grammar.languages if other != language})
             for sentence in grammar.sample()["train"] for language in grammar.languages]
    pairs = [(pair.language, pair.text, pair.translations) for name in sets for pair in sets[name]]
    for language, text, translations in plain + pairs:
        assert known.setdefault((language, text), translations) == translations


def test_the_texts_are_data_directories_that_training_reads(tmp_path, sets, monkeypatch):
    monkeypatch.setattr(Paraphrases, "sample", lambda self: sets)  # drawn once for all tests
    report = write_sets(CORPUS, tmp_path)
    for name in ("texts/train", "texts/dev", "test_paraphrase"):
        assert problems(tmp_path / name, Options(wav=False)) == []
        examples = ExampleSet(tmp_path / name)
        assert len(list(examples.texts())) == report[name]["rows"]
        assert examples.utterances({"transcript", "translation"}, "es", "en")


@pytest.mark.parametrize(("templates", "message"), [
    ({"nothing": [{"say": {"en": "a"}}]}, "the grammar has no template 'nothing'"),
    ({"pair": [{"where": {"three": "1"}, "say": {"en": "a"}}]}, "template 'pair' has no slot 'three'"),
    ({"pair": [{"say": {"en": "{three}"}}]}, "{three} names a slot that its template lacks"),
    ({"inbox": [{"say": {"en": "{count*stones}"}}]}, "'stones' is no noun"),
])
def test_a_mistake_in_the_file_is_named(tmp_path, templates, message):
    (tmp_path / "transcripts").symlink_to(CORPUS / "transcripts")
    (tmp_path / "grammar.yaml").symlink_to(CORPUS / "grammar.yaml")
    values = yaml.safe_load((CORPUS / "paraphrases.yaml").read_text()) | {"templates": templates}
    (tmp_path / "paraphrases.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(AudioPaLMError, match=re.escape(message)):
        Paraphrases(tmp_path).sample()
