"""Stage 2: every utterance and its spoken translations as 16 kHz mono FLAC, each piece of speech written once.

Reads a Kaldi data directory: `wav.scp` alone (one file per utterance) or with `segments` (one line: utterance id, then
one or more `recording start end` joined in order); `wav.scp.<language>` or `segments.<language>` hold the translations.
A FLAC file is named by a hash of its source and cuts, so equal speech shares one file, and a rerun makes only what is
missing. Utterances whose audio is damaged, too short, too long or too short for their text are removed and listed.
"""

import argparse
import hashlib
import logging
import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
import soundfile

from audiopalm.bin.common import progress, run
from audiopalm.data.audio import SAMPLE_RATE, DamagedAudio, read_audio
from audiopalm.data.datadir import invert, languages_of, read_table, write_table
from audiopalm.data.files import require, write_json, write_text
from audiopalm.errors import AudioPaLMError

MADE_BY = "stage 1 (prepare)"
FASTEST = 40  # characters a second: more is not the text of this recording


@dataclass(frozen=True)
class Speech:
    """One piece of speech: cuts of source files in seconds, joined in order; no cuts stands for the whole file."""

    path: str
    cuts: tuple[tuple[str, float, float], ...] = ()

    def name(self) -> str:
        """File name: a hash of the source (path, size, time of change) and the cuts."""
        parts = [signature(self.path)] + [f"{signature(path)} {start} {end}" for path, start, end in self.cuts]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:20] + ".flac"


@cache
def signature(path: str) -> str:
    """Changes when the file is replaced, so that a stale FLAC is never taken for the new speech."""
    if not Path(path).is_file():
        raise AudioPaLMError(f"audio {path} does not exist")
    status = os.stat(path)
    return f"{path} {status.st_size} {status.st_mtime_ns}"


@lru_cache(maxsize=2)
def decoded(path: str) -> np.ndarray:
    """Samples `[T]` of a whole source file at 16 kHz."""
    return read_audio(path)


@lru_cache(maxsize=1000)
def read_cut(path: str, start: float, end: float) -> np.ndarray:
    """Samples `[T]` from `start` to `end` seconds; the cuts of composed sentences recur, so each is decoded once.

    Raises AudioPaLMError when the cut lies outside its recording.
    """
    first, last = round(start * SAMPLE_RATE), round(end * SAMPLE_RATE)
    try:
        with soundfile.SoundFile(path) as file:
            if (file.samplerate, file.channels) == (SAMPLE_RATE, 1) and 0 <= first < last <= file.frames:
                file.seek(first)
                return file.read(last - first, dtype="float32")
    except soundfile.LibsndfileError:
        pass  # the whole file is read below, and says what is wrong with it
    source = decoded(path)
    if not 0 <= first < last <= len(source):
        raise AudioPaLMError(f"audio {path}: cut {start} to {end} s lies outside its {len(source) / SAMPLE_RATE} s")
    return source[first:last]


def read_speech(directory: Path, suffix: str = "") -> dict[str, Speech]:
    """{utterance: Speech} of the utterances themselves (suffix "") or of their translations (".<language>")."""
    segments = directory / f"segments{suffix}"
    if not segments.exists():
        return {key: Speech(path) for key, path in read_table(directory / f"wav.scp{suffix}", MADE_BY).items()}
    recordings = read_table(directory / "wav.scp", MADE_BY)
    table = {}
    for key, value in read_table(segments).items():
        fields = value.split()
        if not fields or len(fields) % 3:
            raise AudioPaLMError(f"{segments}: {key}: expected `recording start end` once or more, found {value!r}")
        try:
            cuts = tuple((recordings[fields[i]], float(fields[i + 1]), float(fields[i + 2]))
                         for i in range(0, len(fields), 3))
        except (KeyError, ValueError) as error:
            raise AudioPaLMError(f"{segments}: {key}: unknown recording or bad time: {error}") from None
        table[key] = Speech(cuts[0][0], cuts)
    return table


def samples_of(speech: Speech) -> np.ndarray:
    """Samples `[T]` at 16 kHz; raises AudioPaLMError when a cut lies outside its recording."""
    if not speech.cuts:
        return read_audio(speech.path)
    return np.concatenate([read_cut(*cut) for cut in speech.cuts])


def write_flac(job: tuple[Speech, Path]) -> tuple[str, str, str] | None:
    """Write one FLAC file; return its name, what is wrong with its audio and what is wrong with anything else.

    Errors are returned instead of raised, so that a pool hands them over whole.
    """
    speech, target = job
    temporary = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        # Level 0 packs speech nearly as well as the default at a third of the time. No fsync: a file that a crash
        # empties is found by its missing samples in `seconds_of`.
        soundfile.write(str(temporary), np.clip(samples_of(speech), -1, 1), SAMPLE_RATE, format="FLAC",
                        subtype="PCM_16", compression_level=0)
        os.replace(temporary, target)
    except DamagedAudio as error:
        return target.name, error.reason, ""
    except AudioPaLMError as error:
        return target.name, "", str(error)
    finally:
        temporary.unlink(missing_ok=True)
    return None


class Workers:
    """Processes that run jobs and report errors as one line; Ctrl-C is left to the parent, which ends them."""

    def __init__(self, processes: int):
        context = multiprocessing.get_context("fork")
        self.pool = context.Pool(processes, signal.signal, (signal.SIGINT, signal.SIG_IGN))

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.terminate()
        self.pool.join()

    def run(self, function: Callable, jobs: list, what: str, chunk: int) -> Iterator:
        """What `function` returns for each job, in any order."""
        return progress(self.pool.imap_unordered(function, jobs, chunk), len(jobs), what)


def make_missing(speeches: list[Speech], audio_dir: Path, processes: int) -> tuple[int, dict[str, str]]:
    """Write the FLAC files that do not exist yet; return how many, and {name: reason} of those with damaged audio."""
    audio_dir.mkdir(parents=True, exist_ok=True)
    targets = {speech.name(): speech for speech in speeches}
    jobs = [(speech, audio_dir / name) for name, speech in targets.items() if not seconds_of(audio_dir / name)]
    damaged: dict[str, str] = {}
    with Workers(processes) as workers:
        for result in workers.run(write_flac, jobs, "audio files", 32):
            if result is not None:
                name, reason, message = result
                if message:
                    raise AudioPaLMError(message)
                damaged[name] = reason
    return len(jobs) - len(damaged), damaged


def seconds_of(path: Path) -> float:
    """Length of a written FLAC file in seconds; 0 when it is missing or broken."""
    try:
        return soundfile.info(str(path)).duration
    except soundfile.LibsndfileError:
        return 0.0


def format_directory(directory: Path, output: Path, audio_dir: Path, processes: int = 1, shortest: float = 0.0,
                     longest: float = float("inf"), max_drop: float = 0.05) -> dict:
    """Format one data directory; return what was kept and removed, also written to <output>/{format.json,removed.tsv}.

    An utterance whose own speech is damaged, or shorter or longer than the limits (seconds), or too short for its text,
    is removed from every table; a translation with such speech only loses its audio. Raises AudioPaLMError when nothing
    is left, or when more than `max_drop` (0 to 1) of the utterances have damaged audio.
    """
    spoken = {"": read_speech(directory)}
    for name in ("segments", "wav.scp"):
        for language in languages_of(directory, name):
            spoken.setdefault(f".{language}", read_speech(directory, f".{language}"))
    every = [speech for table in spoken.values() for speech in table.values()]
    made, damaged = make_missing(every, audio_dir, processes)
    text = read_table(require(directory / "text", MADE_BY))
    seconds: dict[str, float] = {}
    removed: list[tuple[str, str, str]] = []  # utterance, what of it, why

    def fits(key: str, speech: Speech, suffix: str) -> bool:
        name = speech.name()
        if name not in seconds:
            seconds[name] = seconds_of(audio_dir / name)
        if name in damaged:
            reason = damaged[name]
        elif not shortest <= seconds[name] <= longest:
            reason = f"too {'short' if seconds[name] < shortest else 'long'}"
        elif not suffix and len(text.get(key, "")) > FASTEST * seconds[name]:
            reason = f"more than {FASTEST} characters a second"
        else:
            return True
        removed.append((key, f"translation{suffix}" if suffix else "utterance", reason))
        return False

    kept = {key for key, speech in spoken[""].items() if fits(key, speech, "")}
    tables = {suffix: {key: str(audio_dir / speech.name()) for key, speech in table.items()
                       if key in kept and (not suffix or fits(key, speech, suffix))}
              for suffix, table in spoken.items()}
    lengths = {key: seconds[speech.name()] for key, speech in spoken[""].items() if key in kept}
    report = {"utterances": len(kept),
              "removed": dict(sorted(Counter(f"{what} {why}" for _, what, why in removed).items())),
              "audio_files_made": made, "hours": round(sum(lengths.values()) / 3600, 3),
              "hours_of_all_speech": round(sum(seconds.values()) / 3600, 3)}
    if lengths:
        report["seconds"] = {"min": round(min(lengths.values()), 2),
                             "mean": round(sum(lengths.values()) / len(lengths), 2),
                             "max": round(max(lengths.values()), 2)}
    write_text(output / "removed.tsv", "".join("\t".join(row) + "\n" for row in removed))
    write_json(output / "format.json", report)
    broken = [f"{speech.path} {damaged[speech.name()]}" for speech in spoken[""].values() if speech.name() in damaged]
    if not kept or len(broken) > max_drop * len(spoken[""]):
        what = f"more than --max_drop {max_drop:g} of the audio is damaged" if kept else "no utterance is left"
        example = f"; for example {broken[0]}" if broken else ""
        raise AudioPaLMError(f"{directory}: {what}, see {output}/removed.tsv{example}")
    for suffix, table in tables.items():
        write_table(output / f"wav.scp{suffix}", table)
    for path in sorted(directory.iterdir()):
        if path.name in ("utt2spk", "utt2lang", "text") or path.name.startswith("text."):
            write_table(output / path.name, {key: value for key, value in read_table(path).items() if key in kept})
    write_table(output / "spk2utt", invert(read_table(require(output / "utt2spk", MADE_BY))))
    write_table(output / "utt2dur", {key: f"{value:.3f}" for key, value in lengths.items()})
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description="Write 16 kHz mono FLAC files for Kaldi data directories.")
    parser.add_argument("--input", type=Path, required=True, help="data directory of stage 1")
    parser.add_argument("--output", type=Path, required=True, help="formatted data directory")
    parser.add_argument("--audio_dir", type=Path, required=True, help="folder of the FLAC files, shared by all sets")
    parser.add_argument("--nj", type=int, default=2, help="processes")
    parser.add_argument("--min_seconds", type=float, default=0.1, help="shorter utterances are removed")
    parser.add_argument("--max_seconds", type=float, default=30.0, help="longer utterances are removed")
    parser.add_argument("--max_drop", type=float, default=0.05, help="share of utterances whose audio may be damaged")
    arguments = parser.parse_args()
    start = time.monotonic()
    logging.info("reading %s", arguments.input)
    report = format_directory(arguments.input, arguments.output, arguments.audio_dir, arguments.nj,
                              arguments.min_seconds, arguments.max_seconds, arguments.max_drop)
    removed = ", ".join(f"{count} {reason}" for reason, count in report["removed"].items()) or "none"
    logging.info("wrote %s: %d utterances, %.2f h (%.2f h with translations), %d new files, removed: %s, %.1f s",
                 arguments.output, report["utterances"], report["hours"], report["hours_of_all_speech"],
                 report["audio_files_made"], removed, time.monotonic() - start)


if __name__ == "__main__":
    run(main)
