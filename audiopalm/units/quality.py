"""How good units are: what of the phones they say, how evenly their codes are used, how many bits they take.

Phones come from a forced alignment of English recordings with their texts by PocketSphinx (en-us model, CMUdict): it
has no part in any tokenizer, so it favours none. Measured as HuBERT's units were (arXiv 2106.07447, section IV-C).
"""

import logging
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from audiopalm.core.errors import AudioPaLMError
from audiopalm.data.audio import SAMPLE_RATE, read_audio
from audiopalm.data.datadir import read_table
from audiopalm.data.speech import list_speech
from audiopalm.units.registry import UnitTokenizer

PAD = 0.3  # seconds of silence around a recording: the aligner wants some at both ends
ALIGNER_RATE = 100  # frames a second


class PhoneAligner:
    """Which phone is spoken when, by PocketSphinx."""

    def __init__(self) -> None:
        try:
            from pocketsphinx import Decoder
        except ImportError:
            raise AudioPaLMError("phones are aligned by the package pocketsphinx: pip install pocketsphinx") from None
        self.decoder = Decoder(samprate=SAMPLE_RATE, loglevel="FATAL", bestpath=False)

    def align(self, samples: np.ndarray, text: str) -> list[str] | None:
        """`[T]`, its words -> the phone (`SIL` for none) at the middle of each unit, ceil(T / 640) of them.

        None where a word is not in the dictionary or the text cannot be what was spoken.
        """
        words = text.lower().split()
        if not words or any(self.decoder.lookup_word(word) is None for word in words):
            return None
        padded = np.pad(samples, round(PAD * SAMPLE_RATE))
        sound = (np.clip(padded, -1, 1) * 32767).astype("<i2").tobytes()
        self.decoder.set_align_text(" ".join(words))
        if not self._hear(sound) or self.decoder.hyp() is None:
            return None
        self.decoder.set_alignment()  # of the words just found, once more by phones
        if not self._hear(sound) or (alignment := self.decoder.get_alignment()) is None:
            return None
        phones = ["SIL"] * (-(-len(padded) * ALIGNER_RATE // SAMPLE_RATE) + 1)
        for word in alignment:
            for phone in word:
                phones[phone.start:phone.start + phone.duration] = [phone.name] * phone.duration
        step = ALIGNER_RATE // UnitTokenizer.rate
        first = round(PAD * ALIGNER_RATE) + step // 2
        units = -(-len(samples) * UnitTokenizer.rate // SAMPLE_RATE)
        return [phones[min(first + step * unit, len(phones) - 1)] for unit in range(units)]

    def _hear(self, sound: bytes) -> bool:
        try:
            self.decoder.start_utt()
            self.decoder.process_raw(sound, full_utt=True)
            self.decoder.end_utt()
        except RuntimeError:  # no path through the words
            return False
        return True


def purity(phones: Iterable[str], codes: Iterable[int]) -> dict[str, float]:
    """Of pairs of a phone and a code, one pair a unit.

    phone_purity: share of units whose phone is the most frequent one of their code. code_purity: share whose code is
    the most frequent one of their phone, lower with more codes. phone_information: the information that codes give
    about phones, as a share of what there is to know; 1 if a code says its phone, and 0 by chance.
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
    """Of all units `[N]`: how many codes occur, how many would if all that do were as frequent, and bits a second."""
    share = np.bincount(codes, minlength=size) / len(codes)
    bits = -(share[share > 0] * np.log2(share[share > 0])).sum()
    rate = UnitTokenizer.rate
    return {"size": size, "codes_used": int((share > 0).sum()), "perplexity": 2 ** bits,
            "bits_per_second": rate * math.log2(size), "entropy_bits_per_second": rate * bits}


def measure_units(tokenizer: UnitTokenizer, data: str | Path, most: int = 300) -> dict:
    """The figures of `data`, of at most `most` recordings evenly from all, and of at most `most` English ones."""
    items = list_speech(data)
    items = items[::-(-len(items) // most)]
    codes = np.concatenate([tokenizer.encode_one(read_audio(item.path)) for item in items])
    return {"set": str(data), "recordings": len(items), **round_all(code_use(codes, tokenizer.size)),
            **measure_phones(tokenizer, data, most)}


def measure_phones(tokenizer: UnitTokenizer, data: str | Path, most: int) -> dict:
    """Purity on English recordings; empty, and said so, where there are none or nothing that aligns them."""
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
    return {name: round(float(value), 4) if isinstance(value, float) else value for name, value in figures.items()}
