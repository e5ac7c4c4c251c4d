"""Quality of units: agreement with phones, use of the codes, bit rate.

Phones come from a forced alignment of English recordings with their texts by PocketSphinx (en-us model, CMUdict). It
is not part of any tokenizer and therefore favours none. The measures are those of HuBERT's units (arXiv 2106.07447,
section IV-C).
"""

import logging
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import write_json
from audiopalm.data.audio import SAMPLE_RATE, read_audio
from audiopalm.data.datadir import read_table
from audiopalm.data.speech import list_speech
from audiopalm.units.registry import UnitTokenizer
from audiopalm.units.usm_v2 import UnitModel
from audiopalm.units.usm_v2_training import character_error_rate

PAD = 0.3  # seconds of silence added at both ends of a recording, which the aligner needs
ALIGNER_RATE = 100  # frames a second


class PhoneAligner:
    """Forced alignment of phones by PocketSphinx. Raises AudioPaLMError if it is not installed."""

    def __init__(self) -> None:
        try:
            from pocketsphinx import Decoder
        except ImportError:
            raise AudioPaLMError("phones are aligned by the package pocketsphinx: pip install pocketsphinx") from None
        self.decoder = Decoder(samprate=SAMPLE_RATE, loglevel="FATAL", bestpath=False)

    def align(self, samples: np.ndarray, text: str) -> list[str] | None:
        """The phone at the middle of each unit, `SIL` for silence, ceil(T / 640) in all.

        samples: float32 `[T]` at 16 kHz. text: the spoken words. Returns None if a word is not in the dictionary or no
        alignment of the text with the recording is possible.
        """
        words = re.sub(r"[^\w']", " ", text.lower()).split()  # the dictionary has no punctuation
        if not words or any(self.decoder.lookup_word(word) is None for word in words):
            return None
        padded = np.pad(samples, round(PAD * SAMPLE_RATE))
        sound = (np.clip(padded, -1, 1) * 32767).astype("<i2").tobytes()
        self.decoder.set_align_text(" ".join(words))
        if not self._decode(sound) or self.decoder.hyp() is None:
            return None
        self.decoder.set_alignment()  # the next pass aligns the phones of the words just aligned
        if not self._decode(sound) or (alignment := self.decoder.get_alignment()) is None:
            return None
        phones = ["SIL"] * (-(-len(padded) * ALIGNER_RATE // SAMPLE_RATE) + 1)
        for word in alignment:
            for phone in word:
                phones[phone.start:phone.start + phone.duration] = [phone.name] * phone.duration
        step = ALIGNER_RATE // UnitTokenizer.rate
        first = round(PAD * ALIGNER_RATE) + step // 2
        units = -(-len(samples) * UnitTokenizer.rate // SAMPLE_RATE)
        return [phones[min(first + step * unit, len(phones) - 1)] for unit in range(units)]

    def _decode(self, sound: bytes) -> bool:
        try:
            self.decoder.start_utt()
            self.decoder.process_raw(sound, full_utt=True)
            self.decoder.end_utt()
        except RuntimeError:  # no path through the words
            return False
        return True


def purity(phones: Iterable[str], codes: Iterable[int]) -> dict[str, float]:
    """The agreement of phones and codes, one pair per unit.

    phone_purity: the fraction of units whose phone is the most frequent phone of their code. code_purity: the fraction
    whose code is the most frequent code of their phone, lower with more codes. phone_information: the mutual
    information of codes and phones divided by the entropy of phones; 1 if a code determines its phone, 0 by chance.
    """
    names, phone = np.unique(list(phones), return_inverse=True)
    values, code = np.unique(list(codes), return_inverse=True)
    joint = np.zeros((len(names), len(values)))
    np.add.at(joint, (phone, code), 1 / len(phone))
    of_phone, of_code = joint.sum(1), joint.sum(0)
    entropy = -(of_phone * np.log(of_phone)).sum()
    ratio = np.divide(joint, of_phone[:, None] * of_code, where=joint > 0, out=np.ones_like(joint))
    return {"phone_purity": joint.max(0).sum(), "code_purity": joint.max(1).sum(),
            "phone_information": (joint * np.log(ratio)).sum() / entropy if entropy else 0.0}


def code_use(codes: np.ndarray, size: int) -> dict[str, float]:
    """The use of the codes by all units, int `[N]`, of a codebook of `size` codes.

    codes_used: the number of codes that occur. perplexity: 2 to the entropy of the codes in bits. The bit rates are per
    second, for codes of fixed length and by entropy.
    """
    share = np.bincount(codes, minlength=size) / len(codes)
    bits = -(share[share > 0] * np.log2(share[share > 0])).sum()
    rate = UnitTokenizer.rate
    return {"size": size, "codes_used": int((share > 0).sum()), "perplexity": 2 ** bits,
            "bits_per_second": rate * math.log2(size), "entropy_bits_per_second": rate * bits}


def measure_units(tokenizer: UnitTokenizer, data: str | Path, most: int = 300) -> dict[str, Any]:
    """The measures on at most `most` recordings of `data`, evenly from all; phones on at most `most` English ones."""
    items = list_speech(data)
    items = items[::-(-len(items) // most)]
    codes = np.concatenate([tokenizer.encode_one(read_audio(item.path)) for item in items])
    return {"set": str(data), "recordings": len(items), **round_all(code_use(codes, tokenizer.size)),
            **measure_phones(tokenizer, data, most)}


def measure_phones(tokenizer: UnitTokenizer, data: str | Path, most: int) -> dict[str, Any]:
    """`purity` on English recordings. Without such recordings or PocketSphinx it logs a warning and is empty."""
    texts = english_speech(Path(data))
    texts = dict(list(texts.items())[::max(1, -(-len(texts) // most))])
    try:
        if not texts:
            raise AudioPaLMError(f"{data} has no English recordings with texts")
        aligner = PhoneAligner()
    except AudioPaLMError as error:
        logging.warning("purity of phones is not measured: %s", error)
        return {}
    phones: list[str] = []
    codes: list[int] = []
    aligned = 0
    for path, text in texts.items():
        samples = read_audio(path)
        if (spoken := aligner.align(samples, text)) is not None:
            phones += spoken
            codes += tokenizer.encode_one(samples).tolist()
            aligned += 1
    logging.info("aligned %d of %d English recordings", aligned, len(texts))
    counts = {"aligned": aligned, "not_aligned": len(texts) - aligned}
    return counts | round_all(purity(phones, codes)) if aligned else counts


def english_speech(data: Path) -> dict[str, str]:
    """{audio file: text} of the English utterances and of English spoken translations."""
    languages, texts = read_table(data / "utt2lang"), read_table(data / "text")
    spoken = {path: texts[name] for name, path in read_table(data / "wav.scp").items() if languages[name] == "en"}
    if (data / "wav.scp.en").exists() and (data / "text.en").exists():
        texts = read_table(data / "text.en")
        spoken |= {path: texts[name] for name, path in read_table(data / "wav.scp.en").items() if name in texts}
    return spoken


def round_all(figures: dict[str, float]) -> dict[str, float]:
    """The figures rounded to four digits; integers stay integers."""
    return {name: round(float(value), 4) if isinstance(value, float) else value for name, value in figures.items()}


def report_units(units: Path, data: Path, most: int = 300) -> dict[str, Any]:
    """Measure the tokenizer in `units` on at most `most` recordings of `data`. Writes and returns its report.json."""
    tokenizer = UnitTokenizer.load(units)
    report = measure_units(tokenizer, data, most)
    if isinstance(tokenizer.model, UnitModel):
        speech = [item for item in list_speech(data) if item.text]
        report["cer"] = round(character_error_rate(tokenizer.model, speech[::-(-len(speech) // most)]), 4)
    write_json(units / "report.json", report)
    return report
