"""Speed from units to codec tokens: our SoundStorm, soundstorm-pytorch, and our AudioLM stages 2 and 3, alternately.

    pip install --no-deps soundstorm-pytorch beartype hyper-connections einops tqdm
    python benchmarks/synthesize.py

All turn the same units and the same voice prompt of 3 s into codec tokens, with random weights, the same number of
parameters (printed), float32 and the same threads. With `--precision bf16-mixed` our SoundStorm computes in bfloat16,
and soundstorm-pytorch once in float32 and once under autocast to bfloat16. Both SoundStorms decode as in the paper
(3.3): 16 passes for the first level, one for each other level. soundstorm-pytorch is imported without fairseq, which
its decoding does not need. The limit of each model is the time of its own matrix products, counted by PyTorch, at the
speed of a large square product. The last line is JSON: {way: {"real_time_factor", "limit_seconds"}}.
"""

import argparse
import json
import sys
import time
import types
from collections.abc import Callable
from importlib.metadata import version
from statistics import median

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from audiopalm.acoustic.audiolm import generation as audiolm_generation
from audiopalm.acoustic.audiolm.model import AudioLM
from audiopalm.acoustic.audiolm.model import ModelConfig as AudioLMConfig
from audiopalm.acoustic.base import PROMPT_UNITS, Acoustic
from audiopalm.acoustic.prompt import UNITS_RATE
from audiopalm.acoustic.soundstorm import generation as soundstorm_generation
from audiopalm.acoustic.soundstorm.model import ModelConfig, SoundStorm
from audiopalm.lm.model import ArchitectureConfig
from audiopalm.training.precision import matrix_seconds

UNITS, CODES, COARSE = 1024, 1024, 4
FIRST_PASSES = 16


def import_peer() -> types.ModuleType:
    """soundstorm_pytorch without its two packages that need fairseq. Their classes occur in annotations only."""
    for name, classes in (("audiolm_pytorch", ("SoundStream", "HubertWithKmeans", "FairseqVQWav2Vec")),
                          ("spear_tts_pytorch", ("TextToSemantic",))):
        module = types.ModuleType(name)
        for one in classes:
            setattr(module, one, type(one, (nn.Module,), {}))
        sys.modules[name] = module
    # Importing the package itself would also load its trainer.
    package = types.ModuleType("soundstorm_pytorch")
    package.__path__ = [f"{path}/soundstorm_pytorch" for path in sys.path]
    sys.modules["soundstorm_pytorch"] = package
    from soundstorm_pytorch import soundstorm

    soundstorm.tqdm = lambda items, **others: items  # without its progress bar, which takes time
    return soundstorm


class Bench:
    """Models of about the same size, and their inputs."""

    def __init__(self, args: argparse.Namespace):
        random = np.random.default_rng(0)
        count = round(args.seconds * UNITS_RATE)
        self.units = [random.integers(0, UNITS, count) for _ in range(args.batch)]
        self.prompt_units = [random.integers(0, UNITS, PROMPT_UNITS) for _ in range(args.batch)]
        self.prompt_codec = [random.integers(0, CODES, (2 * PROMPT_UNITS, args.levels)) for _ in range(args.batch)]
        torch.manual_seed(0)
        storm = SoundStorm(ModelConfig(UNITS, args.levels, CODES, args.dim, args.layers, args.dim // 64,
                                       4 * args.dim, dropout=0.0))
        settings = soundstorm_generation.GenerationConfig(iterations=[FIRST_PASSES, 1], window_seconds=args.seconds,
                                                             precision=args.precision)
        self.ways: dict[str, tuple[nn.Module, Callable[[], object]]] = {
            "soundstorm": self._ours(soundstorm_generation.SoundStormAcoustic(storm, settings))}
        model, speak = self.ways["soundstorm-pytorch"] = self._peer(args)
        if args.precision == "bf16-mixed":
            self.ways["soundstorm-pytorch, autocast"] = model, torch.autocast("cpu", torch.bfloat16)(speak)
        # Of a decoder's weights 16 dim^2 are in each layer, of a Conformer's 23: two decoders of dim and layers.
        shape = ArchitectureConfig(args.dim, args.layers - 1, args.dim // 64, args.dim // 64, 4 * args.dim)
        audiolm = AudioLM(AudioLMConfig(UNITS, args.levels, CODES, COARSE, shape, shape))
        self.ways["audiolm"] = self._ours(audiolm_generation.AudioLMAcoustic(
            audiolm, audiolm_generation.GenerationConfig(window_seconds=args.seconds)))

    def _ours(self, acoustic: Acoustic) -> tuple[nn.Module, Callable[[], object]]:
        return acoustic.model, lambda: acoustic.generate(self.units, self.prompt_units, self.prompt_codec)

    def _peer(self, args: argparse.Namespace) -> tuple[nn.Module, Callable[[], object]]:
        peer = import_peer()
        conformer = peer.Conformer(args.dim, depth=args.layers, dim_head=64, heads=args.dim // 64, ff_mult=4,
                                   conv_expansion_factor=1, conv_kernel_size=5, num_residual_streams=1)
        net = peer.ConformerWrapper(codebook_size=CODES, num_quantizers=args.levels, conformer=conformer)
        model = peer.SoundStorm(net, steps=FIRST_PASSES, schedule="cosine", num_semantic_token_ids=UNITS,
                                wav2vec_target_sample_hz=16000, wav2vec_downsample_factor=640,
                                codec_target_sample_hz=16000, codec_downsample_factor=320)
        units = np.stack([np.concatenate(pair) for pair in zip(self.prompt_units, self.units, strict=True)])
        units, prompt = torch.from_numpy(units), torch.from_numpy(np.stack(self.prompt_codec))
        return model, lambda: model.generate(cond_semantic_token_ids=units, prompt_acoustic_token_ids=prompt)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=10.0, help="of speech in each row, prompt not counted")
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--levels", type=int, default=12)
    parser.add_argument("--precision", choices=soundstorm_generation.PRECISIONS, default="32-true",
                        help="of our SoundStorm")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    bench = Bench(args)
    print(f"soundstorm-pytorch {version('soundstorm-pytorch')}, torch {torch.__version__}, {args.threads} threads, "
          f"{args.batch} x {args.seconds:g} s, {args.levels} levels", flush=True)
    times: dict[str, list[float]] = {way: [] for way in bench.ways}
    limits = {}
    types_of = {way: torch.bfloat16 if way.endswith("autocast") else torch.float32 for way in bench.ways}
    types_of["soundstorm"] = torch.bfloat16 if args.precision == "bf16-mixed" else torch.float32
    speeds = {dtype: 2 * 1024 ** 3 / matrix_seconds(dtype) for dtype in set(types_of.values())}
    for number in range(args.rounds + 1):  # the first round is the warm-up, and counts the operations
        for way, (_, speak) in bench.ways.items():
            if number == 0:
                with FlopCounterMode(display=False) as counter:
                    speak()
                limits[way] = counter.get_total_flops() / speeds[types_of[way]]
                continue
            began = time.perf_counter()
            speak()
            times[way].append(time.perf_counter() - began)
            print(f"round {number}: {way:28} {times[way][-1]:7.2f} s", flush=True)
    for way, (model, _) in bench.ways.items():
        took = median(times[way])
        print(f"{way:28} {sum(map(torch.numel, model.parameters())) / 1e6:5.1f} M parameters, real-time factor "
              f"{took / (args.batch * args.seconds):.4f}, {took / limits[way]:.1f} times the limit of "
              f"{limits[way]:.2f} s at {speeds[types_of[way]] / 1e9:.0f} GFLOP/s")
    ours = median(times["soundstorm"])
    for way in list(bench.ways)[1:]:
        print(f"soundstorm is {median(times[way]) / ours:.1f} times as fast as {way}")
    print(json.dumps({way: {"real_time_factor": median(times[way]) / (args.batch * args.seconds),
                            "limit_seconds": limits[way]} for way in bench.ways}))


if __name__ == "__main__":
    main()
