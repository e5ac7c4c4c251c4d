"""A packed model goes on training: its vocabulary is extended, and the logits of its ids stay bit for bit."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from commands import call
from lm_commands import CONFIG, DECODE
from torch.nn import functional

from audiopalm.core.errors import AudioPaLMError
from audiopalm.data.datadir import read_table, write_table
from audiopalm.data.example_set import ExampleSet
from audiopalm.lm.importing import import_pack_lm
from audiopalm.lm.model import Decoder, ModelConfig
from audiopalm.lm.storage import load_model, save_model
from audiopalm.stages import make_vocabulary
from audiopalm.stages.make_vocabulary import VocabularyConfig, make_from_data, make_from_pack
from audiopalm.vocabulary.export import write_tokenizer
from audiopalm.vocabulary.joint import load_vocabulary
from audiopalm.vocabulary.text import train_tokenizer

CZECH = {"uno": "jeden", "dos": "dvě", "tres": "tři", "cuatro": "čtyři"}
KNOWN_TEXTS = ["[ASR Spanish]", "[ASR AST S2ST Spanish English]", "[TTS English]", "one two three four", "dos tres"]


@pytest.fixture(scope="module")
def pack(tmp_path_factory, digit_sets) -> Path:
    """The folders lm and vocabulary of a packed model of English and Spanish with random weights."""
    root = tmp_path_factory.mktemp("pack")
    vocabulary = make_from_data(Path(digit_sets[0]), Path(digit_sets[1]), VocabularyConfig(400), None,
                                root / "vocabulary")
    torch.manual_seed(0)
    lm = Decoder(ModelConfig(vocabulary.size, dim=32, layers=1, heads=2, kv_heads=2, hidden_dim=32))
    save_model(root / "lm", lm.config, lm.state_dict(), vocabulary.layout_hash, 0)
    return root


def in_czech(source: Path, target: Path) -> Path:
    """The data directory `source` with Czech in place of Spanish."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.arrow"))
    languages = read_table(source / "utt2lang")
    spoken = {key: " ".join(CZECH.get(word, word) for word in text.split())
              for key, text in read_table(source / "text").items()}
    write_table(target / "text", spoken)
    write_table(target / "utt2lang", {key: "cs" if code == "es" else code for key, code in languages.items()})
    (target / "text.es").unlink()
    return target


@pytest.fixture(scope="module")
def czech(tmp_path_factory, digit_sets) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("czech")
    return tuple(in_czech(Path(digit_sets[index]), root / name) for index, name in ((0, "train"), (2, "dev")))


def test_new_languages_get_pieces_and_known_texts_keep_their_ids(tmp_path, pack, czech, digit_sets):
    tokens = Path(digit_sets[1])
    vocabulary = make_from_pack(czech[0], tokens, VocabularyConfig(new_pieces=40), pack, tmp_path / "new")
    (known, old), (_, new) = load_vocabulary(pack / "vocabulary"), load_vocabulary(tmp_path / "new")
    assert vocabulary.languages == ["en", "es", "cs"] and vocabulary.units_sha256 == known.units_sha256
    assert 0 < vocabulary.text_size - known.text_size <= 40 and vocabulary.layout_hash != known.layout_hash
    for text in KNOWN_TEXTS:
        assert new.encode(text) == old.encode(text)
    for text in ("jeden dvě tři čtyři", "[ASR Czech]"):
        assert len(new.encode(text)) < len(old.encode(text)) and new.decode(new.encode(text)) == text
    assert [new.processor.id_to_piece(index) for index in range(known.text_size)] == [
        old.processor.id_to_piece(index) for index in range(known.text_size)]
    tokenizers = pytest.importorskip("tokenizers")
    write_tokenizer(vocabulary, tmp_path / "new/text.model", tmp_path)
    exported = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for text in ("jeden dvě tři čtyři", "[ASR Czech]", *KNOWN_TEXTS):
        assert exported.encode(text, add_special_tokens=False).ids == new.encode(text)
    again = make_from_pack(czech[0], tokens, VocabularyConfig(new_pieces=40), pack, tmp_path / "again")
    assert again == vocabulary


def test_known_languages_leave_the_vocabulary_as_it_is(tmp_path, pack, digit_sets):
    data, tokens = Path(digit_sets[0]), Path(digit_sets[1])
    known, _ = load_vocabulary(pack / "vocabulary")
    assert make_from_pack(data, tokens, VocabularyConfig(), pack, tmp_path / "same") == known
    assert make_from_pack(data, tokens, VocabularyConfig(new_pieces=0), pack, tmp_path / "none") == known
    write_table(data.parent / "other" / "text", {"a": "seven eight nine", "b": "[ten]"})
    write_table(data.parent / "other" / "utt2lang", {"a": "en", "b": "en"})
    write_table(data.parent / "other" / "utt2spk", {"a": "a", "b": "b"})
    more = make_from_pack(data.parent / "other", tokens, VocabularyConfig(new_pieces=30, pieces_from="all"), pack,
                          tmp_path / "more")
    (_, old), (_, new) = load_vocabulary(pack / "vocabulary"), load_vocabulary(tmp_path / "more")
    assert more.text_size > known.text_size and len(new.encode("seven eight")) < len(old.encode("seven eight"))
    assert new.encode("[ASR Spanish]") == old.encode("[ASR Spanish]")


def test_the_logits_of_known_ids_stay_unchanged_bit_for_bit(tmp_path, pack, czech, digit_sets):
    config = VocabularyConfig(new_pieces=40)
    new = make_from_pack(czech[0], Path(digit_sets[1]), config, pack, tmp_path / "vocabulary")
    import_pack_lm(pack, tmp_path / "vocabulary", tmp_path / "textlm", 0)
    old, tokenizer = load_vocabulary(pack / "vocabulary")
    before, after = load_model(pack / "lm", old, ""), load_model(tmp_path / "textlm", new, "")
    number = new.text_size - old.text_size
    ids = torch.tensor([[*tokenizer.encode("[ASR Spanish]"), old.text_size, old.text_size + 11, old.newline]])
    moved = torch.where(ids >= old.text_size, ids + number, ids)
    positions, mask = torch.arange(ids.shape[1])[None], torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).tril()
    hidden, hidden_after = before.hidden(ids, positions, mask), after.hidden(moved, positions, mask)
    assert torch.equal(hidden, hidden_after)
    rows = after.head_weight
    known_rows = torch.cat([rows[:old.text_size], rows[new.text_size:]])
    assert torch.equal(functional.linear(hidden, before.head_weight), functional.linear(hidden_after, known_rows))
    assert torch.count_nonzero(rows[old.text_size:new.text_size]) == 0
    import_pack_lm(pack, tmp_path / "vocabulary", tmp_path / "textlm", 0)  # finished: nothing to do
    make_from_data(czech[0], Path(digit_sets[1]), VocabularyConfig(400), None, tmp_path / "other")
    with pytest.raises(AudioPaLMError, match="does not begin with the pieces of"):
        import_pack_lm(pack, tmp_path / "other", tmp_path / "third", 0)


def test_a_tokenizer_is_trained_on_a_part_of_a_large_number_of_texts(tmp_path, digit_sets, monkeypatch):
    learned = []
    monkeypatch.setattr(make_vocabulary, "train_tokenizer", lambda texts, model, size: (
        learned.extend(texts), train_tokenizer(texts, model, size)))
    texts = []
    for most, number in ((10 ** 6, 300), (40, 40)):
        learned.clear()
        monkeypatch.setattr(make_vocabulary, "MAX_TEXTS", most)
        make_from_data(Path(digit_sets[0]), Path(digit_sets[1]), VocabularyConfig(400), None, tmp_path / str(most))
        texts.append([text for text in learned if not text.startswith("[")])
        assert len(set(texts[-1])) == number and texts[-1] == sorted(texts[-1])
    assert set(texts[1]) < set(texts[0])
    assert make_vocabulary.sample(reversed(texts[0])) == texts[1]  # whatever the order


def test_stage_6_renews_an_index_that_is_older_than_its_tables(tmp_path, digit_sets):
    data = Path(shutil.copytree(digit_sets[0], tmp_path / "data"))
    make_from_data(data, Path(digit_sets[1]), VocabularyConfig(400), None, tmp_path / "vocabulary")
    write_table(data / "text", {name: f"{text} one" for name, text in read_table(data / "text").items()})
    vocabulary = make_from_data(data, Path(digit_sets[1]), VocabularyConfig(400), None, tmp_path / "vocabulary")
    assert [path.name.split(".")[1] for path in data.glob("text_lengths.*")] == [vocabulary.text_sha256[:16]]
    ExampleSet(data, digit_sets[1], saved=True)


@pytest.mark.usefixtures("prestarted_jobs")
def test_a_joint_lm_goes_on_training_and_decodes(tmp_path, pack, czech, digit_sets):
    """Stages 6, 7, 8, then 8 again from its own result, then 10. No stage adds audio rows a second time."""
    _, tokens, _, dev_tokens = digit_sets
    layout = tmp_path / "vocabulary"
    call("make_vocabulary", "--data_dir", czech[0], "--tokens", tokens, "--init_pack", pack, "--output",
         layout)
    call("import_lm", "--init_pack", pack, "--vocabulary", layout, "--output", tmp_path / "textlm")
    (tmp_path / "lm.yaml").write_text(CONFIG.replace("steps: 500", "steps: 4").replace("model:", "#"))
    for start, output in (("textlm", "lm"), ("lm", "more")):
        call("train_lm", "--config", tmp_path / "lm.yaml", "--vocabulary", layout, "--data_dir", czech[0], "--tokens",
             tokens, "--dev_data_dir", czech[1], "--dev_tokens", dev_tokens, "--init_lm", tmp_path / start, "--output",
             tmp_path / output)
        vocabulary, _ = load_vocabulary(layout)
        settings = json.loads((tmp_path / output / "config.json").read_text())
        assert settings["model"]["vocabulary_size"] == vocabulary.size
        assert load_model(tmp_path / output, vocabulary, "stage 8").config.vocabulary_size == vocabulary.size
    assert {"cs", "en"} == {task["source"] for task in settings["trained"]}
    (tmp_path / "decode.yaml").write_text(DECODE)
    call("decode", "--lm", tmp_path / "more", "--vocabulary", layout, "--data_dir", czech[1], "--tokens", dev_tokens,
         "--config", tmp_path / "decode.yaml", "--output", tmp_path / "decode")
    assert (tmp_path / "decode" / "asr_cs").is_dir()


def test_an_export_is_refused_as_a_text_lm(tmp_path, pack, digit_sets):
    """It has audio rows already, and stage 6 would add others."""
    call("export", "--lm", pack / "lm", "--vocabulary", pack / "vocabulary", "--output", tmp_path / "export")
    with pytest.raises(AudioPaLMError, match="which has audio ids already.*--init_pack"):
        call("make_vocabulary", "--data_dir", digit_sets[0], "--tokens", digit_sets[1], "--init_lm",
             tmp_path / "export", "--output", tmp_path / "vocabulary")
    assert not (tmp_path / "vocabulary").exists() or not list((tmp_path / "vocabulary").glob("*.json"))


def test_a_pack_of_other_units_is_refused(tmp_path, pack, czech, digit_sets):
    shutil.copytree(digit_sets[1], tmp_path / "tokens")
    meta = json.loads((tmp_path / "tokens/meta.json").read_text())
    (tmp_path / "tokens/meta.json").write_text(json.dumps({**meta, "units_sha256": "others"}))
    with pytest.raises(AudioPaLMError, match=r"run stages 3 and 5 with the same --init_pack"):
        make_from_pack(czech[0], tmp_path / "tokens", VocabularyConfig(), pack, tmp_path / "new")
