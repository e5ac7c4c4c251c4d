"""Stage 11: the audio units of decode folders to speech, each utterance with a voice prompt; folders can be resumed.

Which recording is the prompt follows from the row of the task (`Output.keeps_source_voice` in audiopalm/tasks.py). For
speech translation it is the source utterance itself, so that the translation keeps the speaker's voice. For text to
speech it is the next utterance of the speaker (by id, wrapping round), never the sentence itself.
"""

import logging
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from audiopalm.acoustic.base import MODEL, Acoustic
from audiopalm.acoustic.registry import load_acoustic
from audiopalm.acoustic.token_meta import check_token_meta, read_token_meta
from audiopalm.codec.base import Codec
from audiopalm.codec.registry import hash_codes, load_codec
from audiopalm.core.config import to_dict
from audiopalm.core.device import best_device
from audiopalm.core.errors import AudioPaLMError, nearest
from audiopalm.core.files import read_json, require, sha256, write_json
from audiopalm.data.archive import TokenArchive
from audiopalm.data.audio import SAMPLE_RATE, write_audio
from audiopalm.data.datadir import check_id, read_table, write_table
from audiopalm.data.speakers import speakers_beside, spread
from audiopalm.stages.decode_record import DECODE, SYNTHESIS, spoken_fingerprint
from audiopalm.tasks import Output, get_task

SILENCE_SECONDS = 0.5  # what an utterance without units becomes
CHUNK = 64  # utterances between two writes


@dataclass
class Job:
    """One decode folder: {utterance: units `[T]`} and {utterance: utterance whose first 3 s are the voice prompt}."""

    folder: Path
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


class Prompts:
    """Source units and codec tokens of a set, for voice prompts."""

    def __init__(self, data_dir: str | Path, tokens: str | Path, acoustic: Acoustic, acoustic_dir: str | Path):
        self.meta = read_token_meta(tokens)
        check_token_meta(acoustic.meta, self.meta, acoustic_dir, tokens)
        self.tokens = Path(tokens)
        self.units = TokenArchive(self.tokens / "units.scp")
        self.codec = TokenArchive(self.tokens / "codec.scp", self.meta["codec_levels"])
        self.language = read_table(Path(data_dir) / "utt2lang", "stage 2 (audio)")
        speaker = read_table(Path(data_dir) / "utt2spk", "stage 2 (audio)")
        self._of_speaker: dict[str, list[str]] = {}
        for utterance in sorted(set(self.codec) & set(self.units), key=str.encode):
            self._of_speaker.setdefault(speaker[utterance], []).append(utterance)
        self._speaker = speaker

    def own(self, utterance: str) -> str:
        if utterance not in self.codec:
            raise AudioPaLMError(f"{self.codec.path} has no codec tokens for the voice prompt of {utterance!r}; "
                                 "tokenize this set with the codec (stage 5)")
        return utterance

    def next(self, utterance: str) -> str:
        """The next utterance of the same speaker; the same one where there is no other."""
        own = self._of_speaker.get(self._speaker[self.own(utterance)], [])
        return own[(own.index(utterance) + 1) % len(own)]

    def others(self, utterances: Iterable[str], language: str) -> dict[str, str]:
        """{utterance: one of another speaker}; raises AudioPaLMError when the set has no other."""
        known = set(self.codec) & set(self.units)
        found, _ = speakers_beside(list(utterances), known, self._speaker, self.language, language)
        if alone := [utterance for utterance in utterances if utterance not in found]:
            raise AudioPaLMError(f"{self.tokens} has no other speaker than that of {alone[0]!r} to prompt with; leave "
                                 "out --other_prompts")
        return found

    def of(self, utterance: str) -> tuple[np.ndarray, np.ndarray]:
        """Units `[P]` and codec tokens `[about 2 * P, levels]` of a prompt utterance."""
        return self.units[utterance], self.codec[utterance].reshape(-1, self.meta["codec_levels"])


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
        jobs.append(Job(folder, units, {utterance: rule(utterance) for utterance in units}))
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
    units, sources = {}, {}
    for names in of_source.values():
        for utterance in spread(names, most):
            if prompts.language[utterance] == language and utterance in prompts.units:
                units[utterance], sources[utterance] = prompts.units[utterance], prompts.next(utterance)
            elif utterance in translated:
                units[utterance], sources[utterance] = translated[utterance], prompts.own(utterance)
    folder = Path(decode_dir) / f"true_tokens_{language}"
    write_json(folder / "meta.json", {"task": "true_tokens", "target": language, "count": len(units)})
    return Job(folder, units, sources)


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
    return Job(folder, units, prompts.others(units, language))


def synthesize(job: Job, prompts: Prompts, acoustic: Acoustic, codec: Codec, models: dict[str, str],
               seed: int) -> None:
    """Write wav/<utterance>.wav, then prompt.scp and wav.scp; `models` are the hashes of the models that speak.

    Files of an interrupted run are kept; those of other units, models or settings are removed first.
    """
    folder, began = job.folder, time.monotonic()
    settings = {"seed": seed, "generation": to_dict(acoustic.generation), **models}
    record = {**settings, "input_sha256": spoken_fingerprint(job.units, job.prompts)}
    found = read_json(folder / SYNTHESIS) if (folder / SYNTHESIS).is_file() else {}
    if any(found.get(key) != value for key, value in record.items()):
        (folder / "wav.scp").unlink(missing_ok=True)
        shutil.rmtree(folder / "wav", ignore_errors=True)
        write_json(folder / SYNTHESIS, record)
    elif (folder / "wav.scp").is_file():
        logging.info("%s: %d files are there already", folder, len(job.units))
        return
    missing = [utterance for utterance in job.units if not (folder / "wav" / f"{utterance}.wav").is_file()]
    audio_seconds = 0.0
    for utterance, samples in _speech(missing, job, prompts, acoustic, codec, seed):
        write_audio(folder / "wav" / f"{utterance}.wav", samples)
        audio_seconds += len(samples) / SAMPLE_RATE
    empty = sum(len(units) == 0 for units in job.units.values())
    seconds = time.monotonic() - began
    write_table(folder / "prompt.scp", job.prompts)
    write_json(folder / SYNTHESIS, {**record, "count": len(job.units), "empty": empty})
    write_table(folder / "wav.scp", {utterance: str(folder / "wav" / f"{utterance}.wav") for utterance in job.units})
    logging.info("%s: wrote %d of %d files, %d of them silence for want of units; %.0f s of speech in %.0f s, "
                 "real-time factor %.3f", folder, len(missing), len(job.units), empty, audio_seconds, seconds,
                 seconds / max(audio_seconds, 1e-9))


def _speech(names: list[str], job: Job, prompts: Prompts, acoustic: Acoustic, codec: Codec,
            seed: int) -> Iterator[tuple[str, np.ndarray]]:
    """Each utterance with its samples `[T]`; neighbours in length are made together."""
    names = sorted(names, key=lambda name: len(job.units[name]))
    for first in range(0, len(names), CHUNK):
        chunk = names[first:first + CHUNK]
        voices = [prompts.of(job.prompts[name]) for name in chunk]
        tokens = acoustic.generate([job.units[name] for name in chunk], [units for units, _ in voices],
                                   [many for _, many in voices], seed)
        spoken = [name for name, one in zip(chunk, tokens, strict=True) if len(one)]
        samples = dict(zip(spoken, codec.decode([one for one in tokens if len(one)]), strict=True))
        for name in chunk:
            yield name, samples.get(name, np.zeros(round(SILENCE_SECONDS * SAMPLE_RATE), dtype=np.float32))


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
    overrides: Sequence[str] = ()


def synthesize_set(options: SpeechOptions) -> None:
    """Stage 11: speak every decode of a set, the ceiling, and what other speakers are to prompt."""
    device = best_device()
    acoustic = load_acoustic(options.acoustic, device, options.overrides)
    codec = load_codec(options.codec, device)
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
    models = {"acoustic_sha256": sha256(options.acoustic / MODEL), "codec_sha256": sha256(options.codec / MODEL)}
    for job in decoded + ceilings:
        synthesize(job, prompts, acoustic, codec, models, options.seed)
    for job in decoded:
        if options.other_prompts and spoken_output(job.folder).keeps_source_voice:
            synthesize(other_job(job, prompts, options.other_prompts), prompts, acoustic, codec, models, options.seed)
