"""Decoding speed of the language model: ours, transformers' generate, audiolm-pytorch's semantic stage, alternately.

    python benchmarks/decode.py

`mini` is the shipped language model, `middle` one of 18 M parameters with random weights. Ours and transformers have
the same weights, prompts and threads, and greedy answers of the same length without an end token. The benchmark checks
that the answers are equal. audiolm-pytorch (pip install audiolm-pytorch) has a model of about as many weights. Where
fairseq, encodec or torchaudio cannot be imported, empty modules replace them, because its semantic stage does not use
them. Speeds count the tokens of answers; the time includes prefill. At batch 1 every weight is read once for each
token, so the limit is the number of bytes that a matrix-vector product reads in a second.

The last line is JSON: a list of {"model", "batch", way: tokens/s, "times_transformers"}, at batch 1 with
"bandwidth_share".
"""

import argparse
import importlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from unittest.mock import MagicMock

import numpy as np
import torch

from audiopalm.lm.generation.config import DecodingConfig
from audiopalm.lm.generation.sampling import generate
from audiopalm.lm.huggingface.pretrained import write_pretrained
from audiopalm.lm.model import Decoder, ModelConfig
from audiopalm.lm.storage import load_model
from audiopalm.tasks import get_task
from audiopalm.vocabulary.joint import Vocabulary, load_vocabulary

MIDDLE = ModelConfig(1512, dim=384, layers=10, heads=6, kv_heads=2, hidden_dim=1152)  # 18 M parameters, untrained
WAYS = ("audiopalm", "transformers", "audiolm")


class Bench:
    def __init__(self, model: Decoder, prompt: int, answer: int, ways: tuple[str, ...]):
        self.model, self.answer = model.eval(), answer
        size = model.config.vocabulary_size
        self.prompts = [np.random.default_rng(number).integers(0, size, prompt) for number in range(32)]
        self.weights = sum(parameter.numel() for parameter in model.parameters())
        self.makers = {way: getattr(self, way)() for way in ways}
        self.reference = self.makers["transformers"]

    def audiopalm(self):
        task, size = get_task("s2st"), self.model.config.vocabulary_size

        def make(prompts, answers):
            # Every id is allowed, and the end token is an id that is never the best.
            unused = min(set(range(size)) - {token for row in answers for token in row})
            vocabulary = Vocabulary(text_size=0, audio_size=size, eos=unused, newline=unused, text_sha256="",
                                    units_sha256="", languages=[])
            config = DecodingConfig(audio_tokens=self.answer)
            found = generate(self.model, prompts, task, vocabulary, config)
            return [answer.parts[0].tolist() for answer in found]

        return make

    def transformers(self):
        from transformers import AutoModelForCausalLM

        with tempfile.TemporaryDirectory() as folder:
            write_pretrained(self.model, Path(folder), eos=0)
            theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        theirs.generation_config.eos_token_id = None

        def make(prompts, answers):
            ids = torch.from_numpy(np.stack(prompts))
            with torch.inference_mode():
                written = theirs.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, pad_token_id=0,
                                          max_new_tokens=self.answer)
            return written[:, ids.shape[1]:].tolist()

        return make

    def audiolm(self):
        for name in ("fairseq", "encodec", "encodec.utils", "torchaudio", "torchaudio.functional",
                     "torchaudio.transforms"):
            try:
                importlib.import_module(name)
            except Exception:  # an import of a broken installation may raise anything
                sys.modules[name] = MagicMock()
        import audiolm_pytorch.audiolm_pytorch as theirs

        config = self.model.config
        theirs.get_encoded_dim = lambda name: config.dim  # its own is a text encoder of the hub
        depth, size = 1, 0
        while size < 0.95 * self.weights:  # add layers until the size is the same
            transformer = theirs.SemanticTransformer(dim=config.dim, depth=depth, heads=config.heads, flash_attn=False,
                                                     num_semantic_tokens=config.vocabulary_size)
            depth, size = depth + 1, sum(parameter.numel() for parameter in transformer.parameters())
        print(f"audiolm: {size / 1e6:.1f} M parameters, {depth - 1} layers")
        wrapper = theirs.SemanticTransformerWrapper(transformer=transformer, unique_consecutive=False).eval()
        wrapper.eos_id = -2  # never drawn

        def make(prompts, answers):
            ids = torch.from_numpy(np.stack(prompts))
            with torch.inference_mode():
                written = wrapper.generate(max_length=ids.shape[1] + self.answer, prime_ids=ids)
            return written[:, ids.shape[1]:].tolist()

        return make

    def run(self, name: str, batch: int, rounds: int) -> dict[str, object]:
        prompts, speeds = self.prompts[:batch], {way: [] for way in self.makers}
        expected = self.reference(prompts, None)
        for number in range(rounds + 1):  # the first round is the warm-up
            for way, make in self.makers.items():
                began = time.perf_counter()
                found = make(prompts, expected)
                seconds = time.perf_counter() - began
                if [len(row) for row in found] != [self.answer] * batch or way != "audiolm" and found != expected:
                    sys.exit(f"{way} wrote other answers than transformers")
                if number:
                    speeds[way].append(batch * self.answer / seconds)
        ours = median(speeds["audiopalm"])
        others = ", ".join(f"{way} {median(values):.0f} ({ours / median(values):.2f} times)"
                           for way, values in speeds.items() if way != "audiopalm")
        print(f"{name} ({self.weights / 1e6:.1f} M), batch {batch:2}: ours {ours:.0f} tokens/s, {others}", flush=True)
        figures = {"model": name, "batch": batch, **{way: median(values) for way, values in speeds.items()},
                   "times_transformers": ours / median(speeds["transformers"])}
        if batch == 1:
            limit = bandwidth() / (4 * self.weights)
            print(f"  reading the weights allows {limit:.0f} tokens/s: ours are {ours / limit:.0%} of that")
            figures["bandwidth_share"] = ours / limit
        return figures


def bandwidth() -> float:
    """Bytes that a matrix-vector product reads in a second: 268 MB, more than any cache holds."""
    matrix, vector, times = torch.randn(16384, 4096), torch.randn(4096), []
    for _ in range(8):
        began = time.perf_counter()
        matrix @ vector
        times.append(time.perf_counter() - began)
    return 4 * matrix.numel() / median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pack", type=Path, default=Path(__file__).resolve().parents[1] / "egs/mini/pretrained/pack",
                        help="a packed model whose language model is `mini`")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--models", nargs="+", default=["mini", "middle"], choices=["mini", "middle"])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--prompt", type=int, default=100, help="tokens of a prompt")
    parser.add_argument("--answer", type=int, default=100, help="tokens of an answer")
    parser.add_argument("--audiolm", action="store_true", help="audiolm-pytorch too")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    figures = []
    for name in args.models:
        if name == "mini":
            vocabulary, _ = load_vocabulary(args.pack / "vocabulary")
            model = load_model(args.pack / "lm", vocabulary, "stage 14 (pack)")
        else:
            model = Decoder(MIDDLE)
        bench = Bench(model, args.prompt, args.answer, WAYS if args.audiolm else WAYS[:2])
        for batch in args.batches:
            figures.append(bench.run(name, batch, args.rounds))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
