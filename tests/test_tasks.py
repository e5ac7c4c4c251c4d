"""The table of tasks, their tags, and the layout of their sequences."""

import numpy as np
import pytest

from audiopalm.core.errors import AudioPaLMError
from audiopalm.corpora.fleurs import CODES, short_code
from audiopalm.data.archive import TokenArchive
from audiopalm.data.datadir import read_table
from audiopalm.data.example_set import ExampleSet
from audiopalm.languages import LANGUAGES, in_order
from audiopalm.lm.sequences import SequenceBuilder
from audiopalm.tasks import TASKS, decode_name, get_task, parse_tag
from audiopalm.vocabulary.joint import load_vocabulary, make_vocabulary
from audiopalm.vocabulary.text import train_tokenizer


@pytest.mark.parametrize("tag, name, source, target", [
    ("[ASR Spanish]", "asr", "es", None),
    ("[AST Spanish English]", "ast", "es", "en"),
    ("[TTS English]", "tts", "en", None),
    ("[MT Russian French]", "mt", "ru", "fr"),
    ("ASR AST S2ST Italian English", "asr+ast+s2st", "it", "en"),
])
def test_tags_are_those_of_the_paper(tag, name, source, target):
    task, *languages = parse_tag(tag)
    assert (task.name, *languages) == (name, source, target)
    assert task.tag_text(source, target) == f"[{tag.strip('[]')}]"


def test_every_tag_is_parsed_to_its_task_and_languages():
    for task in TASKS.values():
        for source in LANGUAGES:
            target = next(code for code in LANGUAGES if code != source) if task.translates else None
            if task.tag:
                assert parse_tag(task.tag_text(source, target)) == (task, source, target)


@pytest.mark.parametrize("tag, message", [
    ("[ASK Spanish]", "unknown task 'ASK'"), ("[ASR Spannish]", "did you mean 'Spanish'"),
    ("[AST Spanish]", "names 1 languages"), ("[ASR Spanish English]", "names 2 languages"), ("[]", "known: ASR"),
])
def test_a_wrong_tag_is_refused_with_known_names(tag, message):
    with pytest.raises(AudioPaLMError, match=message.replace("[", r"\[")):
        parse_tag(tag)


def test_a_decode_is_named_by_task_and_languages():
    assert decode_name(get_task("asr"), "es", None) == "asr_es"
    assert decode_name(get_task("asr+ast+s2st"), "es", "en") == "asr+ast+s2st_es_en"


@pytest.fixture
def builder(tmp_path, digit_sets):
    train_tokenizer(["one two three four", "uno dos tres cuatro", "[ASR AST S2ST MT TTS Spanish English]"] * 20,
                    tmp_path / "vocabulary" / "text.model", 400)
    make_vocabulary(tmp_path / "vocabulary", 12, "units of the test", ["en", "es"])
    return SequenceBuilder(*load_vocabulary(tmp_path / "vocabulary"))


def test_a_combined_sequence_has_the_layout_of_the_paper(builder, digit_sets):
    """Tag, audio, newline | transcript, newline, translation, newline, audio, eos. The loss begins at the bar."""
    data, tokens, _, _ = digit_sets
    examples, task = ExampleSet(data, tokens), get_task("asr+ast+s2st")
    utterance = examples.utterances(task.fields(), "es", "en")[0]
    example = examples.example(utterance, task.fields(), "en")
    sequence = builder.sequence(task, example)
    vocabulary, tokenizer = builder.vocabulary, builder.tokenizer
    audio = sequence.ids >= vocabulary.text_size
    ends = np.flatnonzero((sequence.ids == vocabulary.newline) | (sequence.ids == vocabulary.eos))
    assert len(ends) == 4 and sequence.ids[-1] == vocabulary.eos
    parts = np.split(sequence.ids, ends + 1)
    tag_length = int(audio.argmax())
    assert tokenizer.decode(parts[0][:tag_length].tolist()) == "[ASR AST S2ST Spanish English]"
    units, spoken = (TokenArchive(tokens / name)[utterance].tolist() for name in ("units.scp", "units.en.scp"))
    assert (parts[0][tag_length:-1] - vocabulary.text_size).tolist() == units
    assert tokenizer.decode(parts[1][:-1].tolist()) == read_table(data / "text")[utterance]
    assert tokenizer.decode(parts[2][:-1].tolist()) == read_table(data / "text.en")[utterance]
    assert (parts[3][:-1] - vocabulary.text_size).tolist() == spoken
    assert sequence.is_output.tolist() == [i > ends[0] for i in range(len(sequence.ids))]


def test_a_vocabulary_mismatch_shows_both_hashes(builder, tmp_path):
    other = make_vocabulary(tmp_path / "vocabulary", 13, "units of the test", ["en", "es"])
    with pytest.raises(AudioPaLMError) as error:
        builder.vocabulary.check(other.layout_hash, "exp/lm")
    assert other.layout_hash in str(error.value) and builder.vocabulary.layout_hash in str(error.value)
    model = tmp_path / "vocabulary" / "text.model"
    model.write_bytes(model.read_bytes() + b" ")
    with pytest.raises(AudioPaLMError, match="SHA-256"):
        load_vocabulary(tmp_path / "vocabulary")


def test_any_text_is_decoded_from_its_tokens(builder):
    """Letters that training has not seen are encoded as bytes."""
    for text in ("uno dos", "zürich naïve", "прослушать сообщение", "[S2ST Spanish English]"):
        assert builder.tokenizer.decode(builder.tokenizer.encode(text)) == text


def test_every_language_of_fleurs_has_a_name_for_tags():
    assert len(CODES) == 102 and {short_code(code) for code in CODES} <= LANGUAGES.keys()
    assert len(set(LANGUAGES.values())) == len(LANGUAGES)
    assert all(name.isalpha() and name[0].isupper() and not name.isupper() for name in LANGUAGES.values())


def test_a_new_language_is_one_entry(monkeypatch):
    monkeypatch.setitem(LANGUAGES, "eu", "Basque")
    assert get_task("ast").tag_text("eu", "en") == "[AST Basque English]"
    assert parse_tag("[AST Basque English]") == (get_task("ast"), "eu", "en")
    assert in_order({"eu", "en"}) == ["en", "eu"]
