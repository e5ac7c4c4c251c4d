"""VoxPopuli (Wang et al., arXiv 2101.00390): speech of the European Parliament with transcripts, in 16 languages, and
its oral interpretation into other languages.

Three layouts are read. `raw`: annotations `asr_<language>.tsv.gz` with the floor recordings `original/<year>/*.ogg`, as
the official download leaves them. `finished`: the output of the official get_asr_data.py. `hub`: the folder
`data/<language>/` of the Hugging Face repository. Interpretation (`s2s_<target>.tsv.gz`) needs the recordings of its
channel, too.

In `raw` the speech of an utterance is the pieces of its `vad` column, joined as in the official script, and not the
audio from `start_time` to `end_time`.
"""

import ast
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from audiopalm.core.errors import AudioPaLMError, nearest
from audiopalm.core.files import write_text
from audiopalm.corpora.archives import unpack
from audiopalm.corpora.data_set import Cut, DataSet, ReaderOptions, Utterance, compare, hours, write_sets
from audiopalm.corpora.recordings import Recording, look_at
from audiopalm.corpora.tables import Account, counts, read_rows

ACCENTED = "en_accented"  # English with the accents of other languages; a test set only
HOURS = {  # hours of transcribed speech in all sets of a language (VoxPopuli's README)
    "en": 543, "de": 282, "fr": 211, "es": 166, "pl": 111, "it": 91, "ro": 89, "hu": 63, "cs": 62, "nl": 53, "fi": 27,
    "hr": 43, "sk": 35, "sl": 10, "et": 3, "lt": 2, ACCENTED: 29,
}
TARGETS = ("en", "de", "fr", "es", "pl", "it", "ro", "hu", "cs", "nl", "fi", "sk", "sl", "lt", "da")
SETS = ("train", "dev", "test")
UNUSED_SPLIT = "invalid"


def prepare(options: ReaderOptions, targets: Sequence[str] = ()) -> dict[str, Any]:
    """Write <output>/{train,dev,test} for the source languages and return the report.

    `targets` are the languages of interpretation that are added as spoken translations; an interpretation is in the
    set of its source utterance. Raises AudioPaLMError when a language is unknown or missing, or when more than
    `options.max_drop` of the rows of a set are dropped.
    """
    for language in options.languages:
        if language not in HOURS:
            raise AudioPaLMError(f"VoxPopuli has no language {language!r}; {nearest(language, HOURS)}")
    for language in targets:
        if language not in TARGETS:
            raise AudioPaLMError(f"VoxPopuli has no interpretation into {language!r}; {nearest(language, TARGETS)}")
    downloads, unpacked = options.downloads, options.unpacked
    sets = {name: DataSet() for name in SETS}
    years = Years(downloads, unpacked)
    languages = list(options.languages) or [language for language in HOURS if language != ACCENTED]
    for language in languages:
        before = {name: len(data.utterances) for name, data in sets.items()}
        for data in sets.values():
            data.account.begin(language)
        for read in (_read_finished, _read_hub, _read_raw):
            if read(downloads, language, unpacked, years, sets):
                break
        else:
            raise AudioPaLMError(f"VoxPopuli, {language!r}: neither asr_{language}.tsv.gz, transcribed_data/{language} "
                                 f"nor data/{language} in {downloads}; the recipe's README.md says how to obtain it")
        measured = sum(hours(data.utterances[before[name]:]) for name, data in sets.items())
        compare(f"VoxPopuli, {language}", "hours", [measured], [HOURS[language]], tolerance=0.02)
    for target in targets:
        _add_interpretation(downloads, target, languages, years, sets, options.output)
    years.warn()
    if set(languages) == {ACCENTED}:
        sets = {name: data for name, data in sets.items() if data.account.rows}
    return write_sets(options.output, sets, options.max_drop)


class Years:
    """Finds the recordings of sessions. The archive of a year is unpacked when the year is first asked for."""

    def __init__(self, downloads: Path, unpacked: Path):
        self.downloads, self.unpacked = downloads, unpacked
        self.roots: dict[str, list[Path]] = {}
        self.recordings: dict[str, Recording] = {}
        self.missing: Counter[str] = Counter()

    def recording(self, channel: str, session: str) -> Recording:
        """The recording of a session. `channel` is `original`, the floor, or a language of interpretation."""
        name = f"{session}_{channel}"
        if name not in self.recordings:
            recording = look_at(self._find(channel, session[:4], name))
            if recording.problem == "missing":
                self.missing[f"{channel} {session[:4]}"] += 1
            elif recording.problem:
                logging.warning("%s: recording %s; fetch it again", recording.path, recording.problem)
            self.recordings[name] = recording
        return self.recordings[name]

    def _find(self, channel: str, year: str, name: str) -> Path | None:
        key = f"{channel}_{year}"
        if key not in self.roots:
            self.roots[key] = [self.downloads / "raw_audios", self.downloads]
            for archive in (self.downloads / folder / f"{key}{part}.tar" for folder in ("", "audios", "raw_audios")
                            for part in ("", "_2")):
                if archive.is_file():
                    self.roots[key].append(unpack(archive, self.unpacked / "voxpopuli"))
        for root in self.roots[key]:
            path = root / channel / year / f"{name}.ogg"
            if path.is_file():
                return path
        return None

    def warn(self) -> None:
        """Log the number of missing recordings by channel and year."""
        for year, sessions in sorted(self.missing.items()):
            logging.warning("VoxPopuli: %d recordings of %s are missing; is %s.tar there?", sessions, year,
                            year.replace(" ", "_"))


def utterance_id(speaker: str, segment: str) -> str:
    """The id of an utterance, without colons, which Kaldi's scripts and some file systems cannot handle."""
    return f"{speaker}-{segment}".replace(":", "-")


def short_code(language: str) -> str:
    """`en_accented` -> `en`: the code in data directories and in the ids of segments."""
    return language.partition("_")[0]


def _speaker(language: str, number: str, session: str) -> str:
    """The speaker id. Members of Parliament have numbers; a speaker without a number is unknown, one per session."""
    language = short_code(language)
    return f"{language}-{number}" if number.isdigit() else f"{language}-unknown-{session}"


def _table(downloads: Path, kind: str, name: str, *more: Path) -> Path | None:
    """The path of a table of annotations, which may be in one of several folders; None where it does not exist."""
    paths = [downloads / name, downloads / "annotations" / kind / name, *(folder / name for folder in more)]
    return next((path for path in paths if path.is_file()), None)


def _read_raw(downloads: Path, language: str, unpacked: Path, years: Years, sets: dict[str, DataSet]) -> bool:
    """Add the utterances of a language in the layout `raw`; False where `downloads` does not have it."""
    table = _table(downloads, "asr", f"asr_{language}.tsv.gz", downloads / "transcribed_data" / language)
    if table is None:
        return False
    columns = ["id_", "session_id", "speaker_id", "normed_text", "vad", "split"]
    for segment, session, number, text, vad, split in read_rows(table, columns, sets["train"].account, separator="|"):
        if split == UNUSED_SPLIT:
            continue
        data = sets.get(split, sets["train"])
        data.account.rows += 1
        name = f"{session}-{segment}"
        recording = years.recording("original", session)
        pieces = _pieces(vad)
        cuts = _cuts(recording, pieces or [])
        if split not in sets:
            reason = f"unknown split {split!r}"
        elif not text.strip():
            reason = "empty normed_text"
        elif pieces is None:
            reason = "vad is no list of pieces"
        elif recording.path is None or recording.problem:
            reason = f"recording of the session {recording.problem}"
        elif not cuts:
            reason = "no speech inside the recording"
        else:
            speaker = _speaker(language, number, session)
            data.utterances.append(Utterance(
                id=utterance_id(speaker, name), speaker=speaker, language=short_code(language), audio=recording.path,
                text=text, cuts=cuts, seconds=_seconds(cuts)))
            continue
        data.account.drop(name, reason)
    return True


def _pieces(vad: str) -> list[tuple[float, float]] | None:
    """`[(0.1, 2.5), ...]` in seconds; None for anything else."""
    try:
        pieces = [(float(start), float(end)) for start, end in ast.literal_eval(vad)]
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
    return pieces or None


def _cuts(recording: Recording, pieces: list[tuple[float, float]]) -> list[Cut]:
    """The pieces clipped to the length of the recording; pieces after its end are left out."""
    if recording.path is None:
        return []
    clipped = [(max(start, 0.0), min(end, recording.seconds)) for start, end in pieces]
    return [Cut(recording.path, start, end) for start, end in clipped if end - start >= 0.01]


def _seconds(cuts: list[Cut]) -> float:
    return sum(cut.end - cut.start for cut in cuts)


def _read_finished(downloads: Path, language: str, unpacked: Path, years: Years, sets: dict[str, DataSet]) -> bool:
    """Add the utterances of a language in the layout `finished`; False where `downloads` does not have it."""
    folder = downloads / "transcribed_data" / language
    if not (folder / "asr_test.tsv").is_file():
        return False

    def paths(key: str) -> list[Path | None]:
        return [folder / key[:4] / f"{name}.ogg" for name in (key, key.replace(":", "_"))]

    for name, data in sets.items():
        if (folder / f"asr_{name}.tsv").is_file():
            _read_files(folder / f"asr_{name}.tsv", language, data, paths)
    return True


def _read_hub(downloads: Path, language: str, unpacked: Path, years: Years, sets: dict[str, DataSet]) -> bool:
    """Add the utterances of a language in the layout `hub`; False where `downloads` does not have it."""
    folder = next((place / language for place in (downloads / "data", downloads)
                   if (place / language / "asr_test.tsv").is_file()), None)
    if folder is None:
        return False
    for name, data in sets.items():
        files = {path.name: path for part in sorted((folder / name).glob(f"{name}_part_*.tar.gz"))
                 for path in unpack(part, unpacked / "voxpopuli" / f"{language}-{name}").rglob("*.wav")}
        files |= {path.name: path for path in (folder / name).rglob("*.wav")}

        def paths(key: str, files: dict[str, Path] = files) -> list[Path | None]:
            return [files.get(f"{name}.wav") for name in (key, key.replace(":", "_"))]

        if (folder / f"asr_{name}.tsv").is_file():
            _read_files(folder / f"asr_{name}.tsv", language, data, paths)
    return True


def _read_files(table: Path, language: str, data: DataSet, paths: Callable[[str], list[Path | None]]) -> None:
    """Add the utterances of a table with one file for each row; `paths(id)` are the possible paths of the file."""
    for key, text, number in read_rows(table, ["id", "normalized_text", "speaker_id"], data.account):
        data.account.rows += 1
        recording = look_at(next((path for path in paths(key) if path is not None and path.is_file()), None))
        if not text.strip():
            data.account.drop(key, "empty normed_text")
        elif recording.path is None or recording.problem:
            data.account.drop(key, f"recording {recording.problem}")
        else:
            session = key.partition(f"-{short_code(language)}_")[0]
            speaker = _speaker(language, number, session)
            data.utterances.append(Utterance(
                id=utterance_id(speaker, key), speaker=speaker, language=short_code(language), audio=recording.path,
                text=text, seconds=recording.seconds))


def _add_interpretation(downloads: Path, target: str, languages: list[str], years: Years, sets: dict[str, DataSet],
                        output: Path) -> None:
    """Add the interpretation into one language to its source utterances, and write dropped.<language>.tsv.

    That file names every row from one of the `languages` that cannot be used. Raises AudioPaLMError where there is no
    table of the interpretation.
    """
    by_segment = {utterance.id.removeprefix(f"{utterance.speaker}-"): utterance
                  for data in sets.values() for utterance in data.utterances}
    table = _table(downloads, "s2s", f"s2s_{target}_ref.tsv.gz")
    has_text = table is not None
    table = table or _table(downloads, "s2s", f"s2s_{target}.tsv.gz")
    if table is None:
        raise AudioPaLMError(f"VoxPopuli: no s2s_{target}.tsv.gz in {downloads}: interpretation into {target!r} is not "
                             "published for every language")
    account, added = Account(), 0
    sources = {short_code(language) for language in languages}
    columns = ["id", "start_time", "end_time", *(["tgt_text"] if has_text else [])]
    for segment, start, end, *text in read_rows(table, columns, account):
        session, _, language = segment.partition("_")[0].rpartition("-")
        if language not in sources:
            continue
        source = by_segment.get(segment.replace(":", "-"))
        if source is None:
            account.drop(segment, "no such source utterance")
            continue
        recording = years.recording(target, session)
        cuts = _cuts(recording, _pieces(f"[({start}, {end})]") or [])
        if recording.problem:
            account.drop(segment, f"recording {recording.problem}")
        elif not cuts:
            account.drop(segment, "outside of the recording")
        else:
            source.spoken_cuts = {**source.spoken_cuts, target: cuts}
            source.spoken_seconds = {**source.spoken_seconds, target: _seconds(cuts)}
            if text and text[0].strip():
                source.translations[target] = text[0]
            added += 1
    write_text(output / f"dropped.{target}.tsv", "".join(f"{key}\t{why}\n" for key, why in account.dropped))
    logging.info("VoxPopuli: %d utterances with interpretation into %s; left out: %s", added, target,
                 ", ".join(f"{count} {why}" for why, count in counts(account.dropped).items()) or "none")
