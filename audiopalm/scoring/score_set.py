"""Rows of results.json for one set: every part of every decode, with the ceilings of speech beside it.

What was scored lies beside the rows, normalised, as tables: `<output>/<set>/<decode>/<part>.ref` and `.hyp`, for speech
`<part>.<judge>[.<ceiling>].ref` and so on. sacreBLEU and jiwer give the same values for their texts, and
audiopalm.bin.compare takes two folders of them.
"""

import hashlib
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np

from audiopalm.core.errors import AudioPaLMError
from audiopalm.data.audio import read_audio
from audiopalm.data.datadir import read_table, write_table
from audiopalm.data.speakers import speakers_beside, spread
from audiopalm.scoring.consistency import Conditions
from audiopalm.scoring.decodes import SCORE, Decode, TestSet
from audiopalm.scoring.judge import judge_signature, transcribe
from audiopalm.scoring.metrics import OVERLAPS, Score, bootstrap, score
from audiopalm.scoring.quality import SIGNATURE as DNSMOS
from audiopalm.scoring.quality import dnsmos
from audiopalm.scoring.results import MODEL_DIGITS, ResultRow
from audiopalm.scoring.text import Normaliser, get_normaliser
from audiopalm.scoring.voice import Voices, cosines, wins
from audiopalm.stages.decode_record import decode_fingerprint
from audiopalm.tasks import Output, decode_name, get_task

JUDGED_LANGUAGE = "en"
# What a judged metric computes, and how the part's metrics are named in rows.
JUDGED = {"asr_bleu": "bleu", "asr_wer": "wer"}
BY_MODEL = ("model", "other", "other_prompt")  # systems whose speech is of the model's units


@dataclass(frozen=True)
class Run:
    """What all rows of a scoring share; `judges` is {name: number of utterances judged per folder, or None for all}.

    Normalisers: `translations` of BLEU and chrF of text, `recognition` of WER and CER of text, `speech` of what a judge
    has heard and what should have been said.
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
    quality: int = 0  # utterances of a folder whose DNSMOS is measured, which takes about two seconds each


def score_set(test_set: TestSet, run: Run) -> list[ResultRow]:
    """All rows of a set; what each judge heard is also written as it is, to `.heard` beside `.ref` and `.hyp`."""
    rows, voices = [], Voices(run.output / "voice")
    for decode in test_set.decodes:
        for output in decode.task.outputs:
            if not output.is_audio:
                rows += _text_rows(test_set, decode, output, run)
            elif decode.language(output) != JUDGED_LANGUAGE:
                logging.info("%s: no independent judge of %s", decode.folder, decode.language(output))
            else:
                rows += _judged_rows(test_set, decode, output, run)
            if output.keeps_source_voice:
                rows += _voice_rows(test_set, decode, output, run, voices)
    return rows


def texts_path(row: ResultRow) -> Path:
    """Where the texts behind a row of results.json are, in the folder of the scores; without `.ref` or `.hyp`."""
    judge = re.sub(r"[^\w.-]+", "_", row.judge.split(",")[0]) if row.judge else ""
    system = "" if row.system == "model" else row.system
    name = ".".join(word for word in (row.part, judge, system) if word)
    return Path(row.set) / decode_name(get_task(row.task), row.source, row.target) / name


def scored_texts(score_dir: str | Path, row: ResultRow) -> tuple[dict[str, str], dict[str, str]]:
    """References and hypotheses behind a row, normalised.

    Raises AudioPaLMError when they are missing or of different utterances.
    """
    stem = f"{score_dir}/{texts_path(row)}"
    references, hypotheses = (read_table(f"{stem}.{ending}", SCORE) for ending in ("ref", "hyp"))
    if odd := sorted(references.keys() ^ hypotheses.keys()):
        raise AudioPaLMError(f"{stem}.ref and .hyp have different utterances, e.g. {odd[0]!r}; run {SCORE} again")
    return references, hypotheses


def _text_rows(test_set: TestSet, decode: Decode, output: Output, run: Run) -> list[ResultRow]:
    hypotheses = decode.hypotheses(output)
    references = test_set.references(decode, output, hypotheses)
    language = decode.language(output)
    name = run.translations if set(output.metrics) & set(OVERLAPS) else run.recognition
    return _scored(test_set, decode, output, run, references, hypotheses, get_normaliser(name, language), language,
                   {metric: metric for metric in output.metrics})


def _judged_rows(test_set: TestSet, decode: Decode, output: Output, run: Run) -> list[ResultRow]:
    spoken = decode.hypotheses(output)
    references = test_set.references(decode, output, spoken)
    systems = {"model": spoken, "true_tokens": test_set.true_tokens(decode, output),
               "true_audio": test_set.true_audio(decode, output)}
    rows = []
    for judge, limit in run.judges.items():
        for system, files in systems.items():
            names = [name for name in sorted(references, key=str.encode)[:limit] if name in files]
            if not names:
                logging.info("%s: no %s to judge", decode.folder, system)
                continue
            heard = transcribe(judge, {name: files[name] for name in names}, run.output / "judge", run.processes)
            found = _scored(test_set, decode, output, run, {name: references[name] for name in names}, heard,
                            get_normaliser(run.speech, JUDGED_LANGUAGE), JUDGED_LANGUAGE,
                            {metric: JUDGED[metric] for metric in output.metrics}, system, judge_signature(judge))
            write_table(run.output / f"{texts_path(found[0])}.heard", heard)
            rows += found
    return rows


def _scored(test_set: TestSet, decode: Decode, output: Output, run: Run, references: Mapping[str, str],
            hypotheses: Mapping[str, str], normalise: Normaliser, language: str, metrics: Mapping[str, str],
            system: str = "model", judge: str | None = None) -> list[ResultRow]:
    """A row for each of `metrics`, {name in the row: metric}, and the texts behind them."""
    pairs = {name: (words, normalise(hypotheses[name])) for name, text in references.items()
             if (words := normalise(text))}
    if len(pairs) < len(references):
        logging.warning("%s: left out %d of %d utterances, whose reference is punctuation alone", decode.folder,
                        len(references) - len(pairs), len(references))
    rows = [_row(test_set, decode, output, run, name, score(metric, *_columns(pairs), language), pairs, system,
                 normalise.signature, judge) for name, metric in metrics.items()]
    for column, ending in enumerate(("ref", "hyp")):
        texts = {name: pair[column] for name, pair in pairs.items()}
        write_table(run.output / f"{texts_path(rows[0])}.{ending}", texts)
    return rows


def _voice_rows(test_set: TestSet, decode: Decode, output: Output, run: Run, voices: Voices) -> list[ResultRow]:
    """Likeness of the output to its source, to another speaker, and between the two true recordings: of the voice, of
    the acoustic conditions; and DNSMOS of `run.quality` utterances. Where stage 11 has spoken with the prompts of other
    speakers too, that speech likewise.

    The other speaker speaks the same language, or where the set has no such speaker any; the signature says which.
    """
    spoken = decode.hypotheses(output)
    recordings = test_set.table("wav.scp")
    others, company = speakers_beside(spoken, recordings, test_set.table("utt2spk"), test_set.table("utt2lang"),
                                      decode.source)
    sources = {name: recordings[name] for name in spoken}
    other_files = {name: recordings[other] for name, other in others.items()}
    systems = {"model": spoken} | {
        system: {name: file for name, file in files.items() if name in spoken}
        for system, files in (("true_tokens", test_set.true_tokens(decode, output)),
                              ("true_audio", test_set.true_audio(decode, output)))}
    if wrong := test_set.other_prompt(decode):
        systems["other_prompt"] = wrong
    measured, encoders = [], {"speaker_cosine": voices, "acoustic_consistency": Conditions(list(recordings.values()))}
    for metric, encoder in encoders.items():
        signature = f"{encoder.signature}, other speaker of {company}"
        own, other = encoder.embed(sources), encoder.embed(other_files)
        for system, files in systems.items():
            made = encoder.embed(files)
            near, far = cosines(made, own), cosines(made, other)
            measured.append((metric, system, near, signature))
            if system == "model":
                measured.append((metric, "other", far, signature))
            if metric == "speaker_cosine" and system != "true_audio":
                measured.append(("speaker_win", system, wins(near, far), signature))
    if run.quality:
        chosen = spread(spoken, run.quality)
        measured += [("dnsmos", system, {name: dnsmos(read_audio(files[name])) for name in chosen if name in files},
                      DNSMOS) for system, files in systems.items()]
    rows = []
    for metric, system, values, signature in measured:
        values = {name: value for name, value in values.items() if value is not None}
        if not values:
            logging.info("%s: no %s of %s (one speaker, silence, or no such speech)", decode.folder, metric, system)
            continue
        rows.append(_row(test_set, decode, output, run, metric, _mean(values, signature), {name: () for name in values},
                         system))
    return rows


def _columns(pairs: Mapping[str, tuple[str, str]]) -> tuple[list[str], list[str]]:
    names = sorted(pairs, key=str.encode)
    return [pairs[name][0] for name in names], [pairs[name][1] for name in names]


def _mean(values: Mapping[str, float], signature: str) -> Score:
    statistics = np.array([(values[name], 1) for name in sorted(values, key=str.encode)], dtype=np.float64)
    low, high = bootstrap(statistics, lambda total: total[0] / total[1])
    return Score(fmean(values.values()), low, high, len(values), signature)


def _row(test_set: TestSet, decode: Decode, output: Output, run: Run, metric: str, result: Score, pairs: Mapping,
         system: str = "model", normaliser: str | None = None, judge: str | None = None) -> ResultRow:
    """One row of results.json; `ids` is a hash of the utterance ids and normalised references that were scored."""
    meta, by_model = decode.meta, system in BY_MODEL
    digest = hashlib.sha256()
    for name in sorted(pairs, key=str.encode):
        digest.update("\t".join([name, *pairs[name][:1]]).encode() + b"\n")
    return ResultRow(
        recipe=run.recipe, set=test_set.name, task=meta["task"], part=output.part, source=meta["source"],
        target=meta["target"], metric=metric, value=round(result.value, 5), low=round(result.low, 5),
        high=round(result.high, 5), n=result.n, system=system, seed=run.seed, signature=result.signature,
        normaliser=normaliser, judge=judge, tag=meta["tag"], decoding=meta["decoding"] if by_model else None,
        model=meta["model_sha256"][:MODEL_DIGITS] if by_model else None,
        vocabulary=meta["vocabulary_hash"][:MODEL_DIGITS] if by_model else None,
        decode=decode_fingerprint(decode.folder) if by_model else None, ids=digest.hexdigest()[:16], code=run.code)
