"""Stage 5: speech -> unit ids and codec ids. Every audio file is encoded once; utterances that share it share its ids.

Writes to --output: units.scp, units.<language>.scp for each wav.scp.<language>, codec.scp (source side, only with
--codec_tokens true), meta.json (rates, sizes, hashes of the tokenizers) and shards/. A rerun goes on after the last
whole shard.
"""

import argparse
import logging
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from audiopalm.bin.common import progress, run
from audiopalm.codec.base import load_codec
from audiopalm.data.archive import write_ark
from audiopalm.data.audio import SAMPLE_RATE, read_audio
from audiopalm.data.datadir import languages_of, read_table, write_table
from audiopalm.data.files import read_json, require, sha256, write_json
from audiopalm.errors import AudioPaLMError
from audiopalm.tokenizers.audio import UnitTokenizer
from audiopalm.train.speech import count_samples

SHARD_SECONDS = 600  # of audio: what a kill loses at most, per process


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", required=True, nargs="+", help="data directories of stage 2")
    parser.add_argument("--units", required=True, help="directory of stage 3")
    parser.add_argument("--codec", required=True, help="directory of stage 4")
    parser.add_argument("--output", required=True, nargs="+", help="as many, in the same order")
    parser.add_argument("--codec_tokens", choices=["true", "false"], default="true", help="also write codec.scp")
    parser.add_argument("--nj", type=int, default=2, help="processes of one thread each")
    arguments = parser.parse_args()
    if len(arguments.data_dir) != len(arguments.output):
        raise AudioPaLMError(f"{len(arguments.data_dir)} data directories, but {len(arguments.output)} outputs")
    with Workers(Path(arguments.units), Path(arguments.codec), arguments.nj) as workers:
        for data, output in zip(arguments.data_dir, arguments.output, strict=True):
            tokenize(Path(data), workers, Path(output), arguments.codec_tokens == "true")


class Workers:
    """`jobs` processes of one thread each that hold both tokenizers, started when there is something to do."""

    def __init__(self, units: Path, codec: Path, jobs: int):
        self.models, self.jobs = {"units": units, "codec": codec}, jobs
        self.pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None:
        if self.pool:
            self.pool.shutdown(cancel_futures=True)

    def encode(self, todo: list[tuple[Path, list[str]]], what: str) -> None:
        """Run `encode_shard` on each (stem, paths)."""
        if self.jobs == 1:
            load_tokenizers(**self.models)
            done = (encode_shard(stem, shard) for stem, shard in todo)
        else:
            if not self.pool:  # fresh processes: torch's threads do not survive a fork
                models = self.models["units"], self.models["codec"]
                self.pool = ProcessPoolExecutor(self.jobs, get_context("spawn"), load_tokenizers, models)
            done = self.pool.map(encode_shard, *zip(*todo, strict=True))
        for _ in progress(done, len(todo), what):
            pass


def tokenize(data: Path, workers: Workers, output: Path, codec_tokens: bool) -> None:
    """Tokenize one data directory.

    Raises AudioPaLMError for missing inputs, and when `output` holds ids of another tokenizer.
    """
    started = time.monotonic()
    meta = describe(**workers.models)
    check_meta(output, meta)
    sides = {"": "units.scp"} | {f".{language}": f"units.{language}.scp" for language in languages_of(data, "wav.scp")}
    wavs = {suffix: read_table(data / f"wav.scp{suffix}", "stage 2 (audio)") for suffix in sides}
    write_json(output / "meta.json", meta)
    every = {path for table in wavs.values() for path in table.values()}
    scps = {"units": encode_files("units", every, output, workers)}
    if codec_tokens:
        scps["codec"] = encode_files("codec", set(wavs[""].values()), output, workers)
        write_table(output / "codec.scp", {utterance: scps["codec"][path] for utterance, path in wavs[""].items()})
    for suffix, name in sides.items():
        write_table(output / name, {utterance: scps["units"][path] for utterance, path in wavs[suffix].items()})
    what = ", ".join(f"{name} of {len(scp)} recordings" for name, scp in scps.items())
    logging.info("wrote %s: %s, %.0f s", output, what, time.monotonic() - started)


def describe(units: Path, codec: Path) -> dict:
    """Rate, size and hash of both tokenizers."""
    unit_size = read_json(units / "config.json", "stage 3 (units)")["size"]
    unit_weights = require(units / "model.safetensors", "stage 3 (units)")
    loaded = load_codec(codec)
    return {"units_rate": UnitTokenizer.rate, "units_size": unit_size, "units_sha256": sha256(unit_weights),
            "codec_rate": loaded.rate, "codec_levels": loaded.levels, "codec_size": loaded.size,
            "codec_sha256": sha256(codec / "model.safetensors")}


def check_meta(output: Path, meta: dict) -> None:
    if not (output / "meta.json").exists():
        return
    found = read_json(output / "meta.json")
    for key in ("units_sha256", "codec_sha256"):
        if found.get(key) != meta[key]:
            raise AudioPaLMError(f"{output} was made with another tokenizer: {key} {found.get(key)}, now {meta[key]}; "
                                 "remove the directory to tokenize anew")


def encode_files(kind: str, paths: set[str], output: Path, workers: Workers) -> dict[str, str]:
    """Encode audio files in shards; return {path: `ark:offset`}."""
    lengths = {path: count_samples(path) for path in sorted(paths)}
    shards: list[list[str]] = [[]]
    filled = 0
    # By length, so that a process does one size of work after another and its memory is reused.
    for path in sorted(lengths, key=lambda path: (lengths[path], path)):
        if shards[-1] and filled + lengths[path] > SHARD_SECONDS * SAMPLE_RATE:
            shards.append([])
            filled = 0
        shards[-1].append(path)
        filled += lengths[path]
    stems = [output / "shards" / f"{kind}.{number}" for number in range(len(shards))]
    todo = [(stem, shard) for stem, shard in zip(stems, shards, strict=True) if not is_done(stem, shard)]
    logging.info("%s: %d recordings, %.2f h, %d shards of which %d are done", kind, len(lengths),
                 sum(lengths.values()) / SAMPLE_RATE / 3600, len(shards), len(shards) - len(todo))
    if todo:
        workers.encode(todo, f"{kind} shards")
    return {path: entry for stem in stems for path, entry in read_json(marker(stem))["entries"].items()}


def marker(stem: Path) -> Path:
    return stem.with_name(stem.name + ".done")


def is_done(stem: Path, shard: list[str]) -> bool:
    return marker(stem).exists() and list(read_json(marker(stem))["entries"]) == shard


_encode: dict[str, Callable[[list[np.ndarray]], list[np.ndarray]]] = {}  # of this process, by kind


def load_tokenizers(units: Path, codec: Path) -> None:
    torch.set_num_threads(1)
    _encode.update(units=UnitTokenizer.load(units).encode, codec=load_codec(codec).encode)


def encode_shard(stem: Path, paths: list[str]) -> None:
    """Write `<stem>.ark`, then the marker `<stem>.done` with {path: `ark:offset`}."""
    encode, tokens = _encode[stem.name.partition(".")[0]], {}
    for number, path in enumerate(paths):
        try:
            tokens[str(number)] = encode([read_audio(path)])[0].reshape(-1)
        except AudioPaLMError as error:
            raise AudioPaLMError(f"{path}: {error}") from None
    table = write_ark(stem.with_name(stem.name + ".ark"), tokens)
    write_json(marker(stem), {"entries": {path: table[str(number)] for number, path in enumerate(paths)}})


if __name__ == "__main__":
    run(main)
