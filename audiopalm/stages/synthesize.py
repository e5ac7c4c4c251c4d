"""Stage 11: the audio units of decode folders to speech, each utterance with a voice prompt; folders can be resumed.

The speech is made in jobs (synthesize_shards.py), as a file for each utterance or as archives of many. The row of the
task decides which recording is the prompt (`Output.keeps_source_voice` in audiopalm/tasks.py). For speech translation
the prompt is the source utterance itself, so that the translation has the speaker's voice. For text to speech it is the
next utterance of the speaker (by id, wrapping round), never the sentence itself.
"""

import logging
import shutil
from collections.abc import Iterable
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
from audiopalm.stages.decode_record import DECODE, SPEECH_KEYS, SYNTHESIS, spoken_fingerprint
from audiopalm.stages.jobs import Launcher, dealt, run_jobs
from audiopalm.stages.prompt_utterances import SILENCE, Prompts
from audiopalm.stages.synthesize_shards import PROMPT_SECONDS, SpeakerOptions, SpeechShard, SpokenShard
from audiopalm.tasks import Output, get_task

# own: the prompt that the row of the task names. other: a prompt of another speaker. none: silence.
PROMPTS = ("own", "other", "none")
SHARD = 256  # utterances in a shard; when archives are written, a killed job loses at most this many


@dataclass
class Job:
    """One decode folder to speak.

    entries: {utterance: entry of its units in a token archive}. units: {utterance: int32 `[T]`}. prompts: {utterance:
    utterance whose first 3 s are its voice prompt}. Raises AudioPaLMError for an id that cannot name a file.
    """

    folder: Path
    entries: dict[str, str]
    units: dict[str, np.ndarray]
    prompts: dict[str, str]

    def __post_init__(self) -> None:
        for utterance in self.units:  # files are named by the ids
            check_id(utterance, self.folder)


def check_codec(acoustic: Acoustic, codec_dir: str | Path) -> None:
    """Raise AudioPaLMError, with both hashes, if the acoustic model was trained on tokens of another codec."""
    _check_hash("codes of codec", hash_codes(codec_dir), acoustic.meta["codes_sha256"], codec_dir)


def check_units(acoustic: Acoustic, units_dir: str | Path) -> None:
    """Raise AudioPaLMError, with both hashes, if the acoustic model was trained on units of another tokenizer."""
    found = sha256(require(Path(units_dir) / MODEL, "stage 3 (units)"))
    _check_hash("units", found, acoustic.meta["units_sha256"], units_dir)


def _check_hash(name: str, found: str, expected: str, directory: str | Path) -> None:
    if found != expected:
        raise AudioPaLMError(f"the acoustic model was trained with {name} {expected}, {directory} holds {found}; "
                             "tokenize (stage 5) and train the acoustic model (stage 9) with the same models")


def spoken_output(folder: Path) -> Output:
    """The audio part of the task of a decode folder. Raises AudioPaLMError if the task does not speak."""
    task = get_task(read_json(folder / "meta.json", DECODE)["task"])
    if task.spoken is None:
        raise AudioPaLMError(f"{folder} has units, but the task {task.name!r} does not speak; run {DECODE} again")
    return task.spoken


def _prompts_of(folder: Path, units: Iterable[str], prompts: Prompts, prompt: str) -> dict[str, str]:
    """{utterance: utterance that prompts it, or SILENCE} of a decode folder; `prompt` is one of PROMPTS."""
    if prompt == "none":
        return dict.fromkeys(units, SILENCE)
    if prompt == "other":
        return prompts.others(units, read_json(folder / "meta.json", DECODE)["source"])
    rule = prompts.own if spoken_output(folder).keeps_source_voice else prompts.next
    return {utterance: rule(utterance) for utterance in units}


def decoded_jobs(decode_dir: str | Path, names: list[str] | None, prompts: Prompts,
                 limit: int | None = None, prompt: str = "own") -> list[Job]:
    """The jobs for the decode folders that have units, or only for those in `names`.

    limit: maximum number of utterances per folder, the first by id. prompt: one of PROMPTS. Raises AudioPaLMError for
    an unknown name.
    """
    with_units = sorted(path.parent.name for path in Path(decode_dir).glob("*/units.scp"))
    for name in names or []:
        if name not in with_units:
            raise AudioPaLMError(f"{decode_dir} has no decode {name!r} with units; {nearest(name, with_units)}")
    jobs = []
    for name in names or with_units:
        folder = Path(decode_dir) / name
        archive = TokenArchive(folder / "units.scp")
        units = {utterance: archive[utterance] for utterance in sorted(archive, key=str.encode)[:limit]}
        entries = {utterance: archive.table[utterance] for utterance in units}
        jobs.append(Job(folder, entries, units, _prompts_of(folder, units, prompts, prompt)))
    return jobs


def true_job(decode_dir: str | Path, language: str, prompts: Prompts, chosen: set[str], most: int | None = None) -> Job:
    """The job of the ceiling: true units of speech in `language`, for the utterances `chosen` (empty: the whole set).

    most: maximum number of utterances per source language, evenly spaced over the sorted ids. Utterances whose source
    is in `language` get the prompts of text to speech, the others those of speech translation.
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
    """The job of at most `most` utterances of a decode, evenly spaced, each with the prompt of another speaker.

    The other speakers are those whose voices stage 12 compares the output with. meta.json has the hash of the decode's
    synthesis.json, so that this speech is not scored with later speech of the decode.
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

    `settings` are the hashes and settings of the models that speak. Recordings of an interrupted run stay; recordings
    that were made from other units, or by other models or settings, are removed first.
    """

    def __init__(self, job: Job, settings: dict[str, Any], audio_format: str) -> None:
        self.job, self.path = job, job.folder
        self.record = {**settings, "input_sha256": spoken_fingerprint(job.units, job.prompts)}
        earlier = read_json(self.path / SYNTHESIS) if (self.path / SYNTHESIS).is_file() else {}
        if any(earlier.get(key) != self.record.get(key) for key in {*self.record, *SPEECH_KEYS}):
            (self.path / "wav.scp").unlink(missing_ok=True)
            shutil.rmtree(self.path / "wav", ignore_errors=True)
            write_json(self.path / SYNTHESIS, self.record)
        self.is_finished = (self.path / "wav.scp").is_file()
        self.store = AudioStore(self.path / "wav", audio_format)

    def shards(self, jobs: int) -> list[SpeechShard]:
        """Shards of the missing utterances, for `jobs` jobs; utterances of similar lengths share a shard."""
        names = sorted(self.job.units, key=lambda name: (len(self.job.units[name]), name.encode()))
        size = max(min(SHARD, -(-len(names) // max(jobs, 1))), 1)
        shards = []
        for first in range(0, len(names), size):
            part = names[first:first + size]
            missing = [name for name in part if not self.store.seconds(name)]
            if missing:
                made = part if self.store.in_archives else missing  # an archive is written as a whole
                shards.append(SpeechShard(str(self.path / "wav"), archive_stem(part), made,
                                          [self.job.entries[name] for name in made],
                                          [self.job.prompts[name] for name in made]))
        return shards

    def finish(self, spoken: list[SpokenShard]) -> None:
        """Write the tables. `spoken` are the reports on the shards of this run."""
        self.store.read_indexes()
        units = self.job.units
        empty = sum(len(ids) == 0 for ids in units.values())
        write_table(self.path / "prompt.scp", self.job.prompts)
        write_json(self.path / SYNTHESIS, {**self.record, "count": len(units), "empty": empty})
        write_table(self.path / "wav.scp", {name: self.store.path(name) for name in units})
        audio, seconds = sum(shard.audio for shard in spoken), sum(shard.seconds for shard in spoken)
        logging.info("%s: spoke %d of %d utterances, %d of them silence because they have no units; %.0f s of speech "
                     "in %.0f s of all jobs, real-time factor %.3f", self.path, sum(shard.count for shard in spoken),
                     len(units), empty, audio, seconds, seconds / max(audio, 1e-9))


@dataclass(frozen=True, kw_only=True)
class SpeechOptions(SpeakerOptions):
    """The inputs and settings of stage 11 for one set. The fields are the options of its command."""

    decode_dir: Path
    names: str | None = None
    true_tokens: str = ""
    true_most: int | None = None
    other_prompts: int = 0
    limit: int | None = None
    prompt: str = "own"


def synthesize_set(options: SpeechOptions, launcher: Launcher) -> None:
    """Stage 11: speak every decode of a set, the ceilings, and the speech with prompts of other speakers.

    Raises AudioPaLMError for missing inputs, for models that do not fit each other, and if a job fails.
    """
    acoustic = load_acoustic(options.acoustic, "cpu", options.overrides)
    check_codec(acoustic, options.codec)
    prompts = Prompts(options.data_dir, options.tokens, acoustic, options.acoustic)
    decoded = decoded_jobs(options.decode_dir, options.names.split() if options.names else None, prompts,
                           options.limit, options.prompt)
    chosen = {utterance for job in decoded for utterance in job.units}
    ceilings = [true_job(options.decode_dir, language, prompts, chosen, options.true_most)
                for language in options.true_tokens.split()]
    if not list(options.decode_dir.glob("*/meta.json")):
        raise AudioPaLMError(f"{options.decode_dir} holds no decode; run {DECODE} first")
    if not decoded + ceilings:
        logging.info("%s: no decode speaks, there is nothing to synthesize", options.decode_dir)
    settings = {"seed": options.seed, "generation": to_dict(acoustic.generation),
                "acoustic_sha256": sha256(options.acoustic / MODEL), "codec_sha256": sha256(options.codec / MODEL)}
    if options.prompt_seconds != PROMPT_SECONDS:  # the names of the prompts are in the fingerprint of the inputs
        settings["prompt_seconds"] = options.prompt_seconds
    speak(decoded + ceilings, settings, options, launcher)
    if options.other_prompts:
        speak([other_job(job, prompts, options.other_prompts) for job in decoded
               if spoken_output(job.folder).keeps_source_voice], settings, options, launcher)


def speak(jobs: list[Job], settings: dict[str, Any], options: SpeechOptions, launcher: Launcher) -> None:
    """Speak the folders of `jobs` together, in one run of the launcher."""
    folders = [Folder(job, settings, options.audio_format) for job in jobs]
    for folder in folders:
        if folder.is_finished:
            logging.info("%s: %d recordings are there already", folder.path, len(folder.job.units))
    folders = [folder for folder in folders if not folder.is_finished]
    shards = [shard for folder in folders for shard in folder.shards(launcher.number)]
    spoken = list(run_jobs(launcher, "synthesize_shards", options.arguments(), dealt(shards, launcher.number),
                           SpokenShard, "shards"))
    for folder in folders:
        folder.finish([shard for shard in spoken if shard.folder == str(folder.path / "wav")])
