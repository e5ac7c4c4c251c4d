"""Which utterances an entry of the mixture draws from, and in which order batches come."""

from itertools import islice

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from audiopalm.core.errors import AudioPaLMError
from audiopalm.data.datadir import read_table, write_table
from audiopalm.data.examples import ExampleSet
from audiopalm.lm.mixture import Mixture, MixtureEntry, Share, expand
from audiopalm.lm.packing import PackedBatch
from audiopalm.lm.sequences import Sequence


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


def test_entries_are_limited_to_corpora_and_draw_from_parallel_texts(digit_sets, tmp_path):
    data, tokens, _, _ = digit_sets
    for name, value in (("text", "ein Satz"), ("text.en", "a sentence"), ("utt2lang", "de"), ("utt2spk", "mt-de-en-a")):
        write_table(tmp_path / name, {"mt-de-en-a-0": value})
    examples = ExampleSet(data, tokens, tmp_path)
    cells = expand([MixtureEntry("mt")], examples)
    assert [(cell.utterances[0].partition("-")[0], cell.target) for cell in cells] == [
        ("anna", "es"), ("anna", "en"), ("mt", "en")]
    (only,) = expand([MixtureEntry("mt", corpora=["mt"])], examples)
    assert only.utterances == ["mt-de-en-a-0"]
    assert examples.example("mt-de-en-a-0", {"transcript", "translation"}, "en").fields == {
        "transcript": "ein Satz", "translation": "a sentence"}
    with pytest.raises(AudioPaLMError, match=r"task 'asr'.*corpora \['mt'\]"):
        expand([MixtureEntry("asr", corpora=["mt"])], examples)


def test_language_pairs_share_the_weight_evenly_or_by_temperature(digit_sets):
    data, tokens, _, _ = digit_sets
    languages = read_table(data / "utt2lang")
    removed = [name for name, language in languages.items() if language == "es"][::4]
    examples = ExampleSet(data, tokens)
    for name in removed:
        examples.text.pop(name)
    sizes = {cell.utterances[0][:8]: len(cell.utterances) for cell in expand([MixtureEntry("asr")], examples)}
    assert len(set(sizes.values())) == 2
    for temperature, power in ((None, 0), (1, 1), (2, 0.5)):
        cells = expand([MixtureEntry("asr", weight=3, temperature=temperature)], examples)
        shares = [len(cell.utterances) ** power for cell in cells]
        assert [cell.weight for cell in cells] == pytest.approx([3 * share / sum(shares) for share in shares])


class Words:
    """Stands for a SequenceBuilder: the length of a sequence comes from the name of its utterance."""

    def sequence(self, task, example):
        length = 3 + sum(map(ord, example.utterance)) % 30
        return Sequence(example.utterance, torch.arange(length).numpy(), torch.ones(length, dtype=bool).numpy())


def same(left: PackedBatch, right: PackedBatch) -> bool:
    return left.utterances == right.utterances and torch.equal(left.ids, right.ids) and left.chunk == right.chunk


@pytest.mark.parametrize("workers, world_size, skip", [(0, 1, 0), (2, 1, 0), (3, 1, 5), (2, 2, 102), (0, 3, 75)])
def test_batches_come_in_one_order(digit_sets, monkeypatch, workers, world_size, skip):
    """However many workers and processes take turns with them, wherever a run goes on."""
    data, tokens, _, _ = digit_sets
    monkeypatch.setattr("audiopalm.lm.mixture.CHUNK", 512)  # of about 100 batches
    mixture = Mixture([MixtureEntry("asr"), MixtureEntry("mt")], ExampleSet(data, tokens), Words(), 64, 4, seed=3)
    expected = list(islice(mixture.batches(), skip + 120))
    assert expected[-1].chunk != expected[0].chunk  # or else the test would see one chunk only
    for chunk in {(0, 0), expected[max(skip - world_size, 0)].chunk}:
        for rank in range(world_size):
            share = DataLoader(Share(mixture, skip, chunk, rank, world_size), batch_size=None, num_workers=workers)
            ours = list(islice(share, 120 // world_size))
            assert all(map(same, ours, expected[skip + rank::world_size]))


def test_a_task_whose_dev_sequences_are_all_too_long_has_no_dev_loss(digit_sets, caplog):
    _, _, dev, dev_tokens = digit_sets
    mixture = Mixture([MixtureEntry("asr"), MixtureEntry("mt")], ExampleSet(dev, dev_tokens), LongSpeech(), 20, 2, 0)
    assert list(mixture.validation(8)) == ["mt"]
    assert "the task asr has no dev loss" in caplog.text


class LongSpeech:
    """A builder that makes 30 tokens of speech and 10 of text."""

    def sequence(self, task, example):
        length = 30 if task.name == "asr" else 10
        return Sequence(example.utterance, np.arange(length), np.ones(length, dtype=bool))
