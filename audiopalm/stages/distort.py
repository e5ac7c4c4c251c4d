"""A data directory of stage 2 with its speech distorted, for robust training and for the test sets test_robust_*.

Texts and spoken translations stay as they are. Where two recordings are joined, their texts and translations are joined
in the same order. The same seed gives the same audio. A rerun writes only the missing files.
"""

import hashlib
import logging
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile

from audiopalm.core.config import to_dict
from audiopalm.core.errors import AudioPaLMError, nearest
from audiopalm.core.lock import locked
from audiopalm.core.partials import partial_path
from audiopalm.data.audio import SAMPLE_RATE, read_audio
from audiopalm.data.datadir import invert, languages_of, read_table, remove_tables_by_language, write_table
from audiopalm.data.distortion import CONDITIONS, DistortionConfig, distort, join
from audiopalm.data.speech import count_samples
from audiopalm.stages.jobs import Launcher, Result, run_jobs, work

MADE_BY = "stage 2 (audio)"
JOINED, RANDOM, PLAIN = "joined", "random", "plain"  # further conditions; PLAIN files are not distorted
NAMES = (*CONDITIONS, JOINED, RANDOM)


@dataclass(frozen=True)
class DistortedFile:
    """A FLAC file to write: the recordings `paths`, joined and then distorted by a condition.

    `seed` seeds the random draws.
    """

    paths: list[str]
    condition: str
    seed: str
    settings: str = ""  # the DistortionConfig as text, so that other settings give another file

    def name(self) -> str:
        """The name of the file: the condition and a hash of all fields."""
        described = "\n".join([*self.paths, self.condition, self.seed, self.settings])
        return f"{self.condition}-{hashlib.sha256(described.encode()).hexdigest()[:20]}.flac"


@dataclass
class DistortedSet:
    """The tables of a distorted data directory.

    files: {suffix of wav.scp: {utterance: file to write, or path of an existing file}}. tables: {name of a table:
    {utterance: value}}.
    """

    files: dict[str, dict[str, DistortedFile | str]] = field(default_factory=lambda: defaultdict(dict))
    tables: dict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))

    def new_files(self) -> list[DistortedFile]:
        """The files to write, each once."""
        return list({file.name(): file for table in self.files.values() for file in table.values()
                     if isinstance(file, DistortedFile)}.values())


def distort_set(data: Path, output: Path, audio_dir: Path, condition: str, config: DistortionConfig, seed: int,
                launcher: Launcher) -> None:
    """Write the data directory `output`: `data` under `condition`, a name of CONDITIONS, `joined` or `random`.

    audio_dir: folder for the audio files. config: the distribution that `random` draws distortions from. Raises
    AudioPaLMError for an unknown condition and for missing tables.
    """
    if condition not in NAMES:
        raise AudioPaLMError(f"--condition {condition!r} does not exist; {nearest(condition, NAMES)}")
    made = plan(data, condition, config, seed)
    audio_dir.mkdir(parents=True, exist_ok=True)
    with locked(audio_dir, "distort"), locked(output, "distort"):
        todo = [file for file in made.new_files() if not (audio_dir / file.name()).exists()]
        settings = [f"{key}={value}" for key, value in to_dict(config).items()]
        arguments = ["--audio_dir", str(audio_dir), "--data_dir", str(data), *settings]
        for _ in run_jobs(launcher, "distort_files", arguments, todo, Result, "audio files"):
            pass  # a job's products are the files that it writes
        write_tables(made, output, audio_dir)
    logging.info("wrote %s: %d utterances, %d new audio files", output, len(made.tables["text"]), len(todo))


def plan(data: Path, condition: str, config: DistortionConfig, seed: int) -> DistortedSet:
    """The files and tables of the distorted set.

    Its utterance ids are those of `data` followed by `-<condition>`. The ids of a random set end in its seed, so that a
    training can use several random sets.
    """
    languages = languages_of(data, "wav.scp")
    suffixes = ["", *(f".{code}" for code in languages)]
    wavs = {suffix: read_table(data / f"wav.scp{suffix}", MADE_BY) for suffix in suffixes}
    texts = {name: read_table(data / name, MADE_BY)
             for name in ["text", *(f"text.{code}" for code in languages_of(data, "text"))]}
    speaker, language = (read_table(data / name, MADE_BY) for name in ("utt2spk", "utt2lang"))
    partner = partners(speaker, language, seed)
    settings = repr(config) if condition == RANDOM else ""
    made = DistortedSet()
    for utterance in sorted(wavs[""]):
        parts, kind = [utterance], condition
        random = np.random.default_rng([seed, *utterance.encode()])
        if condition == RANDOM and config.share < 1 and random.random() >= config.share:
            kind = PLAIN
        elif condition == JOINED or (condition == RANDOM and random.random() < config.join):
            parts.append(partner[utterance])
        key = f"{utterance}-{condition}{seed if condition == RANDOM else ''}"
        made.files[""][key] = DistortedFile([wavs[""][part] for part in parts], kind, f"{seed} {utterance}-{condition}",
                                            settings)
        for suffix in [suffix for suffix in wavs if suffix and all(part in wavs[suffix] for part in parts)]:
            paths = [wavs[suffix][part] for part in parts]
            made.files[suffix][key] = paths[0] if len(paths) == 1 else DistortedFile(paths, PLAIN, str(seed))
        for name in [name for name in texts if all(part in texts[name] for part in parts)]:
            made.tables[name][key] = " ".join(texts[name][part] for part in parts)
        made.tables["utt2spk"][key], made.tables["utt2lang"][key] = speaker[utterance], language[utterance]
    return made


def partners(speaker: dict[str, str], language: dict[str, str], seed: int) -> dict[str, str]:
    """{utterance: the utterance that is appended to it when two are joined}, of the same speaker and language."""
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for utterance in sorted(speaker):
        groups[speaker[utterance], language[utterance]].append(utterance)
    appended: dict[str, str] = {}
    for number, group in enumerate(groups.values()):
        order = np.random.default_rng([seed, number]).permutation(len(group))
        appended |= {group[first]: group[second] for first, second in zip(order, np.roll(order, 1), strict=True)}
    return appended


def write_tables(made: DistortedSet, output: Path, audio_dir: Path) -> None:
    """Write the tables of a distorted set into `output`; its files must exist in `audio_dir`."""
    remove_tables_by_language(output)
    wavs = {suffix: {key: file if isinstance(file, str) else str(audio_dir / file.name())
                     for key, file in files.items()} for suffix, files in made.files.items()}
    for name, table in ({f"wav.scp{suffix}": paths for suffix, paths in wavs.items()} | made.tables).items():
        write_table(output / name, table)
    write_table(output / "spk2utt", invert(made.tables["utt2spk"]))
    write_table(output / "utt2dur", {key: f"{count_samples(path) / SAMPLE_RATE:.3f}"
                                     for key, path in wavs.get("", {}).items()})


def distort_files(todo: Path, done: Path, audio_dir: Path, data: Path, config: DistortionConfig) -> None:
    """Write the files of a job; babble is made of recordings of `data`."""
    others = sorted(read_table(data / "wav.scp", MADE_BY).values())
    work(todo, done, DistortedFile, lambda item: write_distorted(item, audio_dir, others, config))


def write_distorted(item: DistortedFile, audio_dir: Path, others: list[str], config: DistortionConfig) -> Result:
    """Write one file. An error is returned as a result, so that the stage reports the error of any job."""
    target = audio_dir / item.name()
    temporary = partial_path(target)
    random = np.random.default_rng(list(item.seed.encode()))

    def speaker(random: np.random.Generator) -> np.ndarray:
        return read_audio(others[random.integers(len(others))])

    try:
        samples = join([read_audio(path) for path in item.paths], random)
        if item.condition == RANDOM:
            samples, _ = distort(samples, config, random, speaker)
        elif item.condition in CONDITIONS:
            samples = CONDITIONS[item.condition](samples, random, speaker)
        soundfile.write(str(temporary), np.clip(samples, -1, 1), SAMPLE_RATE, format="FLAC", subtype="PCM_16")
        temporary.replace(target)
    except AudioPaLMError as error:
        return Result(str(error))
    finally:
        temporary.unlink(missing_ok=True)
    return Result()
