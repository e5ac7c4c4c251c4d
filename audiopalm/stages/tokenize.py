"""Stage 5: speech -> unit ids and codec ids. Every audio file is encoded once; utterances that share it share its ids.

Writes to --output: units.scp, units.<language>.scp for each wav.scp.<language>, codec.scp (source side, only with
--codec_tokens true), meta.json (rates, sizes, hashes of the tokenizers) and shards/. A rerun goes on after the last
whole shard.
"""

import logging
import time
from pathlib import Path

from audiopalm.codec.registry import load_codec
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import read_json, require, sha256, write_json
from audiopalm.data.audio import SAMPLE_RATE
from audiopalm.data.datadir import languages_of, read_table, write_table
from audiopalm.data.speech import count_samples
from audiopalm.stages.encode_shards import is_done, marker
from audiopalm.stages.jobs import Launcher, run_jobs
from audiopalm.units.registry import UnitTokenizer

SHARD_SECONDS = 600  # of audio: what a kill loses at most, per job


def tokenize(sets: dict[Path, Path], units: Path, codec: Path, launcher: Launcher, codec_tokens: bool) -> None:
    """Tokenize {data directory: output}; every job encodes shards of all of them.

    Raises AudioPaLMError for missing inputs, and when an output holds ids of another tokenizer.
    """
    started = time.monotonic()
    meta = describe(units, codec)
    planned: dict[Path, dict[str, list[tuple[Path, list[str]]]]] = {}
    for data, output in sets.items():
        check_meta(output, meta)
        spoken = {path for suffix in sides(data) for path in wavs(data, suffix).values()}
        planned[output] = {"units": plan_shards("units", spoken, output)}
        if codec_tokens:
            planned[output]["codec"] = plan_shards("codec", set(wavs(data).values()), output)
        write_json(output / "meta.json", meta)
    todo = [{"stem": str(stem), "paths": paths} for shards in planned.values() for kind in shards.values()
            for stem, paths in kind if not is_done(stem, paths)]
    # Dealt out like cards: every job gets as many shards of units as of codec ids.
    todo = [item for job in range(launcher.number) for item in todo[job::launcher.number]]
    for result in run_jobs(launcher, "encode_shards", ["--units", str(units), "--codec", str(codec)], todo, "shards"):
        if result["error"]:
            raise AudioPaLMError(result["error"])
    for data, output in sets.items():
        scps = {kind: {path: entry for stem, _ in shards for path, entry in read_json(marker(stem))["entries"].items()}
                for kind, shards in planned[output].items()}
        if codec_tokens:
            write_table(output / "codec.scp", {name: scps["codec"][path] for name, path in wavs(data).items()})
        for suffix, table in sides(data).items():
            write_table(output / table, {name: scps["units"][path] for name, path in wavs(data, suffix).items()})
        logging.info("wrote %s: %s", output,
                     ", ".join(f"{kind} of {len(scp)} recordings" for kind, scp in scps.items()))
    logging.info("encoded %d shards, %.0f s", len(todo), time.monotonic() - started)


def sides(data: Path) -> dict[str, str]:
    """{suffix of wav.scp: table of its units}, of the utterances and of their translations."""
    return {"": "units.scp"} | {f".{language}": f"units.{language}.scp" for language in languages_of(data, "wav.scp")}


def wavs(data: Path, suffix: str = "") -> dict[str, str]:
    return read_table(data / f"wav.scp{suffix}", "stage 2 (audio)")


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


def plan_shards(kind: str, paths: set[str], output: Path) -> list[tuple[Path, list[str]]]:
    """(stem, audio files) of each shard. By length, so that a job does one size of work after another."""
    lengths = {path: count_samples(path) for path in sorted(paths)}
    shards: list[list[str]] = [[]]
    filled = 0
    for path in sorted(lengths, key=lambda path: (lengths[path], path)):
        if shards[-1] and filled + lengths[path] > SHARD_SECONDS * SAMPLE_RATE:
            shards.append([])
            filled = 0
        shards[-1].append(path)
        filled += lengths[path]
    logging.info("%s: %s of %d recordings, %.2f h, in %d shards", output, kind, len(lengths),
                 sum(lengths.values()) / SAMPLE_RATE / 3600, len(shards))
    return [(output / "shards" / f"{kind}.{number}", shard) for number, shard in enumerate(shards)]
