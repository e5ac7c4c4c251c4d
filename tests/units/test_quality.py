"""Scores of units against scikit-learn, and phones of a recording against the dictionary."""

from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
import soundfile
from sklearn.metrics import homogeneity_score
from sklearn.metrics.cluster import contingency_matrix

from audiopalm.data.audio import resample
from audiopalm.units.quality import PhoneAligner, code_use, purity

CORPUS = Path(__file__).resolve().parents[2] / "egs" / "mini" / "corpus"


def test_purity_is_that_of_scikit_learn():
    random = np.random.default_rng(0)
    phones = random.choice(["AA", "B", "S"], 500)
    codes = np.where(random.random(500) < 0.5, random.integers(0, 20, 500), np.unique(phones, return_inverse=True)[1])
    scores, table = purity(phones, codes), contingency_matrix(phones, codes)
    assert scores["phone_information"] == pytest.approx(homogeneity_score(phones, codes))
    assert scores["phone_purity"] == pytest.approx(table.max(0).sum() / 500)
    assert scores["code_purity"] == pytest.approx(table.max(1).sum() / 500)


def test_equally_frequent_codes_have_the_entropy_of_their_number():
    assert code_use(np.arange(8).repeat(3), 16) == {"size": 16, "codes_used": 8, "perplexity": pytest.approx(8),
                                                    "bits_per_second": 100, "entropy_bits_per_second": 75}


def test_phones_of_a_recording_are_those_of_its_words():
    pytest.importorskip("pocketsphinx")
    with soundfile.SoundFile(CORPUS / "recordings" / "allison-en.ogg") as file:  # the segment agent-loggedoff
        file.seek(round(12.52 * file.samplerate))
        samples = resample(file.read(round(1.32 * file.samplerate), dtype="float32"), file.samplerate, 16000)
    text = "agent logged off"
    aligner = PhoneAligner()
    phones = aligner.align(samples, text)
    assert len(phones) == -(-len(samples) // 640)
    spoken = " ".join(phone for phone, _ in groupby(phones) if phone != "SIL")
    assert spoken in ("EY JH AH N T L AO G D AO F", "EY JH AH N T L AA G D AO F")
    assert aligner.align(samples, "qwrtzx") is None
