"""Metrics against jiwer and sacreBLEU called directly; normalisers on texts as judges write them."""

import jiwer
import pytest
import sacrebleu
from whisper_normalizer.basic import BasicTextNormalizer
from whisper_normalizer.english import EnglishTextNormalizer

from audiopalm.core.errors import AudioPaLMError
from audiopalm.scoring import metrics
from audiopalm.scoring.metrics import score
from audiopalm.scoring.text import basic, english, get_normaliser

REFERENCES = ["you have two new messages", "the conference is full", "press one to leave the conference"] * 4
HYPOTHESES = ["you have new messages", "the conference is full", "press two to leave a conference"] * 3 + [
    "you have two new messages", "", "press one to leave the conference now"]


@pytest.mark.parametrize("together", [5, 500])
def test_values_are_those_of_jiwer_and_sacrebleu(monkeypatch, together):
    monkeypatch.setattr(metrics, "SCORED_TOGETHER", together)
    assert score("wer", REFERENCES, HYPOTHESES).value == pytest.approx(jiwer.wer(REFERENCES, HYPOTHESES))
    assert score("cer", REFERENCES, HYPOTHESES).value == pytest.approx(jiwer.cer(REFERENCES, HYPOTHESES))
    for metric, judge in (("bleu", sacrebleu.BLEU()), ("chrf", sacrebleu.CHRF())):
        result = score(metric, REFERENCES, HYPOTHESES)
        assert result.value == pytest.approx(judge.corpus_score(HYPOTHESES, [REFERENCES]).score)
        assert str(judge.get_signature()) in result.signature


def test_wer_is_that_counted_by_hand():
    # Two substitutions and a deletion in nine words.
    result = score("wer", ["a b c d", "e f g h i"], ["a x c", "e f y h i"])
    assert result.value == pytest.approx(3 / 9) and result.n == 2 and result.signature.startswith("jiwer")


@pytest.mark.parametrize("metric", ["wer", "cer", "bleu", "chrf"])
def test_the_interval_holds_the_value_and_is_the_same_each_time(metric):
    result = score(metric, REFERENCES, HYPOTHESES)
    assert result.low < result.value < result.high
    assert result == score(metric, REFERENCES, HYPOTHESES)


@pytest.mark.parametrize("metric", ["wer", "bleu"])
def test_the_interval_narrows_with_more_utterances(metric):
    few, many = (score(metric, REFERENCES * times, HYPOTHESES * times) for times in (1, 16))
    # 16 times the utterances make the interval about 4 times narrower
    assert 2.5 < (few.high - few.low) / (many.high - many.low) < 6


def test_the_interval_of_equal_utterances_has_no_width():
    result = score("wer", ["a b"] * 5, ["a c"] * 5)
    assert result.low == result.value == result.high == 0.5


def test_nothing_to_score_is_refused():
    for references, hypotheses in (([], []), (["a"], []), ([""], ["a"])):
        with pytest.raises(AudioPaLMError):
            score("wer", references, hypotheses)


def test_basic_removes_case_and_punctuation():
    assert basic("  L’interno: «Sette», uno!  ") == "l'interno sette uno"
    assert basic("'quoted' – ДА.") == "quoted да"


@pytest.mark.parametrize("written, words", [
    ("4:30pm.", "four thirty p m"), ("4:30 P.M.", "four thirty p m"), ("4:05 a.m.", "four oh five a m"),
    ("5:00", "five o'clock"), ("5 O’Clock", "five o'clock"), ("3-0-4", "three zero four"),
    ("304", "three zero four"), ("Extension, 8 764", "extension eight seven six four"),
    ("Extension 5-1-8", "extension five one eight"), ("Press 1.", "press one"), ("June 4th", "june fourth"),
    ("You have 84 messages", "you have eighty four messages"), ("$12", "twelve dollars"),
    ("20 - 4", "twenty minus four"), ("at four fifty nine a M..", "at four fifty nine a m")])
def test_digits_of_judges_equal_words(written, words):
    assert english(written) == english(words)


def test_the_normaliser_does_not_hide_errors():
    assert english("three zero five") != english("304")
    assert english("4:30 a.m.") != english("four thirty p m")
    assert english("i am here") == "i am here"


def test_languages_without_spaces_are_scored_by_character():
    references, hypotheses = ["我们明天去北京。", "他在家"], ["我们明天到北京。", "他在家里"]
    for language in ("zh", "ja", "th"):
        result = score("bleu", references, hypotheses, language)
        assert result.value == pytest.approx(sacrebleu.corpus_bleu(hypotheses, [references], tokenize="char").score)
        assert "tok:char" in result.signature
    assert score("bleu", references, hypotheses, "en").value < 1 < result.value


def test_the_whisper_normaliser_is_that_of_its_language():
    text = "Won't the Colour (red) be «twenty one»?"
    assert get_normaliser("whisper", "en")(text) == EnglishTextNormalizer()(text)
    assert get_normaliser("whisper", "fr")(text) == BasicTextNormalizer()(text).strip()
    assert "english" in get_normaliser("whisper", "en").signature
    assert get_normaliser("whisper", "fr").signature != get_normaliser("whisper", "hi").signature


@pytest.mark.parametrize("language, text", [("hi", "नमस्ते दुनिया"), ("ta", "வணக்கம் உலகம்"), ("th", "สวัสดีครับ")])
def test_scripts_with_vowel_signs_keep_them(language, text):
    for name in ("whisper", "basic"):
        assert get_normaliser(name, language)(f"{text}!") == text


def test_normalisers_leave_the_texts_of_the_corpora_as_they_are():
    # VoxPopuli's normed_text stays as it is, but for the full stop that some rows have
    assert basic("i therefore have the experience, i'll say.") == "i therefore have the experience i'll say"
    assert basic("l'été où j'étais") == "l'été où j'étais"
    # CVSS: no case, no punctuation but the apostrophe
    assert get_normaliser("cvss", "en")("It’s  a “Café”, isn't it? 21!") == "it's a caf isn't it 21"


def test_a_normaliser_that_is_unknown_or_not_for_the_language_is_refused():
    with pytest.raises(AudioPaLMError, match="'cvss' is for English, not for 'fr'"):
        get_normaliser("cvss", "fr")
    with pytest.raises(AudioPaLMError, match="unknown normaliser 'wisper'; did you mean 'whisper'"):
        get_normaliser("wisper", "en")
