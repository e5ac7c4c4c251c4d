"""Stage 5: speech -> unit ids and codec ids. Every audio file is encoded once; utterances that share it share its ids.

Writes to --output: units.scp, units.<language>.scp for each wav.scp.<language>, codec.scp (source side, only with
--codec_tokens true), meta.json (rates, sizes, hashes of the tokenizers) and shards/. A rerun resumes after the last
complete recording of each shard.
"""

import logging
import shutil
import time
from collections.abc import Set
from pathlib import Path

from audiopalm.acoustic.token_meta import TOKEN_META, check_token_meta
from audiopalm.codec.registry import hash_codes, load_codec
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import read_json, read_object, require, sha256, write_json
from audiopalm.core.lock import all_locked
from audiopalm.data.audio import SAMPLE_RATE
from audiopalm.data.datadir import languages_of, read_table, write_table
from audiopalm.data.index import write_index
from audiopalm.data.speech import count_samples
from audiopalm.stages.encode_shards import Shard
from audiopalm.stages.jobs import Launcher, Result, dealt, run_jobs
from audiopalm.units.registry import UnitTokenizer

SHARD_SECONDS = 600  # minimum of audio in a shard
MAX_SHARDS = 128  # of a kind; the shards of a larger set are larger, not more


def tokenize(sets: dict[Path, Path], units: Path, codec: Path, launcher: Launcher, units_only: Set[Path],
             acoustic: Path | None = None) -> None:
    """Tokenize {data directory: output}, all sets in one run of the launcher. Sets in `units_only` get no codec ids.

    acoustic: a trained acoustic model that is to speak such units. Raises AudioPaLMError for missing inputs, if the
    acoustic model was trained with others, if an output has ids of another tokenizer, and if another process writes one
    of the outputs.
    """
    started = time.monotonic()
    meta = describe(units, codec)
    if acoustic is not None:
        trained = read_object(acoustic / "config.json", "stage 9 (acoustic)", TOKEN_META)
        check_token_meta(trained, meta, acoustic, f"{units} with {codec}")
    with all_locked(sets.values(), "tokenize"):
        planned = {}
        for data, output in sets.items():
            check_meta(output, meta)
            planned[data] = plan_set(data, output, data not in units_only)
            write_json(output / "meta.json", meta)
        missing = [shard for shards in planned.values() for shard in shards if not shard.is_done()]
        arguments = ["--units", str(units), "--codec", str(codec)]
        for _ in run_jobs(launcher, "encode_shards", arguments, dealt(missing, launcher.number), Result, "shards"):
            pass  # the products of a shard are the files that it writes
        for data, output in sets.items():
            write_tables(data, output, planned[data], data not in units_only)
            for stale in (output / "shards").glob("*.unfinished"):  # of shards that the set no longer has
                shutil.rmtree(stale)
            write_index(data, output)
    logging.info("encoded %d shards, %.0f s", len(missing), time.monotonic() - started)


def plan_set(data: Path, output: Path, codec_tokens: bool) -> list[Shard]:
    """The shards of one set: units of all its audio, and with `codec_tokens` the codec ids of the source side."""
    spoken = {path for suffix in sides(data) for path in wavs(data, suffix).values()}
    shards = plan_shards("units", spoken, output)
    return shards + (plan_shards("codec", set(wavs(data).values()), output) if codec_tokens else [])


def write_tables(data: Path, output: Path, shards: list[Shard], codec_tokens: bool) -> None:
    """Write the scp files of a set from its finished shards; remove those of languages that the set no longer has."""
    entries: dict[str, dict[str, str]] = {"units": {}, "codec": {}}
    for shard in shards:
        entries[shard.kind] |= shard.entries()
    for stale in {path.name for path in output.glob("units.*.scp")} - set(sides(data).values()):
        (output / stale).unlink()
    if codec_tokens:
        write_table(output / "codec.scp", {name: entries["codec"][path] for name, path in wavs(data).items()})
    for suffix, table in sides(data).items():
        write_table(output / table, {name: entries["units"][path] for name, path in wavs(data, suffix).items()})
    logging.info("wrote %s: %s", output,
                 ", ".join(f"{kind} of {len(table)} recordings" for kind, table in entries.items() if table))


def sides(data: Path) -> dict[str, str]:
    """{suffix of wav.scp: file name of its units}, for the utterances and for their translations."""
    return {"": "units.scp"} | {f".{language}": f"units.{language}.scp" for language in languages_of(data, "wav.scp")}


def wavs(data: Path, suffix: str = "") -> dict[str, str]:
    """{utterance: path} of the utterances (suffix ""), or of their translations (suffix ".<language>")."""
    return read_table(data / f"wav.scp{suffix}", "stage 2 (audio)")


def describe(units: Path, codec: Path) -> dict:
    """The contents of meta.json: rates, sizes and hashes of the unit tokenizer and of the codec."""
    unit_size = read_json(units / "config.json", "stage 3 (units)")["size"]
    unit_weights = require(units / "model.safetensors", "stage 3 (units)")
    loaded = load_codec(codec)
    return {"units_rate": UnitTokenizer.rate, "units_size": unit_size, "units_sha256": sha256(unit_weights),
            "codec_rate": loaded.rate, "codec_levels": loaded.levels, "codec_size": loaded.size,
            "codes_sha256": hash_codes(codec)}


def check_meta(output: Path, meta: dict) -> None:
    """Raise AudioPaLMError if `output` has ids of another tokenizer."""
    if not (output / "meta.json").exists():
        return
    earlier = read_json(output / "meta.json")
    for key in ("units_sha256", "codes_sha256"):
        if earlier.get(key) != meta[key]:
            raise AudioPaLMError(f"{output} was made with another tokenizer: {key} {earlier.get(key)}, now "
                                 f"{meta[key]}; remove the directory to tokenize anew")


def plan_shards(kind: str, paths: set[str], output: Path) -> list[Shard]:
    """The audio files in about MAX_SHARDS shards at most, each of about SHARD_SECONDS at least.

    The files are sorted by length, so that those of a shard have similar lengths.
    """
    lengths = {path: count_samples(path) for path in sorted(paths)}
    most = max(SHARD_SECONDS * SAMPLE_RATE, sum(lengths.values()) // MAX_SHARDS)
    shards: list[list[str]] = [[]]
    samples = 0
    for path in sorted(lengths, key=lambda path: (lengths[path], path)):
        if shards[-1] and samples + lengths[path] > most:
            shards.append([])
            samples = 0
        shards[-1].append(path)
        samples += lengths[path]
    logging.info("%s: %s of %d recordings, %.2f h, in %d shards", output, kind, len(lengths),
                 sum(lengths.values()) / SAMPLE_RATE / 3600, len(shards))
    return [Shard(kind, str(output / "shards" / f"{kind}.{number}"), shard) for number, shard in enumerate(shards)]
