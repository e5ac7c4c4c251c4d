"""Rows of results.json for one set: every part of every decode, and the ceilings of speech.

The scored texts are written as tables, normalised: `<output>/<set>/<decode>/<part>.ref` and `.hyp`, for speech
`<part>.<judge>[.<ceiling>].ref` and `.hyp`. sacreBLEU and jiwer give the same values for these texts, and
audiopalm.bin.compare compares two folders of them.
"""

import hashlib
import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

import numpy as np

from audiopalm.core.errors import AudioPaLMError
from audiopalm.data.audio import read_audio
from audiopalm.data.columns import TableFile
from audiopalm.data.datadir import write_lines, write_table
from audiopalm.data.speakers import speakers_beside, spread
from audiopalm.scoring.consistency import Conditions
from audiopalm.scoring.decodes import SCORE, Decode, TestSet
from audiopalm.scoring.judge import JUDGED_LANGUAGE, judge_signature, transcribe
from audiopalm.scoring.metrics import OVERLAPS, Score, bootstrap, score
from audiopalm.scoring.prosody import Prosodies, likeness
from audiopalm.scoring.quality import SIGNATURE as DNSMOS
from audiopalm.scoring.quality import dnsmos
from audiopalm.scoring.results import MODEL_DIGITS, ResultRow
from audiopalm.scoring.speaker_encoder import Resemblyzer, SpeakerEncoder
from audiopalm.scoring.text import Normaliser, get_normaliser
from audiopalm.scoring.voice import Voices, cosines, wins
from audiopalm.stages.decode_record import decode_fingerprint
from audiopalm.tasks import Output, decode_name, get_task

JUDGED = {"asr_bleu": "bleu", "asr_wer": "wer"}  # name in rows -> metric that is computed from a judge's transcripts
BY_MODEL = ("model", "other", "other_prompt")  # systems whose speech is made from the model's units


@dataclass(frozen=True)
class Run:
    """Settings that all rows of a scoring share.

    judges: {name: number of utterances judged per folder, or None for all}. The normalisers are `translations` for BLEU
    and chrF of text, `recognition` for WER and CER of text, and `speech` for the transcripts of judges and their
    references.
    """

    recipe: str
    seed: int
    code: str
    output: Path
    judges: Mapping[str, int | None]
    processes: int
    translations: str = "basic"
    recognition: str = "basic"
    speech: str = "english"
    encoders: tuple[SpeakerEncoder, ...] = field(default_factory=lambda: (Resemblyzer(),))  # of voices
    quality: int = 0  # utterances per folder whose DNSMOS is measured, which takes about two seconds each


@dataclass(frozen=True)
class Part:
    """One part of the answers of one decode, which rows are made of."""

    test_set: TestSet
    decode: Decode
    output: Output
    run: Run

    @property
    def language(self) -> str:
        return self.decode.language(self.output)


def score_set(test_set: TestSet, run: Run) -> list[ResultRow]:
    """All rows of a set. Transcripts of judges are also written as they are, to `.heard` beside `.ref` and `.hyp`."""
    rows, voices = [], [Voices(run.output / "voice", encoder) for encoder in run.encoders]
    for decode in test_set.decodes:
        for output in decode.task.outputs:
            part = Part(test_set, decode, output, run)
            if not output.is_audio:
                rows += _text_rows(part)
            elif part.language != JUDGED_LANGUAGE:
                logging.info("%s: no independent judge of %s", decode.folder, part.language)
            else:
                rows += _judged_rows(part)
            if output.keeps_source_voice:
                rows += _voice_rows(part, voices)
    return rows


def texts_path(row: ResultRow) -> Path:
    """The path of the texts behind a row of results.json, in the folder of the scores; without `.ref` or `.hyp`."""
    judge = re.sub(r"[^\w.-]+", "_", row.judge.split(",")[0]) if row.judge else ""
    system = "" if row.system == "model" else row.system
    name = ".".join(word for word in (row.part, judge, system) if word)
    return Path(row.set) / decode_name(get_task(row.task), row.source or "", row.target) / name


def scored_texts(score_dir: str | Path, row: ResultRow) -> tuple[TableFile, TableFile]:
    """References and hypotheses behind a row, normalised, as tables of the same utterances.

    Raises AudioPaLMError when they are missing or of different utterances.
    """
    stem = f"{score_dir}/{texts_path(row)}"
    references = TableFile(f"{stem}.ref", SCORE)
    hypotheses = TableFile(f"{stem}.hyp", SCORE, references.columns.ids)
    if odd := references.other_ids(hypotheses):
        raise AudioPaLMError(f"{stem}.ref and .hyp have different utterances, e.g. {odd[0]!r}; run {SCORE} again")
    return references, hypotheses


def _text_rows(part: Part) -> list[ResultRow]:
    hypotheses = part.decode.hypotheses(part.output)
    references = part.test_set.references(part.decode, part.output, hypotheses)
    metrics = part.output.metrics
    name = part.run.translations if set(metrics) & set(OVERLAPS) else part.run.recognition
    return _scored(part, references, hypotheses, get_normaliser(name, part.language),
                   {metric: metric for metric in metrics})


def _judged_rows(part: Part) -> list[ResultRow]:
    test_set, decode, run = part.test_set, part.decode, part.run
    spoken = decode.hypotheses(part.output)
    references = test_set.references(decode, part.output, spoken)
    systems = {"model": spoken, "true_tokens": test_set.true_tokens(decode, part.output),
               "true_audio": test_set.true_audio(decode, part.output)}
    rows = []
    for judge, limit in run.judges.items():
        for system, files in systems.items():
            names = [name for name in sorted(references, key=str.encode)[:limit] if name in files]
            if not names:
                logging.info("%s: no %s to judge", decode.folder, system)
                continue
            transcripts = transcribe(judge, {name: files[name] for name in names}, run.output / "judge", run.processes)
            judged = _scored(part, {name: references[name] for name in names}, transcripts,
                             get_normaliser(run.speech, part.language),
                             {metric: JUDGED[metric] for metric in part.output.metrics}, system, judge_signature(judge))
            write_table(run.output / f"{texts_path(judged[0])}.heard", transcripts)
            rows += judged
    return rows


def _scored(part: Part, references: Mapping[str, str], hypotheses: Mapping[str, str], normalise: Normaliser,
            metrics: Mapping[str, str], system: str = "model", judge: str | None = None) -> list[ResultRow]:
    """A row for each of `metrics`, {name in the row: metric}, and the texts behind the rows."""
    names: list[str] = []
    texts: tuple[list[str], list[str]] = [], []
    for name in sorted(references, key=str.encode):
        if words := normalise(references[name]):
            names.append(name)
            texts[0].append(words)
            texts[1].append(normalise(hypotheses[name]))
    if len(names) < len(references):
        logging.warning("%s: left out %d of %d utterances, whose reference is punctuation alone", part.decode.folder,
                        len(references) - len(names), len(references))
    ids = _ids(map("\t".join, zip(names, texts[0], strict=True)))
    rows = [_row(part, name, score(metric, *texts, part.language), ids, system, normalise.signature, judge)
            for name, metric in metrics.items()]
    for column, ending in zip(texts, ("ref", "hyp"), strict=True):
        write_lines(part.run.output / f"{texts_path(rows[0])}.{ending}", zip(names, column, strict=True))
    return rows


def _voice_rows(part: Part, voices: list[Voices]) -> list[ResultRow]:
    """Rows about voice, acoustic conditions and prosody of the output, and its DNSMOS for `run.quality` utterances.

    The output is compared with its source and with a recording of another speaker; the two true recordings are compared
    too. If stage 11 has also made the speech with the prompts of other speakers, that speech gets the same rows. The
    other speaker speaks the same language, or any language if the set has no such speaker; the signature says which.
    """
    test_set, decode, run = part.test_set, part.decode, part.run
    spoken = decode.hypotheses(part.output)
    recordings = test_set.table("wav.scp")
    others, company = speakers_beside(spoken, recordings, test_set.table("utt2spk"), test_set.table("utt2lang"),
                                      decode.source)
    sources = {name: recordings[name] for name in spoken}
    other_files = {name: recordings[other] for name, other in others.items()}
    systems = {"model": spoken} | {
        system: {name: files[name] for name in spoken if name in files}
        for system, files in (("true_tokens", test_set.true_tokens(decode, part.output)),
                              ("true_audio", test_set.true_audio(decode, part.output)))}
    if wrong := test_set.other_prompt(decode):
        systems["other_prompt"] = wrong
    measured: list[tuple[str, str, Mapping[str, float | None], str]] = []  # metric, system, values, signature
    encoders: list[Voices | Conditions] = [*voices, Conditions(recordings)]
    for encoder in encoders:
        signature = f"{encoder.signature}, other speaker of {company}"
        own, other = encoder.embed(sources), encoder.embed(other_files)
        for system, files in systems.items():
            made = encoder.embed(files)
            near, far = cosines(made, own), cosines(made, other)
            measured.append((encoder.metric, system, near, signature))
            if system == "model":
                measured.append((encoder.metric, "other", far, signature))
            if isinstance(encoder, Voices) and system != "true_audio":
                measured.append((encoder.win_metric, system, wins(near, far), signature))
    if run.quality:
        chosen = spread(spoken, run.quality)
        measured += [("dnsmos", system, {name: dnsmos(read_audio(files[name])) for name in chosen if name in files},
                      DNSMOS) for system, files in systems.items()]
    rows, prosodies = [], Prosodies()
    for system, files in systems.items():
        found = likeness(prosodies.of(files), prosodies.of(sources))
        ids = _ids(sorted(files, key=str.encode))
        rows += [_row(part, metric, result, ids, system) for metric, result in found.items()]
    for metric, system, all_values, signature in measured:
        values = {name: value for name, value in all_values.items() if value is not None}
        if not values:
            logging.info("%s: no %s of %s (one speaker, silence, or no such speech)", decode.folder, metric, system)
            continue
        rows.append(_row(part, metric, _mean(values, signature), _ids(sorted(values, key=str.encode)), system))
    return rows


def _mean(values: Mapping[str, float], signature: str) -> Score:
    statistics = np.array([(values[name], 1) for name in sorted(values, key=str.encode)], dtype=np.float64)
    low, high = bootstrap(statistics, lambda total: total[0] / total[1])
    return Score(fmean(values.values()), low, high, len(values), signature)


def _ids(utterances: Iterable[str]) -> str:
    """The field `ids` of a row: a hash of the scored utterances, in byte order, each with its reference if any."""
    digest = hashlib.sha256()
    for utterance in utterances:
        digest.update(utterance.encode() + b"\n")
    return digest.hexdigest()[:16]


def _row(part: Part, metric: str, result: Score, ids: str, system: str = "model", normaliser: str | None = None,
         judge: str | None = None) -> ResultRow:
    """One row of results.json."""
    meta, by_model = part.decode.meta, system in BY_MODEL
    return ResultRow(
        recipe=part.run.recipe, set=part.test_set.name, task=meta["task"], part=part.output.part, source=meta["source"],
        target=meta["target"], metric=metric, value=round(result.value, 5), low=round(result.low, 5),
        high=round(result.high, 5), n=result.n, system=system, seed=part.run.seed, signature=result.signature,
        normaliser=normaliser, judge=judge, tag=meta["tag"], decoding=meta["decoding"] if by_model else None,
        model=meta["model_sha256"][:MODEL_DIGITS] if by_model else None,
        vocabulary=meta["vocabulary_hash"][:MODEL_DIGITS] if by_model else None,
        decode=decode_fingerprint(part.decode.folder) if by_model else None, ids=ids,
        code=part.run.code)
