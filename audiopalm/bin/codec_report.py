"""Measure a codec: use of every codebook, speed, and per number of levels mel distance, the judge's WER and DNSMOS."""

import argparse
import tempfile
import time
from pathlib import Path

import jiwer
import numpy as np
import torch

from audiopalm.bin.common import run
from audiopalm.codec.base import Codec, load_codec
from audiopalm.data.audio import SAMPLE_RATE, read_audio, write_audio
from audiopalm.data.datadir import read_table
from audiopalm.data.files import write_json
from audiopalm.errors import AudioPaLMError
from audiopalm.scoring.judge import JUDGES, transcribe
from audiopalm.scoring.quality import dnsmos
from audiopalm.scoring.text import english
from audiopalm.train.codec import MelDistance


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--codec", required=True, help="directory of stage 4")
    parser.add_argument("--data_dir", required=True, help="directory of stage 2 that the codec was not trained on")
    parser.add_argument("--output", required=True, help="JSON file")
    parser.add_argument("--language", default="en", help="language of the utterances that are taken; it is the judge's")
    parser.add_argument("--count", type=int, default=40, help="utterances, evenly spread")
    parser.add_argument("--judge", default="moonshine", choices=[*JUDGES, "none"], help="English ASR for the WER")
    parser.add_argument("--dnsmos", choices=["true", "false"], default="true", help="also the quality by DNSMOS")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # the real-time factor is that of one core
    codec, data = load_codec(arguments.codec), Path(arguments.data_dir)
    languages = read_table(data / "utt2lang", "stage 2 (audio)")
    paths = read_table(data / "wav.scp", "stage 2 (audio)")
    paths = {key: path for key, path in paths.items() if languages.get(key) == arguments.language}
    if not paths:
        raise AudioPaLMError(f"{data}/utt2lang has no utterance in {arguments.language!r}")
    chosen = sorted(paths)[::-(-len(paths) // arguments.count)]
    audio = {key: read_audio(paths[key]) for key in chosen}
    texts = {key: text for key, text in read_table(data / "text").items() if key in audio}
    report = measure(codec, audio, texts, arguments.judge, arguments.dnsmos == "true")
    report = {"data": str(data), "language": arguments.language, "utterances": len(audio), **report}
    write_json(arguments.output, report)
    print(table(report))


def measure(codec: Codec, audio: dict[str, np.ndarray], texts: dict[str, str], judge: str, quality: bool) -> dict:
    """Codebook use, real-time factors, and per number of levels the mel distance, WER (with a judge) and DNSMOS."""

    def heard(audio: dict[str, np.ndarray]) -> dict:
        scores = [dnsmos(samples) for samples in audio.values()] if quality else []
        return {"wer": word_error_rate(judge, audio, texts),
                "dnsmos": round(float(np.mean(scores)), 3) if scores else None}

    seconds = sum(map(len, audio.values())) / SAMPLE_RATE
    codec.decode(codec.encode(list(audio.values())[:1]))  # the first call is slower than all others
    started = time.monotonic()
    ids = dict(zip(audio, codec.encode(list(audio.values())), strict=True))
    encode_seconds, started = time.monotonic() - started, time.monotonic()
    codec.decode(list(ids.values()))
    decode_seconds = time.monotonic() - started
    distance = MelDistance()
    rows = [{"levels": 0, **heard(audio)}]
    for levels in [levels for levels in (1, 2, 3, 4, 6, 8, 12, 16) if levels <= codec.levels]:
        made = {key: codec.decode([item[:, :levels]])[0][:len(audio[key])] for key, item in ids.items()}
        distances = [distance(torch.from_numpy(audio[key])[None], torch.from_numpy(made[key])[None]) for key in audio]
        rows.append({"levels": levels, "mel_distance": round(float(np.mean(distances)), 3),
                     **heard(made)})
    return {"codebooks": codebook_use(np.concatenate(list(ids.values())), codec.size), "rows": rows,
            "encode_rtf": round(encode_seconds / seconds, 4), "decode_rtf": round(decode_seconds / seconds, 4)}


def codebook_use(ids: np.ndarray, size: int) -> list[dict]:
    """For ids `[frames, levels]`: codes used and perplexity of each level."""
    use = []
    for level in ids.T:
        share = np.bincount(level, minlength=size) / len(level)
        entropy = -(share[share > 0] * np.log(share[share > 0])).sum()
        use.append({"used": int((share > 0).sum()), "perplexity": round(float(np.exp(entropy)), 1)})
    return use


def word_error_rate(judge: str, audio: dict[str, np.ndarray], texts: dict[str, str]) -> float | None:
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
    lines = ["| levels | codes used | perplexity | mel distance | WER | DNSMOS |", "|---|---|---|---|---|---|"]
    for row in report["rows"]:
        use = report["codebooks"][row["levels"] - 1] if row["levels"] else {"used": "", "perplexity": ""}
        heard = ["" if row[key] is None else f"{row[key]:.3f}" for key in ("wer", "dnsmos")]
        cells = [row["levels"] or "recordings", use["used"], use["perplexity"], row.get("mel_distance", ""), *heard]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    speed = f"real-time factor on one core: encoding {report['encode_rtf']}, decoding {report['decode_rtf']}"
    return "\n".join([*lines, "", speed])


if __name__ == "__main__":
    run(main)
