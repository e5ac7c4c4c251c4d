"""Stage 2: every utterance and its spoken translations as 16 kHz mono audio, each piece of speech written once.

Reads a Kaldi data directory: `wav.scp` alone (one file per utterance) or with `segments` (one line: utterance id, then
one or more `recording start end` joined in order; `recording 0 -1` is all of it, as in Kaldi). The translations are in
`wav.scp.<language>` or `segments.<language>`.
Speech is named by a hash of its source and cuts, so that equal speech is stored once. A rerun writes only missing
files. Utterances whose audio is damaged, too short, too long, or too short for their text are removed and listed.
"""

import logging
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import read_json, require, write_json, write_text
from audiopalm.core.lock import locked
from audiopalm.data.datadir import invert, read_table, remove_tables_by_language, write_table
from audiopalm.data.segments import MADE_BY, Speech, all_speech
from audiopalm.stages.audio_store import ARCHIVE_FILES, AudioStore, archive_stem
from audiopalm.stages.jobs import Launcher, run_jobs
from audiopalm.stages.write_audio import SpeechArchive, SpeechFile, WrittenAudio

FASTEST = 40  # characters a second; a longer text cannot be that of the recording


def make_audio(speeches: Iterable[Speech], store: AudioStore, launcher: Launcher) -> tuple[int, dict[str, str]]:
    """Write the recordings that do not exist yet; return their number, and {name: reason} of all damaged recordings.

    `damaged.json` of the folder lists the damaged recordings, so that no run reads them again.
    """
    store.folder.mkdir(parents=True, exist_ok=True)
    record = store.folder / "damaged.json"
    damaged = (read_json(record) if record.exists() else {}) | store.damaged
    by_name = {speech.name(): speech for speech in speeches}
    # The order of the sources lets a job decode a recording once for all its cuts.
    files = [SpeechFile(name, speech.path, list(speech.cuts))
             for name, speech in sorted(by_name.items(), key=lambda item: (item[1].path, item[1].cuts))]
    missing = {file.name for file in files if file.name not in damaged and not store.seconds(file.name)}
    todo: Sequence[SpeechArchive | SpeechFile] = [file for file in files if file.name in missing]
    if store.in_archives:
        todo = plan_archives(files, missing, store, launcher.number)
    arguments = ["--audio_dir", str(store.folder), "--audio_format", store.format]
    written, known = 0, len(damaged)
    for made in run_jobs(launcher, "write_audio", arguments, todo, WrittenAudio,
                         "audio archives" if store.in_archives else "audio files"):
        written += made.written
        damaged |= made.damaged
    if len(damaged) > known or (damaged and not record.exists()):
        write_json(record, dict(sorted(damaged.items())))
    if store.in_archives:
        store.read_indexes()
    return written, damaged


def plan_archives(files: list[SpeechFile], missing: set[str], store: AudioStore, jobs: int) -> list[SpeechArchive]:
    """The archives to write, which contain the missing files.

    All files are divided into archives first, so that a run that was killed and restarted makes the same archives.
    """
    size = max(min(ARCHIVE_FILES, -(-len(files) // max(jobs, 1))), 1)
    archives = []
    for first in range(0, len(files), size):
        part = files[first:first + size]
        stem = archive_stem([file.name for file in part])
        wanted = [file for file in part if file.name in missing]
        if wanted:
            written = part if store.has_archive(stem) else wanted
            archives.append(SpeechArchive(stem, [asdict(file) for file in written]))
    return archives


@dataclass(frozen=True)
class Limits:
    """What a set may contain: speech of `shortest` to `longest` seconds, damaged audio of at most `max_drop` (0 to 1)
    of its utterances.
    """

    shortest: float = 0.0
    longest: float = float("inf")
    max_drop: float = 0.05


@dataclass
class SpeechFilter:
    """Decides by audio, length and text which speech stays, and records the removed speech with reasons."""

    store: AudioStore
    damaged: dict[str, str]
    text: dict[str, str]
    limits: Limits
    seconds: dict[str, float] = field(default_factory=dict)  # by file, for all files that `accepts` was called with
    # The utterance, the word "utterance" or "translation.<language>", and the reason.
    removed: list[tuple[str, str, str]] = field(default_factory=list)

    def accepts(self, key: str, speech: Speech, suffix: str) -> bool:
        """Whether the speech of an utterance (suffix "") or of its translation (".<language>") stays in the set."""
        reason = self._reason(key, speech.name(), suffix)
        if reason:
            self.removed.append((key, f"translation{suffix}" if suffix else "utterance", reason))
        return not reason

    def _reason(self, key: str, name: str, suffix: str) -> str:
        if name not in self.seconds:
            self.seconds[name] = self.store.seconds(name)
        seconds = self.seconds[name]
        if name in self.damaged:
            return self.damaged[name]
        if not self.limits.shortest <= seconds <= self.limits.longest:
            return f"too {'short' if seconds < self.limits.shortest else 'long'}"
        if not suffix and len(self.text.get(key, "")) > FASTEST * seconds:
            return f"more than {FASTEST} characters a second"
        return ""

    def report(self, lengths: dict[str, float]) -> dict:
        """Counts, hours and reasons, for format.json; `lengths` are the seconds of the utterances that stay."""
        report = {"utterances": len(lengths),
                  "removed": dict(sorted(Counter(f"{what} {why}" for _, what, why in self.removed).items())),
                  "hours": round(sum(lengths.values()) / 3600, 3),
                  "hours_of_all_speech": round(sum(self.seconds.values()) / 3600, 3)}
        if lengths:
            report["seconds"] = {"min": round(min(lengths.values()), 2),
                                 "mean": round(sum(lengths.values()) / len(lengths), 2),
                                 "max": round(max(lengths.values()), 2)}
        return report


def format_directory(directory: Path, output: Path, store: AudioStore, damaged: dict[str, str], limits: Limits,
                     pipes: bool = False) -> dict:
    """Write the tables of one set, whose audio `make_audio` has written; return the report of `SpeechFilter`.

    The report is also written to <output>/format.json, the removed speech to <output>/removed.tsv. damaged: the damaged
    recordings that `make_audio` returned. pipes: whether wav.scp may contain commands.

    An utterance whose own speech is damaged, shorter or longer than the limits, or too short for its text is removed
    from every table. A translation with such speech only loses its audio. Raises AudioPaLMError if no utterance is
    left, or if more than `limits.max_drop` of the utterances have damaged audio.
    """
    spoken = all_speech(directory, pipes)
    text = read_table(require(directory / "text", MADE_BY))
    speech_filter = SpeechFilter(store, damaged, text, limits)
    kept = {key for key, speech in spoken[""].items() if speech_filter.accepts(key, speech, "")}
    tables = {suffix: {key: store.path(speech.name()) for key, speech in table.items()
                       if key in kept and (not suffix or speech_filter.accepts(key, speech, suffix))}
              for suffix, table in spoken.items()}
    lengths = {key: speech_filter.seconds[speech.name()] for key, speech in spoken[""].items() if key in kept}
    report = speech_filter.report(lengths)
    write_text(output / "removed.tsv", "".join("\t".join(row) + "\n" for row in speech_filter.removed))
    write_json(output / "format.json", report)
    broken = [f"{speech.path} {damaged[speech.name()]}" for speech in spoken[""].values() if speech.name() in damaged]
    if not kept or len(broken) > limits.max_drop * len(spoken[""]):
        what = f"more than --max_drop {limits.max_drop:g} of the audio is damaged" if kept else "no utterance is left"
        example = f"; for example {broken[0]}" if broken else ""
        raise AudioPaLMError(f"{directory}: {what}, see {output}/removed.tsv{example}")
    write_tables(directory, output, tables, lengths)
    return report


def write_tables(directory: Path, output: Path, tables: dict[str, dict[str, str]], lengths: dict[str, float]) -> None:
    """Write {suffix: wav.scp} and copy the other tables of `directory`, reduced to the utterances of `lengths`."""
    remove_tables_by_language(output)
    for suffix, table in tables.items():
        write_table(output / f"wav.scp{suffix}", table)
    for path in sorted(directory.iterdir()):
        if path.name in ("utt2spk", "utt2lang", "text") or path.name.startswith("text."):
            write_table(output / path.name, {key: value for key, value in read_table(path).items() if key in lengths})
    write_table(output / "spk2utt", invert(read_table(require(output / "utt2spk", MADE_BY))))
    write_table(output / "utt2dur", {key: f"{value:.3f}" for key, value in lengths.items()})


def format_audio(sets: dict[Path, Path], store: AudioStore, launcher: Launcher, limits: Limits, pipes: bool) -> None:
    """Write the audio of all sets, then the tables of each set.

    sets: {data directory: output}. pipes: whether wav.scp may contain commands, which are then run. Raises
    AudioPaLMError as `format_directory` does, and if another process writes one of the folders.
    """
    start = time.monotonic()
    logging.info("reading %s", " ".join(map(str, sets)))
    with locked(store.folder, "format_audio"):
        speeches = (speech for directory in sets for table in all_speech(directory, pipes).values()
                    for speech in table.values())
        made, damaged = make_audio(speeches, store, launcher)
        logging.info("made %d recordings in %s, %.1f s", made, store.folder, time.monotonic() - start)
        for directory, output in sets.items():
            with locked(output, "format_audio"):
                report = format_directory(directory, output, store, damaged, limits, pipes)
            removed = ", ".join(f"{count} {reason}" for reason, count in report["removed"].items()) or "none"
            logging.info("wrote %s: %d utterances, %.2f h (%.2f h with translations), removed: %s", output,
                         report["utterances"], report["hours"], report["hours_of_all_speech"], removed)
