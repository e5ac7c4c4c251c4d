"""Rows of results.json for one set: every part of every decode, with the ceilings of speech beside it."""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from audiopalm.data.audio import read_audio
from audiopalm.data.datadir import write_table
from audiopalm.scoring.consistency import Conditions
from audiopalm.scoring.decodes import Decode, TestSet
from audiopalm.scoring.judge import judge_signature, transcribe
from audiopalm.scoring.quality import SIGNATURE as DNSMOS
from audiopalm.scoring.quality import dnsmos
from audiopalm.scoring.text import NORMALISERS, Score, bootstrap, normaliser_signature, score
from audiopalm.scoring.voice import Voices, cosines, other_speakers, wins
from audiopalm.tasks import Output

JUDGED_LANGUAGE = "en"
# What a judged metric computes, and how the part's metrics are named in rows.
JUDGED = {"asr_bleu": "bleu", "asr_wer": "wer"}


@dataclass(frozen=True)
class Run:
    """What all rows of a scoring share; `judges` is {name: number of utterances judged per folder, or None for all}.

    `translations` is the normaliser of BLEU and chrF of text.
    """

    recipe: str
    seed: int
    code: str
    output: Path
    judges: Mapping[str, int | None]
    processes: int
    translations: str = "basic"
    quality: int = 0  # utterances of a folder whose DNSMOS is measured, which takes about two seconds each


def score_set(test_set: TestSet, run: Run) -> list[dict[str, Any]]:
    """All rows of a set; transcripts of the judges are written to `<output>/<set>/<decode>.<judge>[.<ceiling>]`."""
    rows, voices = [], Voices(run.output / "voice")
    for decode in test_set.decodes:
        for output in decode.task.outputs:
            if not output.is_audio:
                rows += _text_rows(test_set, decode, output, run)
            elif decode.spoken_language() != JUDGED_LANGUAGE:
                logging.info("%s: no independent judge of %s", decode.folder, decode.spoken_language())
            else:
                rows += _judged_rows(test_set, decode, output, run)
            if output.part == "s2st":
                rows += _voice_rows(test_set, decode, output, run, voices)
    return rows


def _text_rows(test_set: TestSet, decode: Decode, output: Output, run: Run) -> list[dict]:
    hypotheses = decode.hypotheses(output)
    references = test_set.references(decode, output, hypotheses)
    rows = []
    for metric in output.metrics:
        name = run.translations if metric in ("bleu", "chrf") else "basic"
        normalise = NORMALISERS[name]
        pairs = {key: (words, normalise(hypotheses[key])) for key, text in references.items()
                 if (words := normalise(text))}
        if len(pairs) < len(references):
            logging.warning("%s: left out %d of %d utterances, whose reference is punctuation alone", decode.folder,
                            len(references) - len(pairs), len(references))
        rows.append(_row(test_set, decode, output, run, metric, score(metric, *_columns(pairs)), pairs,
                         normaliser=normaliser_signature(name)))
    return rows


def _judged_rows(test_set: TestSet, decode: Decode, output: Output, run: Run) -> list[dict]:
    spoken = decode.hypotheses(output)
    references = test_set.references(decode, output, spoken)
    systems = {"model": spoken, "true_tokens": test_set.true_tokens(JUDGED_LANGUAGE),
               "true_audio": test_set.true_audio(decode)}
    rows = []
    for judge, limit in run.judges.items():
        for system, files in systems.items():
            names = [name for name in sorted(references, key=str.encode)[:limit] if name in files]
            if not names:
                logging.info("%s: no %s to judge", decode.folder, system)
                continue
            heard = transcribe(judge, {name: files[name] for name in names}, run.output / "judge", run.processes)
            suffix = "" if system == "model" else f".{system}"
            write_table(run.output / test_set.name / f"{decode.folder.name}.{judge}{suffix}", heard)
            normalise = NORMALISERS["english"]
            pairs = {name: (normalise(references[name]), normalise(heard[name])) for name in names}
            rows += [_row(test_set, decode, output, run, metric, score(JUDGED[metric], *_columns(pairs)), pairs, system,
                          normaliser_signature("english"), judge_signature(judge))
                     for metric in output.metrics]
    return rows


def _voice_rows(test_set: TestSet, decode: Decode, output: Output, run: Run, voices: Voices) -> list[dict]:
    """Likeness of the output to its source, to another speaker, and between the two true recordings: of the voice, of
    the acoustic conditions; and DNSMOS of `run.quality` utterances.

    The other speaker speaks the same language, or where the set has no such speaker any; the signature says which.
    """
    spoken = decode.hypotheses(output)
    languages, recordings = test_set.table("utt2lang"), test_set.table("wav.scp")
    candidates = [name for name in recordings if languages[name] == decode.source]
    others = other_speakers(list(spoken), candidates, test_set.table("utt2spk"))
    company = "the same language" if others else "another language"
    others = others or other_speakers(list(spoken), list(recordings), test_set.table("utt2spk"))
    sources = {name: recordings[name] for name in spoken}
    other_files = {name: recordings[other] for name, other in others.items()}
    systems = {"model": spoken} | {
        system: {name: file for name, file in files.items() if name in spoken}
        for system, files in (("true_tokens", test_set.true_tokens(decode.spoken_language())),
                              ("true_audio", test_set.true_audio(decode)))}
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
        chosen = sorted(spoken, key=str.encode)[::-(-len(spoken) // run.quality)]
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
         system: str = "model", normaliser: str | None = None, judge: str | None = None) -> dict[str, Any]:
    """One line of results.json; `ids` is a hash of the utterance ids and normalised references that were scored."""
    meta, by_model = decode.meta, system in ("model", "other")
    digest = hashlib.sha256()
    for name in sorted(pairs, key=str.encode):
        digest.update("\t".join([name, *pairs[name][:1]]).encode() + b"\n")
    row = {"recipe": run.recipe, "set": test_set.name, "task": meta["task"], "source": meta["source"],
           "target": meta["target"], "metric": metric, "value": round(result.value, 5), "low": round(result.low, 5),
           "high": round(result.high, 5), "n": result.n, "system": system, "seed": run.seed,
           "signature": result.signature, "normaliser": normaliser, "judge": judge, "tag": meta["tag"],
           "decoding": meta["decoding"] if by_model else None, "model": meta["model_sha256"][:16] if by_model else None,
           "vocabulary": meta["vocabulary_hash"][:16] if by_model else None, "ids": digest.hexdigest()[:16],
           "code": run.code}
    return row | ({"part": output.part} if len(decode.task.outputs) > 1 else {})
