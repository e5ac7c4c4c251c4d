"""Both kinds of text tokenizers, and the joint vocabulary as a tokenizer of Hugging Face."""

import json

import pytest
import sentencepiece
from tokenizer_json import TEXTS, byte_level

from audiopalm.core.errors import AudioPaLMError
from audiopalm.vocabulary.joint import load_vocabulary, make_vocabulary
from audiopalm.vocabulary.text import (
    JsonTokenizer,
    SentencePieceTokenizer,
    load_tokenizer,
    take_tokenizer,
    tokenizer_file,
    train_tokenizer,
)


def test_a_tokenizer_json_adds_no_token_and_truncates_nothing(tmp_path):
    tokenizer = JsonTokenizer(byte_level(tmp_path / "tokenizer.json"), eos=1)
    for text in ("uno dos tres cuatro cinco", "zürich naïve", "прослушать", "[S2ST Spanish English]", "two\nlines"):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert 0 not in tokenizer.encode("one") and tokenizer.eos == 1
    assert tokenizer.encode("\n") == [tokenizer.newline]
    assert tokenizer.decode([*tokenizer.encode("one"), tokenizer.size + 7]) == "one"


def test_a_tokenizer_json_without_newline_is_refused(tmp_path):
    with pytest.raises(AudioPaLMError, match="a newline is 0 tokens, but must be one"):
        JsonTokenizer(byte_level(tmp_path / "tokenizer.json", newline=False), eos=1)


def test_a_file_that_is_no_tokenizer_is_one_line(tmp_path):
    pytest.importorskip("tokenizers")
    for name, message in (("tokenizer.json", "not a tokenizer.json"), ("text.model", "not a SentencePiece model")):
        (tmp_path / name).write_text("{}")
        with pytest.raises(AudioPaLMError, match=message) as error:
            load_tokenizer(tmp_path / name, eos=1)
        assert "\n" not in str(error.value)
    with pytest.raises(AudioPaLMError, match=r"text.model does not exist; run stage 6 \(vocabulary\) first"):
        tokenizer_file(tmp_path / "nowhere")


def sentencepiece_model(file, **options):
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(TEXTS), model_prefix=str(file.with_suffix("")),
                                             hard_vocab_limit=False, minloglevel=2, num_threads=1, **options)
    return file


def test_the_newline_of_a_sentencepiece_model_may_be_a_byte(tmp_path):
    """As in Llama 2. A model without a newline is refused."""
    model = SentencePieceTokenizer(sentencepiece_model(tmp_path / "bytes.model", byte_fallback=True, vocab_size=320))
    assert model.decode([*model.encode("one"), model.newline, model.size + 1]) == "one\n"
    with pytest.raises(AudioPaLMError, match="has no newline token"):
        SentencePieceTokenizer(sentencepiece_model(tmp_path / "none.model", vocab_size=60))


def test_audio_ids_follow_the_embedding_rows_of_an_imported_lm_and_the_hash_covers_the_tokenizer(tmp_path):
    (tmp_path / "lm").mkdir()
    byte_level(tmp_path / "lm" / "tokenizer.json")
    take_tokenizer(tmp_path / "lm", tmp_path / "vocabulary")
    made = make_vocabulary(tmp_path / "vocabulary", 12, "units", ["en"], text_size=400, eos=1)
    vocabulary, tokenizer = load_vocabulary(tmp_path / "vocabulary")
    assert vocabulary == made and (vocabulary.text_size, vocabulary.size, vocabulary.eos) == (400, 412, 1)
    assert tokenizer.eos == 1 and tokenizer.newline == vocabulary.newline
    file = tmp_path / "vocabulary" / "tokenizer.json"
    file.write_text(file.read_text() + " ")
    with pytest.raises(AudioPaLMError, match="tokenizer.json has SHA-256"):
        load_vocabulary(tmp_path / "vocabulary")
    assert make_vocabulary(tmp_path / "vocabulary", 12, "units", ["en"], 400, 1).layout_hash != made.layout_hash
    with pytest.raises(AudioPaLMError, match="ids, but the text LM has 300 rows"):
        make_vocabulary(tmp_path / "vocabulary", 12, "units", ["en"], text_size=300, eos=1)


@pytest.mark.parametrize("kind", ["text.model", "tokenizer.json"])
def test_the_exported_tokenizer_gives_the_same_ids(tmp_path, kind):
    transformers = pytest.importorskip("transformers")
    from audiopalm.vocabulary.export import write_tokenizer
    if kind == "text.model":
        train_tokenizer(TEXTS, tmp_path / kind, 400)
    else:
        layout = json.loads(byte_level(tmp_path / kind).read_text())
        # The LM has no row for this token, as with a token of Gemma 3's tokenizer.
        layout["added_tokens"].append({**layout["added_tokens"][0], "id": len(layout["model"]["vocab"]),
                                       "content": "<image>"})
        (tmp_path / kind).write_text(json.dumps(layout))
    tokenizer = load_tokenizer(tmp_path / kind, eos=1)
    text_size = tokenizer.size
    vocabulary = make_vocabulary(tmp_path, 12, "units", ["en", "es"], text_size, eos=1)
    (tmp_path / "export").mkdir()
    write_tokenizer(vocabulary, tmp_path / kind, tmp_path / "export")
    exported = transformers.AutoTokenizer.from_pretrained(tmp_path / "export")
    assert exported.eos_token_id == vocabulary.eos and len(exported) == vocabulary.size
    for text in (*TEXTS[:4], "прослушать zürich", "  two   spaces ", "it's 12:30, (no)?", "¿qué?"):
        assert exported.encode(text) == tokenizer.encode(text), text
        assert exported.decode(tokenizer.encode(text)) == tokenizer.decode(tokenizer.encode(text)), text
    tag = "[ASR Spanish]"
    sequence = [*tokenizer.encode(tag), text_size + 3, text_size + 11, vocabulary.newline, *tokenizer.encode("uno dos")]
    assert exported.encode(f"{tag}<audio_3><audio_11>\nuno dos") == sequence
    assert exported.decode(sequence).replace(" ", "") == f"{tag}<audio_3><audio_11>\nuno dos".replace(" ", "")
