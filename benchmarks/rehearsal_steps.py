"""The steps of benchmarks/rehearsal.py that make artificial inputs or replace a model; each in its own process.

A step imports only the packages that it needs, because their memory is measured with it.
"""

import hashlib
import os
import shutil
import sys
from pathlib import Path

import numpy as np

from audiopalm.core.files import write_json, write_text
from audiopalm.corpora.covost2 import INTO_ENGLISH, PUBLISHED, short_code
from audiopalm.data.archive import write_ark
from audiopalm.data.audio import write_audio
from audiopalm.data.datadir import read_table, write_table

SETS = ("train", "dev", "test")
VECTORS, UNITS, LINKS = 20_000, 1024, 30_000
SAMPLE = 300  # utterances of stage 2
ROWS_A_SPEAKER = 15


def counts(language: str, fraction: float) -> list[int]:
    """Rows of train, dev and test."""
    return [max(round(rows * fraction), 2) for rows in PUBLISHED[language]]


def words() -> list[str]:
    random = np.random.default_rng(0)
    syllables = ["".join(pair) for pair in zip(random.choice(list("bcdfghklmnprstvz"), 80),
                                               random.choice(list("aeiou"), 80), strict=True)]
    return ["".join(random.choice(syllables, size)) for size in random.integers(1, 5, 8000)]


def make_downloads(root: Path, fraction: float) -> None:
    """Common Voice and CoVoST 2 as stage 1 reads them."""
    random, lexicon = np.random.default_rng(1), np.array(words())
    sound = root / "sound.mp3"
    write_audio(root / "sound.wav", np.sin(np.arange(16000) / 9).astype(np.float32) / 3)
    shutil.copy(root / "sound.wav", sound)  # libsndfile ignores the suffix
    for language in INTO_ENGLISH:
        folder = root / "downloads" / "cv-corpus-4-2019-12-10" / language
        (folder / "clips").mkdir(parents=True)
        validated = ["client_id\tpath\tsentence\tup_votes\tdown_votes\tage\tgender\taccent"]
        covost = ["path\ttranslation\tsplit"]
        number = 0
        for split, rows in zip(SETS, counts(language, fraction), strict=True):
            for _ in range(rows):
                name = f"common_voice_{language}_{17_000_000 + number}.mp3"
                source, target = (" ".join(lexicon[random.zipf(1.3, random.integers(4, 15)) % len(lexicon)])
                                  for _ in range(2))
                speaker = hashlib.sha512(f"{language} {number // ROWS_A_SPEAKER}".encode()).hexdigest()
                validated.append(f"{speaker}\t{name}\t{source}.\t2\t0\t\t\t")
                covost.append(f"{name}\t{target}.\t{split}")
                if number % LINKS == 0:
                    shutil.copy(sound, folder / "clips" / name)
                    linked = folder / "clips" / name
                else:
                    os.link(linked, folder / "clips" / name)
                number += 1
        write_text(folder / "validated.tsv", "\n".join(validated) + "\n")
        write_text(root / "downloads" / f"covost_v2.{language}_en.tsv", "\n".join(covost) + "\n")
    rows = [counts(language, fraction) for language in INTO_ENGLISH]
    write_json(root / "rows.json", {"all": sum(map(sum, rows)), "test": sum(row[-1] for row in rows)})


def make_tokens(root: Path, fraction: float) -> None:
    """The files of stage 5, with vectors that the utterances share."""
    random = np.random.default_rng(2)
    for name in SETS:
        folder = root / "tokens" / name
        vectors = {f"{number:05d}": random.integers(0, UNITS, length) for number, length in enumerate(
            random.integers(60, 200, VECTORS if name == "train" else 1000).tolist())}
        entries = list(write_ark(folder / "units.ark", vectors).values())
        with open(root / "data" / name / "utt2lang", encoding="utf-8") as table, open(
                folder / "units.scp", "w", encoding="utf-8") as scp:
            for number, line in enumerate(table):
                scp.write(f"{line.split()[0]} {entries[number % len(entries)]}\n")
        write_json(folder / "meta.json", {"units_rate": 25, "units_size": UNITS, "units_sha256": "made up"})


def make_sample(root: Path, fraction: float) -> None:
    """The first utterances of the test set, as utils/subset_data_dir.sh takes them."""
    for name in ("wav.scp", "text", "text.en", "utt2lang", "utt2spk"):
        rows = dict(list(read_table(root / "data" / "test" / name).items())[:SAMPLE])
        write_table(root / "sample" / name, rows)


def load(root: Path, fraction: float) -> None:
    """Open a training's data and read 100 batches."""
    from audiopalm.lm.mixture import MixtureEntry
    from audiopalm.lm.training import BatchConfig, LMConfig, LMInputs, read_data

    data = read_data(LMInputs(root / "vocabulary", *(root / kind / name for kind in ("data", "tokens")
                                                     for name in ("train", "dev"))))
    config = LMConfig([MixtureEntry(task) for task in ("asr", "ast", "asr+ast", "mt")], BatchConfig(8, 1024))
    mixture = data.mixture(config, data.examples, 0)
    for number in range(100):
        mixture.batch(number)


def keep_books(root: Path, fraction: float) -> None:
    """Stage 10 without its model: the plan, shards of artificial answers, and all tables of every folder."""
    from audiopalm.core.config import to_dict
    from audiopalm.data.example_set import read_set
    from audiopalm.lm.generation.config import DecodingConfig
    from audiopalm.lm.trained import TrainedTask
    from audiopalm.stages import decode as decoding
    from audiopalm.stages.decode_record import write_record
    from audiopalm.stages.decode_shards import DecodedShard, ShardAnswer
    from audiopalm.vocabulary.joint import load_vocabulary

    vocabulary, tokenizer = load_vocabulary(root / "vocabulary")
    examples = read_set(root / "data" / "test", root / "tokens" / "test")
    trained = [TrainedTask("ast", short_code(language), "en") for language in INTO_ENGLISH]
    folders, output = [], root / "exp" / "decode" / "test"
    for job in decoding.plan(decoding.DecodeConfig([decoding.DecodeEntry("ast")]), examples, "test", trained):
        meta = {"task": "ast", "source": job.source, "target": "en", "tag": job.task.tag_text(job.source, "en"),
                "decoding": to_dict(DecodingConfig()) | {"seed": 0}, "set": "test", "model_sha256": "0" * 64,
                "vocabulary_hash": vocabulary.layout_hash, "model_seed": 0}
        folders.append(decoding.Folder(output / job.name, meta, job, examples, 64))
    for folder in folders:
        for shard in map(folder.shard, folder.shard_numbers):
            answers = {}
            for name in shard.utterances:
                said = examples.example(name, {"translation"}, "en").fields["translation"].split()
                ids = tokenizer.encode(" ".join(said[:-1] if len(name) % 2 else said))
                answers[name] = [ShardAnswer([ids], False, -1.0)]
            write_json(shard.path, to_dict(DecodedShard(folder.meta, 1.0, answers)))
        folder.finish(vocabulary, tokenizer)
    write_record(output, {folder.path.name: folder.meta for folder in folders})


PARTS = {"downloads": make_downloads, "tokens": make_tokens, "sample": make_sample, "loader": load, "books": keep_books}

if __name__ == "__main__":
    PARTS[sys.argv[1]](Path(sys.argv[2]), float(sys.argv[3]))
