"""Stage 11: the audio units of decode folders to speech, each utterance with a voice prompt; folders can be resumed.

The speech is made in jobs (synthesize_shards.py), a file for each utterance or archives of many. Which recording is the
prompt follows from the row of the task (`Output.keeps_source_voice` in audiopalm/tasks.py). For speech translation it
is the source utterance itself, so that the translation keeps the speaker's voice. For text to speech it is the next
utterance of the speaker (by id, wrapping round), never the sentence itself.
"""

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from audiopalm.acoustic.base import MODEL, Acoustic
from audiopalm.acoustic.registry import load_acoustic
from audiopalm.codec.registry import hash_codes
from audiopalm.core.config import to_dict
from audiopalm.core.errors import AudioPaLMError, nearest
from audiopalm.core.files import read_json, require, sha256, write_json
from audiopalm.data.archive import TokenArchive
from audiopalm.data.datadir import check_id, write_table
from audiopalm.data.speakers import spread
from audiopalm.stages.audio_store import AudioStore, archive_stem
from audiopalm.stages.decode_record import DECODE, SYNTHESIS, spoken_fingerprint
from audiopalm.stages.jobs import Launcher, dealt, run_jobs
from audiopalm.stages.prompt_utterances import Prompts
from audiopalm.stages.synthesize_shards import SpeechShard, SpokenShard
from audiopalm.tasks import Output, get_task

SHARD = 256  # utterances: what a kill loses at most, per job, where they are written to archives


@dataclass
class Job:
    """One decode folder: {utterance: entry of its units in an archive}, {utterance: units `[T]`} and {utterance:
    utterance whose first 3 s are the voice prompt}."""

    folder: Path
    entries: dict[str, str]
    units: dict[str, np.ndarray]
    prompts: dict[str, str]

    def __post_init__(self):
        for utterance in self.units:  # files are named by them
            check_id(utterance, self.folder)


def check_codec(acoustic: Acoustic, codec_dir: str | Path) -> None:
    """Refuse a codec whose tokens the acoustic model does not speak, showing both hashes."""
    _check_hash("codes of codec", hash_codes(codec_dir), acoustic.meta["codes_sha256"], codec_dir)


def check_units(acoustic: Acoustic, units_dir: str | Path) -> None:
    """Refuse a tokenizer whose units the acoustic model does not know, showing both hashes."""
    found = sha256(require(Path(units_dir) / MODEL, "stage 3 (units)"))
    _check_hash("units", found, acoustic.meta["units_sha256"], units_dir)


def _check_hash(name: str, found: str, expected: str, directory: str | Path) -> None:
    if found != expected:
        raise AudioPaLMError(f"the acoustic model was trained with {name} {expected}, {directory} holds {found}; "
                             "tokenize (stage 5) and train the acoustic model (stage 9) with the same models")


def spoken_output(folder: Path) -> Output:
    """The audio part of the task of a decode folder."""
    task = get_task(read_json(folder / "meta.json", DECODE)["task"])
    if task.spoken is None:
        raise AudioPaLMError(f"{folder} has units, but the task {task.name!r} does not speak; run {DECODE} again")
    return task.spoken


def decoded_jobs(decode_dir: str | Path, names: list[str] | None, prompts: Prompts,
                 limit: int | None = None) -> list[Job]:
    """The decode folders that hold units (`names`: only these), of each the first `limit` utterances by id."""
    found = sorted(path.parent.name for path in Path(decode_dir).glob("*/units.scp"))
    for name in names or []:
        if name not in found:
            raise AudioPaLMError(f"{decode_dir} has no decode {name!r} with units; {nearest(name, found)}")
    jobs = []
    for name in names or found:
        folder = Path(decode_dir) / name
        rule = prompts.own if spoken_output(folder).keeps_source_voice else prompts.next
        archive = TokenArchive(folder / "units.scp")
        units = {utterance: archive[utterance] for utterance in sorted(archive, key=str.encode)[:limit]}
        entries = {utterance: archive.table[utterance] for utterance in units}
        jobs.append(Job(folder, entries, units, {utterance: rule(utterance) for utterance in units}))
    return jobs


def true_job(decode_dir: str | Path, language: str, prompts: Prompts, chosen: set[str], most: int | None = None) -> Job:
    """The ceiling: true units of speech in `language`, for the utterances `chosen` (empty: the whole set), of each
    source language at most `most`, evenly spread over the ids and with them over the speakers.

    Utterances that are spoken in `language` are treated as in text to speech, the others as in speech translation.
    """
    translated = TokenArchive(prompts.tokens / f"units.{language}.scp")
    of_source: dict[str, list[str]] = {}
    for utterance in sorted(chosen or prompts.language, key=str.encode):
        of_source.setdefault(prompts.language[utterance], []).append(utterance)
    entries, units, sources = {}, {}, {}
    for names in of_source.values():
        for utterance in spread(names, most):
            if prompts.language[utterance] == language and utterance in prompts.units:
                archive, sources[utterance] = prompts.units, prompts.next(utterance)
            elif utterance in translated:
                archive, sources[utterance] = translated, prompts.own(utterance)
            else:
                continue
            entries[utterance], units[utterance] = archive.table[utterance], archive[utterance]
    folder = Path(decode_dir) / f"true_tokens_{language}"
    write_json(folder / "meta.json", {"task": "true_tokens", "target": language, "count": len(units)})
    return Job(folder, entries, units, sources)


def other_job(job: Job, prompts: Prompts, most: int) -> Job:
    """At most so many utterances of a decode, evenly spread over the ids, each with the prompt of another speaker.

    The speakers are those that the scores compare the voice of the output with. meta.json says by a hash beside which
    speech of the decode it was made, so that it is not scored beside a later one.
    """
    language = read_json(job.folder / "meta.json", DECODE)["source"]
    units = {utterance: job.units[utterance] for utterance in spread(job.units, most)}
    folder = job.folder.parent / f"other_prompt_{job.folder.name}"
    write_json(folder / "meta.json", {"task": "other_prompt", "source": language, "count": len(units),
                                      "beside_sha256": sha256(job.folder / SYNTHESIS)})
    entries = {utterance: job.entries[utterance] for utterance in units}
    return Job(folder, entries, units, prompts.others(units, language))


class Folder:
    """The speech of a job: recordings in `wav/`, then prompt.scp and wav.scp.

    `settings` are those of the models that speak. Recordings of an interrupted run are kept; those of other units,
    models or settings are removed first.
    """

    def __init__(self, job: Job, settings: dict[str, Any], audio_format: str):
        self.job, self.path = job, job.folder
        self.record = {**settings, "input_sha256": spoken_fingerprint(job.units, job.prompts)}
        found = read_json(self.path / SYNTHESIS) if (self.path / SYNTHESIS).is_file() else {}
        if any(found.get(key) != value for key, value in self.record.items()):
            (self.path / "wav.scp").unlink(missing_ok=True)
            shutil.rmtree(self.path / "wav", ignore_errors=True)
            write_json(self.path / SYNTHESIS, self.record)
        self.is_finished = (self.path / "wav.scp").is_file()
        self.store = AudioStore(self.path / "wav", audio_format)

    def shards(self, jobs: int) -> list[SpeechShard]:
        """What is missing; utterances of similar lengths are made together."""
        names = sorted(self.job.units, key=lambda name: (len(self.job.units[name]), name.encode()))
        size = max(min(SHARD, -(-len(names) // max(jobs, 1))), 1)
        shards = []
        for first in range(0, len(names), size):
            part = names[first:first + size]
            missing = [name for name in part if not self.store.seconds(name)]
            if missing:
                made = part if self.store.in_archives else missing  # an archive is made as a whole
                shards.append(SpeechShard(str(self.path / "wav"), archive_stem(part), made,
                                          [self.job.entries[name] for name in made],
                                          [self.job.prompts[name] for name in made]))
        return shards

    def finish(self, spoken: list[SpokenShard]) -> None:
        """Write the tables; `spoken` is what was made in this run."""
        self.store.read_indexes()
        names = self.job.units
        empty = sum(len(units) == 0 for units in names.values())
        write_table(self.path / "prompt.scp", self.job.prompts)
        write_json(self.path / SYNTHESIS, {**self.record, "count": len(names), "empty": empty})
        write_table(self.path / "wav.scp", {name: self.store.path(name) for name in names})
        audio, seconds = sum(one.audio for one in spoken), sum(one.seconds for one in spoken)
        logging.info("%s: spoke %d of %d utterances, %d of them silence for want of units; %.0f s of speech in %.0f s "
                     "of all jobs, real-time factor %.3f", self.path, sum(one.count for one in spoken), len(names),
                     empty, audio, seconds, seconds / max(audio, 1e-9))


@dataclass(frozen=True)
class SpeechOptions:
    """What stage 11 speaks of one set; the fields are the options of its command."""

    decode_dir: Path
    data_dir: Path
    tokens: Path
    acoustic: Path
    codec: Path
    names: str | None = None
    true_tokens: str = ""
    true_most: int | None = None
    other_prompts: int = 0
    limit: int | None = None
    seed: int = 0
    audio_format: str = "wav"
    overrides: Sequence[str] = ()


def synthesize_set(options: SpeechOptions, launcher: Launcher) -> None:
    """Stage 11: speak every decode of a set, the ceiling, and what other speakers are to prompt."""
    acoustic = load_acoustic(options.acoustic, "cpu", options.overrides)
    check_codec(acoustic, options.codec)
    prompts = Prompts(options.data_dir, options.tokens, acoustic, options.acoustic)
    decoded = decoded_jobs(options.decode_dir, options.names.split() if options.names else None, prompts,
                           options.limit)
    chosen = {utterance for job in decoded for utterance in job.units}
    ceilings = [true_job(options.decode_dir, language, prompts, chosen, options.true_most)
                for language in options.true_tokens.split()]
    if not list(options.decode_dir.glob("*/meta.json")):
        raise AudioPaLMError(f"{options.decode_dir} holds no decode; run {DECODE} first")
    if not decoded + ceilings:
        logging.info("%s: no decode speaks, there is nothing to synthesize", options.decode_dir)
    settings = {"seed": options.seed, "generation": to_dict(acoustic.generation),
                "acoustic_sha256": sha256(options.acoustic / MODEL), "codec_sha256": sha256(options.codec / MODEL)}
    speak(decoded + ceilings, settings, options, launcher)
    if options.other_prompts:
        speak([other_job(job, prompts, options.other_prompts) for job in decoded
               if spoken_output(job.folder).keeps_source_voice], settings, options, launcher)


def speak(jobs: list[Job], settings: dict[str, Any], options: SpeechOptions, launcher: Launcher) -> None:
    """Speak several folders by the same jobs of the launcher."""
    folders = [Folder(job, settings, options.audio_format) for job in jobs]
    for folder in folders:
        if folder.is_finished:
            logging.info("%s: %d recordings are there already", folder.path, len(folder.job.units))
    folders = [folder for folder in folders if not folder.is_finished]
    shards = [shard for folder in folders for shard in folder.shards(launcher.number)]
    arguments = ["--acoustic", str(options.acoustic), "--codec", str(options.codec), "--seed", str(options.seed),
                 "--data_dir", str(options.data_dir), "--tokens", str(options.tokens),
                 "--audio_format", options.audio_format, *options.overrides]
    spoken = list(run_jobs(launcher, "synthesize_shards", arguments, dealt(shards, launcher.number), SpokenShard,
                           "shards"))
    for folder in folders:
        folder.finish([one for one in spoken if one.folder == str(folder.path / "wav")])
