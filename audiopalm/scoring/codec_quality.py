"""Measure a codec: use of every codebook, speed, and per number of levels mel distance, the judge's WER and DNSMOS.

Opus stands beside it at the lowest rates that it has and, where pycodec2 is installed, Codec 2. Stopped and started
again, it measures what is missing.
"""

import logging
import tempfile
import time
from collections.abc import Callable, Iterator
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
from audiopalm.scoring.judge import transcribe
from audiopalm.scoring.quality import dnsmos
from audiopalm.scoring.text import english

LEVELS = (1, 2, 3, 4, 6, 8, 12, 16)
CLASSIC = [("opus", opus, 6000), ("opus", opus, 12000), ("codec2", codec2, 700), ("codec2", codec2, 1200),
           ("codec2", codec2, 2400), ("codec2", codec2, 3200)]  # bit/s
Audio = dict[str, np.ndarray]  # {utterance: samples [T] float32 at 16 kHz}


def measure_codec(codec_dir: Path, data: Path, output: Path, language: str, count: int, judge: str,
                  quality: int) -> str:
    """Measure `count` utterances of `language`, evenly spread; write the figures to `output`, return them as a table.

    judge: a name of JUDGES, or `none`; quality: the number of utterances whose DNSMOS is measured, 0 for none.
    """
    torch.set_num_threads(1)  # the real-time factor is that of one core
    codec = load_codec(codec_dir)
    languages = read_table(data / "utt2lang", "stage 2 (audio)")
    paths = read_table(data / "wav.scp", "stage 2 (audio)")
    paths = {key: path for key, path in paths.items() if languages.get(key) == language}
    if not paths:
        raise AudioPaLMError(f"{data}/utt2lang has no utterance in {language!r}")
    chosen = [check_id(key, data) for key in sorted(paths)[::-(-len(paths) // count)]]  # files are named by them
    audio = {key: read_audio(paths[key]) for key in chosen}
    texts = {key: text for key, text in read_table(data / "text").items() if key in audio}
    settings = {"codec": sha256(codec_dir / "model.safetensors"), "data": str(data), "language": language,
                "utterances": len(audio), "judge": judge, "dnsmos": quality}
    partial = Path(f"{output}.partial")
    found = read_json(partial) if partial.exists() else {}
    rows = found["rows"] if found.get("settings") == settings else []
    ids, report = tokens(codec, audio)
    absent = set()
    for name, asked, make in systems(codec, ids):
        if name in absent or any((row["codec"], row["asked"]) == (name, asked) for row in rows):
            continue
        try:
            rows.append({"codec": name, "asked": asked, **measure(make, audio, texts, judge, quality)})
        except AudioPaLMError as error:
            if name != "codec2":
                raise
            logging.warning("%s is left out: %s", name, error)
            absent.add(name)
            continue
        logging.info("%s", rows[-1])
        write_json(partial, {"settings": settings, "rows": rows})
    report = {**settings, **report, "rows": rows}
    write_json(output, report)
    partial.unlink(missing_ok=True)
    return table(report)


def tokens(codec: Codec, audio: Audio) -> tuple[dict[str, np.ndarray], dict]:
    """{utterance: ids `[frames, levels]`}; codebook use and real-time factors."""
    seconds = sum(map(len, audio.values())) / SAMPLE_RATE
    codec.decode(codec.encode(list(audio.values())[:1]))  # the first call is slower than all others
    started = time.monotonic()
    ids = dict(zip(audio, codec.encode(list(audio.values())), strict=True))
    encode_seconds, started = time.monotonic() - started, time.monotonic()
    codec.decode(list(ids.values()))
    decode_seconds = time.monotonic() - started
    return ids, {"codebooks": codebook_use(np.concatenate(list(ids.values())), codec.size),
                 "encode_rtf": round(encode_seconds / seconds, 4), "decode_rtf": round(decode_seconds / seconds, 4)}


def systems(codec: Codec, ids: dict[str, np.ndarray]) -> Iterator[tuple[str, int, Callable]]:
    """Each way of coding: its name, the levels or bit/s asked for, and (utterance, samples) -> (samples, bits)."""
    yield "recordings", 0, lambda key, samples: (samples, 0)
    for levels in [levels for levels in LEVELS if levels <= codec.levels]:
        def by_levels(key: str, samples: np.ndarray, levels: int = levels) -> tuple[np.ndarray, float]:
            return codec.decode([ids[key][:, :levels]])[0][:len(samples)], len(ids[key]) * levels * np.log2(codec.size)

        yield "levels", levels, by_levels
    for name, code, bitrate in CLASSIC:
        def classic(key: str, samples: np.ndarray, code: Callable = code, bitrate: int = bitrate):
            return code(samples, bitrate)

        yield name, bitrate, classic


def measure(make: Callable, audio: Audio, texts: dict[str, str], judge: str, quality: int) -> dict:
    """Bit/s as they are, mel distance to the recordings, WER (with a judge) and DNSMOS of `quality` utterances."""
    made, bits, distance, distances = {}, 0, MelDistance(), []
    for key, samples in audio.items():
        made[key], used = make(key, samples)
        bits += used
        distances.append(distance(torch.from_numpy(samples)[None], torch.from_numpy(made[key])[None]).item())
    scores = [dnsmos(samples) for samples in list(made.values())[::-(-len(made) // quality)]] if quality else []
    return {"bitrate": round(bits / sum(map(len, audio.values())) * SAMPLE_RATE),
            "mel_distance": round(float(np.mean(distances)), 3), "wer": word_error_rate(judge, made, texts),
            "dnsmos": round(float(np.mean(scores)), 3) if scores else None}


def codebook_use(ids: np.ndarray, size: int) -> list[dict]:
    """For ids `[frames, levels]`: codes used and perplexity of each level."""
    use = []
    for level in ids.T:
        share = np.bincount(level, minlength=size) / len(level)
        entropy = -(share[share > 0] * np.log(share[share > 0])).sum()
        use.append({"used": int((share > 0).sum()), "perplexity": round(float(np.exp(entropy)), 1)})
    return use


def word_error_rate(judge: str, audio: Audio, texts: dict[str, str]) -> float | None:
    if judge == "none":
        return None
    with tempfile.TemporaryDirectory() as folder:
        paths = {key: f"{folder}/{key}.wav" for key in audio}
        for key, path in paths.items():
            write_audio(path, audio[key])
        heard = transcribe(judge, paths, folder, processes=1)
    return round(jiwer.wer([english(texts[key]) for key in audio], [english(heard[key]) for key in audio]), 4)


def table(report: dict) -> str:
    """The report as a Markdown table."""
    lines = ["| codec | bit/s | codes used | perplexity | mel distance | WER | DNSMOS |", "|---" * 7 + "|"]
    for row in report["rows"]:
        levels = row["asked"] if row["codec"] == "levels" else 0
        use = report["codebooks"][levels - 1] if levels else {"used": "", "perplexity": ""}
        heard = ["" if row[key] is None else f"{row[key]:.3f}" for key in ("wer", "dnsmos")]
        name = f"{levels} level{'s' * (levels > 1)}" if levels else row["codec"]
        cells = [name, row["bitrate"] or "", use["used"], use["perplexity"], row["mel_distance"], *heard]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    speed = f"real-time factor on one core: encoding {report['encode_rtf']}, decoding {report['decode_rtf']}"
    return "\n".join([*lines, "", speed])
