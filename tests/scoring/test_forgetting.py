"""Texts and their translation by the text LM and by the finetuned model."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from audiopalm.core.errors import AudioPaLMError
from audiopalm.data.datadir import read_table, write_table
from audiopalm.lm.model import Decoder, ModelConfig
from audiopalm.lm.storage import save_model
from audiopalm.scoring.forgetting import Models, forgetting_rows
from audiopalm.stages.make_vocabulary import VocabularyConfig, make_from_data


@pytest.fixture(scope="module")
def models(tmp_path_factory, digit_sets) -> Models:
    """A text LM and a joint LM with other weights, both random."""
    root = tmp_path_factory.mktemp("forgetting")
    vocabulary = make_from_data(Path(digit_sets[0]), Path(digit_sets[1]), VocabularyConfig(400), None,
                                root / "vocabulary")
    for seed, (name, size) in enumerate((("textlm", vocabulary.text_size), ("lm", vocabulary.size))):
        torch.manual_seed(seed)
        lm = Decoder(ModelConfig(size, dim=32, layers=1, heads=2, kv_heads=2, hidden_dim=32))
        save_model(root / name, lm.config, lm.state_dict(), vocabulary.layout_hash, 0)
    return Models(root / "vocabulary", root / "textlm", root / "lm")


def test_both_models_have_a_loss_of_each_language_and_bleu_into_english(models, digit_sets):
    rows = forgetting_rows(models, Path(digit_sets[2]), 3, "mini", 1, "code")
    found = {(row.system, row.metric, row.languages): row for row in rows}
    figures = (("text_loss", "en"), ("text_loss", "es"), ("mt_bleu", "es-en"))
    assert set(found) == {(system, *figure) for system in ("text_lm", "model") for figure in figures}
    for (_, metric, _), row in found.items():
        assert row.low <= row.value <= row.high and row.n == (3 if metric == "mt_bleu" else 10)
    # A random model is about as good as a guess among its ids, whose number the audio ids raise.
    before, after = (found[system, "text_loss", "en"].value for system in ("text_lm", "model"))
    assert 4 < before < 8 and 4 < after < 8 and before != after
    assert found["text_lm", "text_loss", "en"].model != found["model", "text_loss", "en"].model
    same = forgetting_rows(replace(models, text_lm=models.lm), Path(digit_sets[2]), 3, "mini", 1, "code")
    assert len({row.value for row in same if row.metric == "text_loss" and row.source == "en"}) == 1


def test_a_translation_without_words_is_left_out(models, digit_sets, tmp_path, caplog):
    shutil.copytree(digit_sets[2], tmp_path / "dev")
    translations = read_table(tmp_path / "dev/text.en")
    write_table(tmp_path / "dev/text.en", translations | {next(name for name in translations if "-es-" in name): "..."})
    rows = forgetting_rows(models, tmp_path / "dev", 10, "mini", 1, "code")
    assert {row.n for row in rows if row.metric == "mt_bleu"} == {9}
    assert "mt_bleu from es: 1 references are empty after normalisation and left out" in caplog.text


def test_a_missing_model_is_named(models, digit_sets):
    with pytest.raises(AudioPaLMError, match="--forgetting reads .*nowhere, which does not exist; run stage 7"):
        forgetting_rows(replace(models, text_lm=Path("nowhere")), Path(digit_sets[2]), 3, "mini", 1, "code")
