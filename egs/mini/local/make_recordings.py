#!/usr/bin/env python3
"""Make egs/mini/corpus/recordings from the packages of the original speech.

Human voices, from Debian packages (no root needed):

    mkdir debs && cd debs && apt-get download asterisk-core-sounds-{en,es,fr,it,ru}-g722 \
        asterisk-prompt-it-menardi-wav
    for package in *.deb; do dpkg -x "$package" ../asterisk; done

Kokoro voices: see egs/mini/local/synthesise_kokoro.py, which writes one wav per clip. Then, with `pip install av`:

    python egs/mini/local/make_recordings.py --asterisk asterisk/usr/share/asterisk/sounds --kokoro kokoro \
        --corpus egs/mini/corpus

Each clip is decoded, resampled to 16 kHz, trimmed and scaled towards a common loudness. All clips of a voice are in
one Ogg Opus file, and `segments` has their times.
"""

import argparse
import logging
from pathlib import Path

import av
import numpy as np
import soundfile

from audiopalm.core.command import run
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import atomic_path, sha256, write_text
from audiopalm.core.progress import progress
from audiopalm.corpora.grammar import Grammar
from audiopalm.corpora.voices import Voice, load_voices
from audiopalm.data.audio import SAMPLE_RATE, read_audio, resample
from audiopalm.data.datadir import read_table, write_table

FRAME = 160  # samples, 10 ms; clips start and end on frames, so that their times have two decimals
MARGIN = 3  # frames of silence on each side of a clip
SILENCE = -36.0  # dB relative to the loudest frame
GAP = 10  # frames between clips, so that the codec does not smear a clip into the next one
LEVEL = -20.0  # dBFS of the loud frames of a clip
GAIN = 8.0  # dB, the largest change of a clip's loudness
LONGEST = 12.0  # seconds; longer prompts are not shipped


def read_clip(voice: Voice, clip: str, asterisk: Path, kokoro: Path) -> np.ndarray | None:
    """Samples `[T]` at 16 kHz, or None if the voice has no such clip."""
    if voice.synthetic:
        path = kokoro / voice.speaker / voice.language / f"{clip.replace('/', '_')}.wav"
        if not path.exists():
            raise AudioPaLMError(f"{path} does not exist; run egs/mini/local/synthesise_kokoro.py first")
        return read_audio(path)
    path = asterisk / voice.folder / f"{clip}.{voice.format}"
    if not path.exists():
        return None
    if voice.format == "wav":
        return read_audio(path)
    with av.open(str(path), format=voice.format) as container:
        blocks = [frame.to_ndarray().ravel() for frame in container.decode(audio=0)]
        rate = container.streams.audio[0].rate
    return resample(np.concatenate(blocks).astype(np.float32) / 32768, rate, SAMPLE_RATE)


def tidy(samples: np.ndarray) -> np.ndarray:
    """Trim `[T]` to its speech plus a margin, and move its loudness towards the common level; whole frames."""
    frames = samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME)
    level = 10 * np.log10(np.mean(np.square(frames), axis=1) + 1e-10)
    heard = np.flatnonzero(level > level.max() + SILENCE)
    first, last = max(heard[0] - MARGIN, 0), min(heard[-1] + 1 + MARGIN, len(frames))
    frames = frames[first:last]
    gain = np.clip(LEVEL - np.percentile(level[first:last], 90), -GAIN, GAIN)
    loudest = np.abs(frames).max()
    return (frames * min(10 ** (gain / 20), 0.9 / loudest)).ravel()


def make_recording(voice: Voice, clips: list[str], output: Path, asterisk: Path,
                   kokoro: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Write <recording>.ogg; return its entries of `segments` and of `left_out`."""
    pieces, segments, left_out, position = [], {}, {}, 0
    for clip in progress(clips, len(clips), voice.recording):
        key = f"{voice.recording}-{clip}"
        if clip in voice.reworded:
            left_out[key] = "reworded"
            continue
        samples = read_clip(voice, clip, asterisk, kokoro)
        if samples is None:
            left_out[key] = "not_recorded"
            continue
        samples = tidy(samples)
        if len(samples) > LONGEST * SAMPLE_RATE:
            left_out[key] = "too_long"
            continue
        start, position = position, position + len(samples)
        segments[key] = f"{voice.recording} {start / SAMPLE_RATE:.2f} {position / SAMPLE_RATE:.2f}"
        pieces += [samples, np.zeros(GAP * FRAME, dtype=np.float32)]
        position += GAP * FRAME
    with atomic_path(output / f"{voice.recording}.ogg") as temporary:
        with soundfile.SoundFile(str(temporary), "w", SAMPLE_RATE, 1, format="OGG", subtype="OPUS") as stream:
            for piece in pieces:
                stream.write(piece)
    return segments, left_out


def main() -> None:
    parser = argparse.ArgumentParser(description="Remake the recordings of egs/mini from the original packages.")
    parser.add_argument("--asterisk", type=Path, required=True, help="unpacked usr/share/asterisk/sounds")
    parser.add_argument("--kokoro", type=Path, required=True, help="output of synthesise_kokoro.py")
    parser.add_argument("--corpus", type=Path, default=Path("egs/mini/corpus"), help="folder of grammar.yaml")
    parser.add_argument("--only", nargs="*", help="remake these recordings, for example allison-en (default: all)")
    arguments = parser.parse_args()
    grammar = Grammar(arguments.corpus)
    output = arguments.corpus / "recordings"
    tables = {name: read_table(output / name) if arguments.only else {} for name in ("segments", "left_out")}
    for voice in load_voices(arguments.corpus):
        if arguments.only and voice.recording not in arguments.only:
            continue
        for table in tables.values():
            for key in [key for key in table if key.startswith(f"{voice.recording}-")]:
                del table[key]
        clips = sorted(grammar.transcripts[voice.language]) if voice.core else grammar.all_clips(voice.language)
        segments, left_out = make_recording(voice, clips, output, arguments.asterisk, arguments.kokoro)
        tables["segments"].update(segments)
        tables["left_out"].update(left_out)
    for name, table in tables.items():
        write_table(output / name, table)
    shipped = sorted([*output.glob("*.ogg"), output / "segments"])
    write_text(output / "SHA256SUMS", "".join(f"{sha256(path)}  {path.name}\n" for path in shipped))
    size = sum(path.stat().st_size for path in shipped) / 2**20
    logging.info("wrote %d files, %.1f MiB, to %s", len(shipped), size, output)


if __name__ == "__main__":
    run(main)
