"""Loss curves of training and of the development set."""

import base64
import re

from audiopalm.report.plots import loss_curves


def labels(log):
    picture = loss_curves(log, "Training")
    svg = base64.b64decode(picture.partition(",")[2]).decode()
    return re.findall(r"<!-- (.*?) -->", svg)


def test_the_dev_loss_is_drawn_where_validation_ran():
    log = [{"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.0, "dev": {"asr": 2.5, "tts": None, "loss": 2.5}},
           {"step": 3, "loss": 1.0, "mel_loss": 0.5, "rate": 0.1}, {"step": 4, "loss": 1.0, "dev": {"loss": 2.4}}]
    assert {"loss", "dev loss", "mel_loss"} <= set(labels(log)) and "rate" not in labels(log)
    assert "dev loss" not in labels(log[:1]) and "loss" in labels(log[:1])
    assert loss_curves([{"rate": 1}, {"step": 1, "rate": 1}], "Training") is None
