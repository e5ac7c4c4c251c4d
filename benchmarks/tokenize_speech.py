"""Speech to units: ours, in one pass, against encoding, dumping the features, and labelling them with scikit-learn.

The second is the method of ESPnet and fairseq: all layers are computed, the outputs of one layer are written as
float32 (Kaldi ark) and read again, and `KMeans.predict` labels them. Encoder, centroids and files are the same; ids are
compared. `--memory` tokenizes 10, 40 and 160 minutes by the command of stage 5, and prints the peak memory.
The last line is JSON: {encoder: {"ours", "dumped": seconds, "same": fraction of the ids}}, with `--memory`
{minutes of audio: MiB}.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import kaldiio
import numpy as np
import torch
import transformers
from sklearn.cluster import KMeans

from audiopalm.core.kmeans import kmeans
from audiopalm.data.archive import TokenArchive, write_ark
from audiopalm.data.audio import read_audio, write_audio
from audiopalm.data.datadir import write_table
from audiopalm.stages.encode_shards import Shard, encode_shard
from audiopalm.units.encoder import SpeechEncoder
from audiopalm.units.huggingface import read_huggingface
from audiopalm.units.log_mel import LogMelConfig, LogMelUnits
from audiopalm.units.registry import UnitTokenizer, save_units

ROOT = Path(__file__).resolve().parents[1]
LAYER = 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=120, help="of audio")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--size", type=int, default=512, help="units")
    parser.add_argument("--memory", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        if arguments.memory:
            figures: dict = measure_memory(Path(folder))
        else:
            paths = make_speech(Path(folder) / "audio", arguments.seconds)
            hubert = make_hubert(Path(folder) / "hubert")
            log_mel = LogMelUnits(LogMelConfig(size=arguments.size))
            ours = read_huggingface(Path(folder) / "hubert", LAYER, True, arguments.size)
            figures = {"log-mel": compare("log-mel", log_mel, None, paths, Path(folder), arguments),
                       "hubert": compare("hubert", ours, hubert, paths, Path(folder), arguments)}
    print(json.dumps(figures))


def make_speech(folder: Path, seconds: int) -> list[str]:
    """Recordings of 3 s: noise, because only their length matters here."""
    random, paths = np.random.default_rng(0), []
    for number in range(seconds // 3):
        paths.append(str(folder / f"{number}.flac"))
        write_audio(paths[-1], random.normal(0, 0.1, 3 * 16000).astype(np.float32))
    return paths


def make_hubert(folder: Path) -> torch.nn.Module:
    torch.manual_seed(0)
    model = transformers.HubertModel(transformers.HubertConfig()).eval()
    model.save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return model  # HuBERT base with random weights


@torch.inference_mode()
def compare(name: str, model: SpeechEncoder, whole: torch.nn.Module | None, paths: list[str], folder: Path,
            arguments: argparse.Namespace) -> dict[str, float]:
    """`whole` is the encoder of transformers with all its layers; None for an encoder without layers."""
    features = [torch.cat(list(model.features(torch.from_numpy(read_audio(path))))) for path in paths[:100]]
    model.codebook.copy_(torch.from_numpy(kmeans(torch.cat(features).numpy(), arguments.size, 0, 3)))
    labeller = KMeans(arguments.size, init=model.codebook.numpy(), n_init=1, max_iter=1).fit(model.codebook.numpy())
    labeller.cluster_centers_ = model.codebook.numpy()
    tokenizer, dumped = UnitTokenizer(model), folder / f"dumped.{name}"
    best = {"ours": float("inf"), "dumped": float("inf")}
    for _ in range(arguments.rounds):
        started = time.perf_counter()
        encode_shard(tokenizer.encode, Shard("units", str(folder / f"units.{name}"), paths))
        best["ours"] = min(best["ours"], time.perf_counter() - started)
        started = time.perf_counter()
        dump_then_label(model, whole, labeller, paths, dumped)
        best["dumped"] = min(best["dumped"], time.perf_counter() - started)
    ours = kaldiio.load_ark(str(folder / f"units.{name}.ark"))
    theirs = TokenArchive(dumped.with_suffix(".scp"))
    same = np.concatenate([ids == theirs[str(number)] for number, (_, ids) in enumerate(ours)]).mean()
    size = os.path.getsize(f"{dumped}.features.ark")
    print(f"{name}: ours {best['ours']:.2f} s, dumped and labelled {best['dumped']:.2f} s, "
          f"{best['dumped'] / best['ours']:.1f} times as long, for {arguments.seconds} s of audio; {size / 1e6:.0f} MB "
          f"were written and read on the way; {100 * same:.3f} % of the ids are the same", flush=True)
    return {**best, "same": float(same)}


def dump_then_label(model: SpeechEncoder, whole: torch.nn.Module | None, labeller: KMeans, paths: list[str],
                    output: Path) -> None:
    with kaldiio.WriteHelper(f"ark,scp:{output}.features.ark,{output}.features.scp") as writer:
        for number, path in enumerate(paths):
            samples = torch.from_numpy(read_audio(path))
            writer(str(number), encode_whole(model, whole, samples).numpy())
    ids = {key: labeller.predict(features) for key, features in kaldiio.load_scp(f"{output}.features.scp").items()}
    write_table(output.with_suffix(".scp"), write_ark(output.with_suffix(".ark"), ids))


def encode_whole(model: SpeechEncoder, whole: torch.nn.Module | None, samples: torch.Tensor) -> torch.Tensor:
    if whole is None:
        return torch.cat(list(model.features(samples)))
    inputs = model.extractor(samples.numpy(), sampling_rate=16000, return_tensors="pt")
    hidden = whole(**inputs, output_hidden_states=True).hidden_states[LAYER][0]
    hidden = torch.cat([hidden, hidden[-1:]])[:-(-len(samples) // 640) * 2]
    return hidden.view(len(hidden) // 2, 2, -1).mean(1)


def measure_memory(folder: Path) -> dict[int, float]:
    save_to = folder / "units"
    model = LogMelUnits(LogMelConfig(size=512))
    model.codebook.normal_()
    save_units(model, save_to)
    paths, peaks = make_speech(folder / "audio", 600), {}
    for times in (1, 4, 16):
        data = folder / f"data{times}"
        links = {}
        for copy in range(times):
            for number, path in enumerate(paths):
                link = data / f"{copy}.{number}.flac"
                link.parent.mkdir(exist_ok=True)
                link.symlink_to(path)
                links[f"noise-{copy:02d}-{number:04d}"] = str(link)
        write_table(data / "wav.scp", links)
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "audiopalm.bin.tokenize", "--data_dir", data, "--units", save_to,
                        "--codec", ROOT / "egs/mini/pretrained/pack/codec", "--codec_tokens", "false", "--nj", "1",
                        "--output", folder / f"tokens{times}"], check=True, capture_output=True)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024  # the largest of all finished processes
        print(f"{times:2} times 10 minutes: largest process up to here {peak:.0f} MiB, "
              f"{time.perf_counter() - started:.1f} s", flush=True)
        peaks[10 * times] = peak
    return peaks


if __name__ == "__main__":
    main()
