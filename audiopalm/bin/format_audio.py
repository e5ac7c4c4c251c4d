"""Stage 2: every utterance and its spoken translations as 16 kHz mono FLAC, each piece of speech written once.

Reads a Kaldi data directory: `wav.scp` alone (one file per utterance) or with `segments` (one line: utterance id, then
one or more `recording start end` joined in order); `wav.scp.<language>` or `segments.<language>` hold the translations.
A FLAC file is named by a hash of its source and cuts, so equal speech shares one file, and a rerun makes only what is
missing. Utterances whose audio is damaged, too short, too long or too short for their text are removed and listed.
"""

import argparse
import hashlib
import logging
import os
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import soundfile

from audiopalm.bin.common import run
from audiopalm.bin.jobs import Launcher, add_launcher_options, run_jobs
from audiopalm.corpora.data_set import compare
from audiopalm.data.datadir import invert, languages_of, read_table, remove_tables_by_language, write_table
from audiopalm.data.files import read_json, require, write_json, write_text
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


def make_audio(speeches: Iterable[Speech], audio_dir: Path, launcher: Launcher) -> tuple[int, dict[str, str]]:
    """Write the FLAC files that do not exist yet; return how many, and {name: reason} of all with damaged audio.

    Damaged files are remembered in `<audio_dir>/damaged.json`, so that no run reads them again.
    """
    audio_dir.mkdir(parents=True, exist_ok=True)
    record = audio_dir / "damaged.json"
    damaged: dict[str, str] = read_json(record) if record.exists() else {}
    speeches = {speech.name(): speech for speech in speeches}
    # In the order of their sources: a job decodes a recording once for all its cuts.
    todo = [{"name": name, "path": speech.path, "cuts": speech.cuts}
            for name, speech in sorted(speeches.items(), key=lambda item: (item[1].path, item[1].cuts))
            if name not in damaged and not seconds_of(audio_dir / name)]
    made, found = 0, {}
    for result in run_jobs(launcher, "write_audio", ["--audio_dir", str(audio_dir)], todo, "audio files"):
        if result["error"]:
            raise AudioPaLMError(result["error"])
        if result["damaged"]:
            found[result["name"]] = result["damaged"]
        else:
            made += 1
    if found:
        damaged |= found
        write_json(record, dict(sorted(damaged.items())))
    return made, damaged


def seconds_of(path: Path) -> float:
    """Length of a written FLAC file in seconds; 0 when it is missing or broken."""
    try:
        return soundfile.info(str(path)).duration
    except soundfile.LibsndfileError:
        return 0.0


def all_speech(directory: Path) -> dict[str, dict[str, Speech]]:
    """{"": speech of the utterances, ".<language>": speech of their translations}, by utterance."""
    spoken = {"": read_speech(directory)}
    for name in ("segments", "wav.scp"):
        for language in languages_of(directory, name):
            spoken.setdefault(f".{language}", read_speech(directory, f".{language}"))
    return spoken


def format_directory(directory: Path, output: Path, audio_dir: Path, damaged: dict[str, str], shortest: float = 0.0,
                     longest: float = float("inf"), max_drop: float = 0.05) -> dict:
    """Write the tables of one set whose audio is made; return what was kept and removed, as it stands in
    <output>/{format.json,removed.tsv} too. `damaged` is what `make_audio` found.

    An utterance whose own speech is damaged, or shorter or longer than the limits (seconds), or too short for its text,
    is removed from every table; a translation with such speech only loses its audio. Raises AudioPaLMError when nothing
    is left, or when more than `max_drop` (0 to 1) of the utterances have damaged audio.
    """
    spoken = all_speech(directory)
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
              "hours": round(sum(lengths.values()) / 3600, 3),
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
    remove_tables_by_language(output)
    for suffix, table in tables.items():
        write_table(output / f"wav.scp{suffix}", table)
    for path in sorted(directory.iterdir()):
        if path.name in ("utt2spk", "utt2lang", "text") or path.name.startswith("text."):
            write_table(output / path.name, {key: value for key, value in read_table(path).items() if key in kept})
    write_table(output / "spk2utt", invert(read_table(require(output / "utt2spk", MADE_BY))))
    write_table(output / "utt2dur", {key: f"{value:.3f}" for key, value in lengths.items()})
    return report


def compare_hours(directory: Path, hours: float) -> None:
    """Warn where the hours of a set differ from those that stage 1 leaves in <directory>/report.json."""
    report = directory / "report.json"
    facts = read_json(report) if report.exists() else {}
    published = facts.get("published_hours", {})
    if published and published.keys() == facts["languages"].keys():
        compare(f"{directory}, {' '.join(published)}", "hours", [hours], [float(sum(published.values()))], 0.02,
                source="CVSS's paper, as remembered, has")


def main() -> None:
    parser = argparse.ArgumentParser(description="Write 16 kHz mono FLAC files for Kaldi data directories.")
    parser.add_argument("--input", type=Path, required=True, nargs="+", help="data directories of stage 1")
    parser.add_argument("--output", type=Path, required=True, nargs="+", help="as many, in the same order")
    parser.add_argument("--audio_dir", type=Path, required=True, help="folder of the FLAC files, shared by all sets")
    parser.add_argument("--min_seconds", type=float, default=0.1, help="shorter utterances are removed")
    parser.add_argument("--max_seconds", type=float, default=30.0, help="longer utterances are removed")
    parser.add_argument("--max_drop", type=float, default=0.05, help="share of utterances whose audio may be damaged")
    add_launcher_options(parser, "AUDIO_DIR/jobs")
    arguments = parser.parse_args()
    if len(arguments.input) != len(arguments.output):
        raise AudioPaLMError(f"{len(arguments.input)} data directories, but {len(arguments.output)} outputs")
    start, audio_dir = time.monotonic(), arguments.audio_dir
    logging.info("reading %s", " ".join(map(str, arguments.input)))
    speeches = (speech for directory in arguments.input for table in all_speech(directory).values()
                for speech in table.values())
    launcher = Launcher(arguments.cmd, arguments.nj, arguments.job_dir or audio_dir / "jobs")
    made, damaged = make_audio(speeches, audio_dir, launcher)
    logging.info("made %d audio files in %s, %.1f s", made, audio_dir, time.monotonic() - start)
    for directory, output in zip(arguments.input, arguments.output, strict=True):
        report = format_directory(directory, output, audio_dir, damaged, arguments.min_seconds, arguments.max_seconds,
                                  arguments.max_drop)
        compare_hours(directory, report["hours"])
        removed = ", ".join(f"{count} {reason}" for reason, count in report["removed"].items()) or "none"
        logging.info("wrote %s: %d utterances, %.2f h (%.2f h with translations), removed: %s", output,
                     report["utterances"], report["hours"], report["hours_of_all_speech"], removed)


if __name__ == "__main__":
    run(main)
