"""Measure a codec: use of each codebook, speed, and for each number of levels mel distance, judged WER and DNSMOS.

Opus at its lowest rates, and Codec 2 if pycodec2 is installed, are measured for comparison. A measurement that was
interrupted resumes with the missing rows.
"""

import logging
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

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
Coding = Callable[[str, np.ndarray], tuple[np.ndarray, float]]  # (utterance, samples [T]) -> (decoded samples, bits)


def measure_codec(codec_dir: Path, data: Path, output: Path, language: str, count: int, judge: str,
                  quality: int) -> str:
    """Measure `count` utterances of `language`, evenly spaced; write the figures to `output`, return them as a table.

    judge: a name of JUDGES, or `none`. quality: the number of utterances whose DNSMOS is measured, 0 for none. Raises
    AudioPaLMError for missing inputs, and for a set without utterances in `language`.
    """
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
    rows = earlier["rows"] if earlier.get("settings") == settings else []
    ids, speed_and_use = tokens(codec, audio)
    absent: set[str] = set()
    for name, asked, code in systems(codec, ids):
        if name in absent or any((row["codec"], row["asked"]) == (name, asked) for row in rows):
            continue
        try:
            rows.append({"codec": name, "asked": asked, **measure(code, audio, texts, judge, quality)})
        except AudioPaLMError as error:
            if name != "codec2":
                raise
            logging.warning("%s is left out: %s", name, error)
            absent.add(name)
            continue
        logging.info("%s", rows[-1])
        write_json(unfinished, {"settings": settings, "rows": rows})
    report = {**settings, **speed_and_use, "rows": rows}
    write_json(output, report)
    unfinished.unlink(missing_ok=True)
    return table(report)


def tokens(codec: Codec, audio: Audio) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """{utterance: ids `[frames, levels]`}, and a report of codebook use and real-time factors."""
    seconds = sum(map(len, audio.values())) / SAMPLE_RATE
    codec.decode(codec.encode(list(audio.values())[:1]))  # warm-up: the first call is slower than the others
    started = time.monotonic()
    ids = dict(zip(audio, codec.encode(list(audio.values())), strict=True))
    encode_seconds, started = time.monotonic() - started, time.monotonic()
    codec.decode(list(ids.values()))
    decode_seconds = time.monotonic() - started
    return ids, {"codebooks": codebook_use(np.concatenate(list(ids.values())), codec.size),
                 "encode_rtf": round(encode_seconds / seconds, 4), "decode_rtf": round(decode_seconds / seconds, 4)}


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


def measure(code: Coding, audio: Audio, texts: dict[str, str], judge: str, quality: int) -> dict[str, Any]:
    """Actual bit/s, mel distance to the recordings, WER (with a judge) and mean DNSMOS of `quality` utterances."""
    made: Audio = {}
    bits, distance, distances = 0.0, MelDistance(), []
    for key, samples in audio.items():
        made[key], used = code(key, samples)
        bits += used
        distances.append(distance(torch.from_numpy(samples)[None], torch.from_numpy(made[key])[None]).item())
    scores = [dnsmos(samples) for samples in list(made.values())[::-(-len(made) // quality)]] if quality else []
    return {"bitrate": round(bits / sum(map(len, audio.values())) * SAMPLE_RATE),
            "mel_distance": round(float(np.mean(distances)), 3), "wer": word_error_rate(judge, made, texts),
            "dnsmos": round(float(np.mean(scores)), 3) if scores else None}


def codebook_use(ids: np.ndarray, size: int) -> list[dict[str, Any]]:
    """The number of used codes and the perplexity of each level, for ids `[frames, levels]` below `size`."""
    use = []
    for level in ids.T:
        share = np.bincount(level, minlength=size) / len(level)
        entropy = -(share[share > 0] * np.log(share[share > 0])).sum()
        use.append({"used": int((share > 0).sum()), "perplexity": round(float(np.exp(entropy)), 1)})
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


def table(report: dict[str, Any]) -> str:
    """The report as a Markdown table."""
    lines = ["| codec | bit/s | codes used | perplexity | mel distance | WER | DNSMOS |", "|---" * 7 + "|"]
    for row in report["rows"]:
        levels = row["asked"] if row["codec"] == "levels" else 0
        use = report["codebooks"][levels - 1] if levels else {"used": "", "perplexity": ""}
        scores = ["" if row[key] is None else f"{row[key]:.3f}" for key in ("wer", "dnsmos")]
        name = f"{levels} level{'s' * (levels > 1)}" if levels else row["codec"]
        cells = [name, row["bitrate"] or "", use["used"], use["perplexity"], row["mel_distance"], *scores]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    speed = f"real-time factor on one core: encoding {report['encode_rtf']}, decoding {report['decode_rtf']}"
    return "\n".join([*lines, "", speed])
