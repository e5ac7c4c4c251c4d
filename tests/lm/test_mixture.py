"""The utterances that an entry of the mixture draws from, and the order of batches."""

import logging
from itertools import islice

import numpy as np
import pytest
import torch

from audiopalm.core.errors import AudioPaLMError
from audiopalm.data.datadir import read_table, write_table
from audiopalm.data.example_set import ExampleSet
from audiopalm.lm import mixture as module
from audiopalm.lm.mixture import Mixture, MixtureEntry, expand
from audiopalm.lm.packing import PackedBatch, pack_rows
from audiopalm.lm.sequences import SequenceBuilder
from audiopalm.training.batches import load_ahead
from audiopalm.vocabulary.joint import Vocabulary


def ids(examples: ExampleSet, cell) -> list[str]:
    return [examples.id(row) for row in cell.rows]


def test_entries_are_limited_to_languages_and_speakers(digit_sets):
    data, tokens, _, _ = digit_sets
    speakers = read_table(data / "utt2spk")
    english = [name for name in speakers if "-en-" in name]
    write_table(data / "utt2spk", speakers | dict.fromkeys(english[:5], "bella"))
    examples = ExampleSet(data, tokens)
    assert examples.languages == ["en", "es"]
    (everyone,) = expand([MixtureEntry("tts", sources=["en"])], examples)
    (bella,) = expand([MixtureEntry("tts", speakers=["bella"])], examples)  # she speaks no Spanish
    assert ids(examples, everyone) == sorted(english) and ids(examples, bella) == sorted(english[:5])
    both = expand([MixtureEntry("s2st", weight=2)], examples)
    assert [(cell.target, cell.weight) for cell in both] == [("es", 1), ("en", 1)]


def test_entries_are_limited_to_corpora_and_draw_from_parallel_texts(digit_sets, tmp_path):
    data, tokens, _, _ = digit_sets
    for name, value in (("text", "ein Satz"), ("text.en", "a sentence"), ("utt2lang", "de"), ("utt2spk", "mt-de-en-a")):
        write_table(tmp_path / name, {"mt-de-en-a-0": value})
    examples = ExampleSet(data, tokens, tmp_path)
    cells = expand([MixtureEntry("mt")], examples)
    assert [(ids(examples, cell)[0].partition("-")[0], cell.target) for cell in cells] == [
        ("anna", "es"), ("anna", "en"), ("mt", "en")]
    (only,) = expand([MixtureEntry("mt", corpora=["mt"])], examples)
    assert ids(examples, only) == ["mt-de-en-a-0"]
    assert examples.example("mt-de-en-a-0", {"transcript", "translation"}, "en").fields == {
        "transcript": "ein Satz", "translation": "a sentence"}
    with pytest.raises(AudioPaLMError, match=r"task 'asr'.*corpora \['mt'\]"):
        expand([MixtureEntry("asr", corpora=["mt"])], examples)


def test_language_pairs_share_the_weight_evenly_or_by_temperature(digit_sets, tmp_path):
    data, tokens, _, _ = digit_sets
    for name in ("text", "utt2lang", "utt2spk"):
        write_table(tmp_path / name, read_table(data / name))
    spanish = [name for name, language in read_table(data / "utt2lang").items() if language == "es"]
    write_table(tmp_path / "text", {name: text for name, text in read_table(data / "text").items()
                                    if name not in spanish[::4]})
    examples = ExampleSet(tmp_path, tokens)
    assert len({len(cell.rows) for cell in expand([MixtureEntry("asr")], examples)}) == 2
    for temperature, power in ((None, 0), (1, 1), (2, 0.5)):
        cells = expand([MixtureEntry("asr", weight=3, temperature=temperature)], examples)
        shares = [len(cell.rows) ** power for cell in cells]
        assert [cell.weight for cell in cells] == pytest.approx([3 * share / sum(shares) for share in shares])


class Letters:
    """A tokenizer with a token for each byte."""

    def encode(self, text: str) -> list[int]:
        return [1 + byte % 200 for byte in text.encode()]


def make_builder() -> SequenceBuilder:
    vocabulary = Vocabulary(text_size=256, audio_size=12, eos=2, newline=3, text_sha256="bytes",
                            units_sha256="units of the test", languages=["en", "es"])
    return SequenceBuilder(vocabulary, Letters())


def same(left: PackedBatch, right: PackedBatch) -> bool:
    return left.utterances == right.utterances and torch.equal(left.ids, right.ids)


@pytest.mark.parametrize("workers, world_size, first", [(0, 1, 0), (1, 1, 0), (2, 1, 7), (2, 2, 40), (0, 3, 75)])
def test_batches_always_come_in_the_same_order(digit_sets, monkeypatch, workers, world_size, first):
    """The order does not depend on the number of workers and processes, nor on the step at which a run goes on."""
    monkeypatch.setattr(module, "CHUNK_BATCHES", 16)
    entries = [MixtureEntry("asr"), MixtureEntry("mt"), MixtureEntry("asr+ast+s2st", weight=2)]
    mixture = Mixture(entries, ExampleSet(*digit_sets[:2]), make_builder(), 150, 2, seed=3)
    expected = list(islice(mixture.batches(), first + 36))
    assert all(batch.ids.shape == (2, 150) for batch in expected)
    assert sum(batch.tokens for batch in expected) > 0.9 * 300 * len(expected)
    for rank in range(world_size):
        again = Mixture(entries, ExampleSet(*digit_sets[:2]), make_builder(), 150, 2, seed=3)
        assert again.drawable.mean > 0
        numbers = range(first + rank, first + 36, world_size)
        ours = list(load_ahead(again.batch, numbers, workers))
        assert len(ours) == len(numbers) and all(map(same, ours, expected[first + rank::world_size]))


def test_a_late_batch_is_planned_without_those_before_it_and_reads_only_its_own_examples(digit_sets):
    examples = ExampleSet(*digit_sets[:2])
    mixture = Mixture([MixtureEntry("asr"), MixtureEntry("tts")], examples, make_builder(), 100, 2, seed=0)
    numbers = []
    plan = mixture.plan
    mixture.plan = lambda chunk: numbers.append(chunk) or plan(chunk)
    assert mixture.drawable.sizes.sum() == 4 * 150
    before = examples.bytes_read
    batch = mixture.batch(1_000_003)
    assert numbers == [1_000_003 // module.CHUNK_BATCHES]
    texts = read_table(digit_sets[0] / "text")
    assert examples.bytes_read - before == sum(len(texts[name]) + 7 + 5 * examples.count_units(examples.find(name))
                                               for name in batch.utterances)


def test_tasks_are_drawn_by_their_weights_and_rows_are_not_too_long(digit_sets):
    mixture = Mixture([MixtureEntry("asr", weight=3), MixtureEntry("mt", sources=["en"], targets=["es"])],
                      ExampleSet(*digit_sets[:2]), make_builder(), 200, 8, seed=1)
    plans = [mixture.plan(chunk) for chunk in range(3)]
    drawn = np.concatenate([plan.cell for plan in plans])
    assert np.bincount(drawn) / len(drawn) == pytest.approx([3 / 8, 3 / 8, 2 / 8], abs=0.03)
    for plan in plans:
        assert len(plan.packed) == 8 * module.CHUNK_BATCHES
        used = [index for row in plan.packed for index in row]
        assert len(set(used)) == len(used) > 0.9 * len(plan.row)
        assert max(plan.length[row].sum() for row in plan.packed) <= 200


def test_packing_fills_rows_best_first():
    assert pack_rows(np.array([2, 5, 3, 6, 1]), 8) == [[3, 0], [1, 2], [4]]
    random = np.random.default_rng(0)
    lengths = random.integers(1, 200, 5000)
    rows = pack_rows(lengths, 256)
    assert sorted(index for row in rows for index in row) == list(range(5000))
    assert max(lengths[row].sum() for row in rows) <= 256 and len(rows) < 1.01 * lengths.sum() / 256
    assert pack_rows(np.array([], dtype=int), 8) == []


def test_utterances_longer_than_a_row_are_left_out_and_counted(digit_sets, caplog):
    with caplog.at_level(logging.WARNING):
        mixture = Mixture([MixtureEntry("asr"), MixtureEntry("mt")], ExampleSet(*digit_sets[:2]), make_builder(), 40, 2,
                          seed=0)
        assert len(mixture.drawable.rows) < sum(len(cell.rows) for cell in mixture.cells)
    assert "of 150 utterances of asr_en, which are longer than a row of 40 tokens; anna-en-" in caplog.text
    assert max(mixture.plan(0).length) <= 40
    with pytest.raises(AudioPaLMError, match="no sequence fits into rows of 3 tokens"):
        Mixture([MixtureEntry("asr")], ExampleSet(*digit_sets[:2]), make_builder(), 3, 2, seed=0).batch(0)


def test_a_task_whose_dev_sequences_are_all_too_long_has_no_dev_loss(digit_sets, caplog):
    _, _, dev, dev_tokens = digit_sets
    entries = [MixtureEntry("asr+ast+s2st"), MixtureEntry("mt", targets=["en"])]
    mixture = Mixture(entries, ExampleSet(dev, dev_tokens), make_builder(), 75, 2, 0)
    assert list(mixture.validation(8)) == ["mt"]
    assert "the task asr+ast+s2st has no dev loss" in caplog.text
