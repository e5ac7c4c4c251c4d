"""Measure a codec: use of each codebook, speed, and for each number of levels mel distance, judged WER and DNSMOS.

Opus at its lowest rates, and Codec 2 if pycodec2 is installed, are measured for comparison. A measurement that was
interrupted resumes with the missing rows.
"""

import logging
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, astuple, dataclass
from functools import partial
from pathlib import Path

import jiwer
import numpy as np
import torch

from audiopalm.codec.base import Codec
from audiopalm.codec.classic import codec2, opus
from audiopalm.codec.registry import load_codec
from audiopalm.codec.spectral_training import MelDistance
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import read_json, sha256, write_json
from audiopalm.data.audio import SAMPLE_RATE, read_audio, write_audio
from audiopalm.data.datadir import check_id, read_table
from audiopalm.scoring.judge import JUDGED_LANGUAGE, transcribe
from audiopalm.scoring.quality import dnsmos
from audiopalm.scoring.text import english

LEVELS = (1, 2, 3, 4, 6, 8, 12, 16)
CLASSIC = [("opus", opus, 6000), ("opus", opus, 12000), ("codec2", codec2, 700), ("codec2", codec2, 1200),
           ("codec2", codec2, 2400), ("codec2", codec2, 3200)]  # bit/s
Audio = dict[str, np.ndarray]  # {utterance: samples [T] float32 at 16 kHz}
Coding = Callable[[str, np.ndarray], tuple[np.ndarray, float]]  # (utterance, samples [T]) -> (decoded samples, bits)


@dataclass(frozen=True)
class Row:
    """The figures of one system, see `systems`: its name `codec`, and the number of levels or the bit/s `asked` of it.

    bitrate: actual bit/s. mel_distance: to the recordings. wer: a fraction, None without a judge. dnsmos: the mean,
    None if it was not measured.
    """

    codec: str
    asked: int
    bitrate: int
    mel_distance: float
    wer: float | None
    dnsmos: float | None


@dataclass(frozen=True)
class CodebookUse:
    """The number of used codes of a level, and the perplexity of its codes."""

    used: int
    perplexity: float


@dataclass(frozen=True)
class Coded:
    """The ids `[frames, levels]` of each utterance, the use of each level, and the real-time factors on one core."""

    ids: dict[str, np.ndarray]
    codebooks: list[CodebookUse]
    encode_rtf: float
    decode_rtf: float


def measure_codec(codec_dir: Path, data: Path, output: Path, language: str, count: int, judge: str,
                  quality: int) -> str:
    """Measure `count` utterances of `language`, evenly spaced; write the figures to `output`, return them as a table.

    judge: a name of JUDGES, or `none`. quality: the number of utterances whose DNSMOS is measured, 0 for none. Raises
    AudioPaLMError for missing inputs, for a set without utterances in `language`, and for a judge of another language.
    """
    if language != JUDGED_LANGUAGE and judge != "none":
        raise AudioPaLMError(f"the judges understand {JUDGED_LANGUAGE} alone; give --judge none for {language!r}")
    torch.set_num_threads(1)  # the real-time factor is measured on one core
    codec = load_codec(codec_dir)
    languages = read_table(data / "utt2lang", "stage 2 (audio)")
    paths = read_table(data / "wav.scp", "stage 2 (audio)")
    paths = {key: path for key, path in paths.items() if languages.get(key) == language}
    if not paths:
        raise AudioPaLMError(f"{data}/utt2lang has no utterance in {language!r}")
    chosen = [check_id(key, data) for key in sorted(paths)[::-(-len(paths) // count)]]  # names of files below
    audio = {key: read_audio(paths[key]) for key in chosen}
    texts = {key: text for key, text in read_table(data / "text").items() if key in audio}
    settings = {"codec": sha256(codec_dir / "model.safetensors"), "data": str(data), "language": language,
                "utterances": len(audio), "judge": judge, "dnsmos": quality}
    unfinished = Path(f"{output}.partial")
    earlier = read_json(unfinished) if unfinished.exists() else {}
    rows = [Row(**row) for row in earlier["rows"]] if earlier.get("settings") == settings else []
    coded = encode(codec, audio)
    absent: set[str] = set()
    for name, asked, code in systems(codec, coded.ids):
        if name in absent or any((row.codec, row.asked) == (name, asked) for row in rows):
            continue
        try:
            rows.append(measure(name, asked, code, audio, texts, judge, quality))
        except AudioPaLMError as error:
            if name != "codec2":
                raise
            logging.warning("%s is left out: %s", name, error)
            absent.add(name)
            continue
        logging.info("%s", rows[-1])
        write_json(unfinished, {"settings": settings, "rows": list(map(asdict, rows))})
    write_json(output, {**settings, "codebooks": list(map(asdict, coded.codebooks)), "encode_rtf": coded.encode_rtf,
                        "decode_rtf": coded.decode_rtf, "rows": list(map(asdict, rows))})
    unfinished.unlink(missing_ok=True)
    return table(rows, coded)


def encode(codec: Codec, audio: Audio) -> Coded:
    """Encode and decode all utterances, and measure the time."""
    seconds = sum(map(len, audio.values())) / SAMPLE_RATE
    codec.decode(codec.encode(list(audio.values())[:1]))  # warm-up: the first call is slower than the others
    started = time.monotonic()
    ids = dict(zip(audio, codec.encode(list(audio.values())), strict=True))
    encode_seconds, started = time.monotonic() - started, time.monotonic()
    codec.decode(list(ids.values()))
    decode_seconds = time.monotonic() - started
    return Coded(ids, codebook_use(np.concatenate(list(ids.values())), codec.size), round(encode_seconds / seconds, 4),
                 round(decode_seconds / seconds, 4))


def systems(codec: Codec, ids: dict[str, np.ndarray]) -> Iterator[tuple[str, int, Coding]]:
    """Each measured system: its name, the number of levels or the nominal bit/s, and its coding.

    `recordings` are the inputs themselves, and use no bits.
    """
    yield "recordings", 0, lambda key, samples: (samples, 0)
    for levels in [levels for levels in LEVELS if levels <= codec.levels]:
        def by_levels(key: str, samples: np.ndarray, levels: int = levels) -> tuple[np.ndarray, float]:
            return codec.decode([ids[key][:, :levels]])[0][:len(samples)], len(ids[key]) * levels * np.log2(codec.size)

        yield "levels", levels, by_levels
    for name, code, bitrate in CLASSIC:
        yield name, bitrate, partial(_classic, code, bitrate)


def _classic(code: Callable[[np.ndarray, int], tuple[np.ndarray, float]], bitrate: int, key: str,
             samples: np.ndarray) -> tuple[np.ndarray, float]:
    return code(samples, bitrate)


def measure(name: str, asked: int, code: Coding, audio: Audio, texts: dict[str, str], judge: str, quality: int) -> Row:
    """The figures of the system `name`, whose coding is `code`, with the DNSMOS of `quality` utterances."""
    made: Audio = {}
    bits, distance, distances = 0.0, MelDistance(), []
    for key, samples in audio.items():
        made[key], used = code(key, samples)
        bits += used
        distances.append(distance(torch.from_numpy(samples)[None], torch.from_numpy(made[key])[None]).item())
    scores = [dnsmos(samples) for samples in list(made.values())[::-(-len(made) // quality)]] if quality else []
    return Row(name, asked, round(bits / sum(map(len, audio.values())) * SAMPLE_RATE),
               round(float(np.mean(distances)), 3), word_error_rate(judge, made, texts),
               round(float(np.mean(scores)), 3) if scores else None)


def codebook_use(ids: np.ndarray, size: int) -> list[CodebookUse]:
    """The use of each level, for ids `[frames, levels]` below `size`."""
    use = []
    for level in ids.T:
        share = np.bincount(level, minlength=size) / len(level)
        entropy = -(share[share > 0] * np.log(share[share > 0])).sum()
        use.append(CodebookUse(int((share > 0).sum()), round(float(np.exp(entropy)), 1)))
    return use


def word_error_rate(judge: str, audio: Audio, texts: dict[str, str]) -> float | None:
    """The judge's WER of the audio, a fraction; None for the judge `none`. Raises AudioPaLMError as `transcribe` does.
    """
    if judge == "none":
        return None
    with tempfile.TemporaryDirectory() as folder:
        paths = {key: f"{folder}/{key}.wav" for key in audio}
        for key, path in paths.items():
            write_audio(path, audio[key])
        transcripts = transcribe(judge, paths, folder, processes=1)
    return round(jiwer.wer([english(texts[key]) for key in audio], [english(transcripts[key]) for key in audio]), 4)


def table(rows: list[Row], coded: Coded) -> str:
    """The rows as a Markdown table, and the speed."""
    lines = ["| codec | bit/s | codes used | perplexity | mel distance | WER | DNSMOS |", "|---" * 7 + "|"]
    for row in rows:
        levels = row.asked if row.codec == "levels" else 0
        use = astuple(coded.codebooks[levels - 1]) if levels else ("", "")
        scores = ["" if score is None else f"{score:.3f}" for score in (row.wer, row.dnsmos)]
        name = f"{levels} level{'s' * (levels > 1)}" if levels else row.codec
        lines.append(f"| {' | '.join(map(str, [name, row.bitrate or '', *use, row.mel_distance, *scores]))} |")
    speed = f"real-time factor on one core: encoding {coded.encode_rtf}, decoding {coded.decode_rtf}"
    return "\n".join([*lines, "", speed])
