"""The choice of a precision, and the peak that a device reaches."""

import pytest
import torch

from audiopalm.core.config import load_config
from audiopalm.core.errors import AudioPaLMError
from audiopalm.training import precision
from audiopalm.training.config import TrainingConfig


@pytest.mark.parametrize("bfloat16_seconds, chosen", [(0.4, "bf16-mixed"), (0.9, "32-true"), (3.0, "32-true")])
def test_auto_takes_the_faster_precision_and_stays_with_it(tmp_path, monkeypatch, bfloat16_seconds, chosen):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(precision, "matrix_seconds",
                        lambda dtype: {torch.float32: 1.0, torch.bfloat16: bfloat16_seconds}[dtype])
    assert precision.choose_precision("auto", tmp_path / "lm") == chosen
    monkeypatch.setattr(precision, "matrix_seconds", lambda dtype: 1.0 if chosen == "bf16-mixed" else dtype.itemsize)
    assert precision.measured_precision() != chosen  # beside other work the measurement may differ
    assert precision.choose_precision("auto", tmp_path / "lm") == chosen
    assert [path.name for path in (tmp_path / "lm").iterdir()] == ["precision.txt"]


def test_a_file_system_without_hard_links_is_enough(tmp_path, monkeypatch):
    def link(source, target):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(precision.os, "link", link)
    monkeypatch.setattr(precision, "measured_precision", lambda: "bf16-mixed")
    assert precision.choose_precision("auto", tmp_path / "lm") == "bf16-mixed"
    monkeypatch.setattr(precision, "measured_precision", lambda: "32-true")
    assert precision.choose_precision("auto", tmp_path / "lm") == "bf16-mixed"
    assert [path.name for path in (tmp_path / "lm").iterdir()] == ["precision.txt"]


def test_a_named_precision_is_taken_and_an_unknown_one_refused(tmp_path):
    assert precision.choose_precision("32-true", tmp_path) == "32-true"
    with pytest.raises(AudioPaLMError, match="precision: unknown value 'bf16'.*known: 32-true, auto, bf16-mixed"):
        load_config(TrainingConfig, overrides=["precision=bf16"])


def test_the_peak_is_that_of_the_best_size(monkeypatch):
    """Small products do not reach the peak. A peak taken from them would make the utilisation look too good."""
    seconds = {512: 1e-3, 1024: 4e-3, 2048: 16e-3}
    monkeypatch.setattr(precision, "matrix_seconds", lambda dtype, size, device: seconds[size])
    assert precision.peak_operations(torch.float32) == pytest.approx(2 * 2048 ** 3 / 16e-3)
