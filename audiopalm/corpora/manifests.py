"""Lhotse manifests of a data directory of stage 1, written by lhotse itself.

    <prefix>_recordings_<set>.jsonl.gz      the files, as published
    <prefix>_supervisions_<set>.jsonl.gz    one for each utterance; custom["translated_text"] = {language: text}
    <prefix>_cuts_<set>.jsonl.gz            instead of supervisions, where utterances are several pieces of a recording
                                            joined: a supervision would include the audio between the pieces
    ..._<set>.<language>.jsonl.gz           the same for spoken translations; their ids are those of the utterances
"""

import logging
from pathlib import Path
from typing import Any

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import atomic_path
from audiopalm.core.progress import progress
from audiopalm.corpora.recordings import look_at
from audiopalm.data.audio import read_audio
from audiopalm.data.datadir import languages_of, read_table
from audiopalm.data.segments import Speech, read_speech


def require_lhotse() -> None:
    """Raise AudioPaLMError when lhotse is not installed. It is called before a corpus is read."""
    try:
        import lhotse  # noqa: F401
    except ImportError:
        raise AudioPaLMError("--lhotse true needs lhotse: pip install lhotse (or this package with its extra `lhotse`)"
                             ) from None


def write_manifests(directory: Path, output: Path, prefix: str) -> None:
    """Write the manifests of the data directory `<set>` into `output`.

    Each mp3 file is decoded, because its header may state a wrong length. Utterances whose audio cannot be read are
    left out and named in the log. Raises AudioPaLMError when no audio can be read.
    """
    text, utt2lang, utt2spk = (read_table(directory / name) for name in ("text", "utt2lang", "utt2spk"))
    translated = {language: read_table(directory / f"text.{language}") for language in languages_of(directory, "text")}
    about: dict[str, dict[str, Any]] = {}
    for key in text:
        translations = {language: table[key] for language, table in translated.items() if key in table}
        about[key] = {"text": text[key], "language": utt2lang[key], "speaker": utt2spk[key],
                      "custom": {"translated_text": translations}}
    _write_part(read_speech(directory), about, output, prefix, directory.name)
    for language in sorted({*languages_of(directory, "wav.scp"), *languages_of(directory, "segments")}):
        about = {key: {"text": translated.get(language, {}).get(key), "language": language} for key in text}
        _write_part(read_speech(directory, f".{language}"), about, output, prefix, f"{directory.name}.{language}")


def _write_part(speeches: dict[str, Speech], about: dict[str, dict[str, Any]], output: Path, prefix: str,
                part: str) -> None:
    """Write the manifests of one `part`; `about` holds the further arguments of each supervision."""
    from lhotse import CutSet, RecordingSet, SupervisionSegment, SupervisionSet

    recordings, supervisions, cuts = Recordings(), [], []
    joined = any(len(speech.cuts) > 1 for speech in speeches.values())
    for key, speech in progress(speeches.items(), len(speeches), f"manifests of {part}"):
        try:
            if speech.cuts:  # a recording of many utterances is named by its file, a recording of one by the utterance
                pieces = [(recordings.get(path, Path(path).stem), start, end) for path, start, end in speech.cuts]
            else:
                recording = recordings.get(speech.path, key)
                pieces = [(recording, 0.0, recording.duration)]
        except AudioPaLMError as error:
            logging.warning("%s is not in the manifests: %s", key, error)
            continue
        supervision = SupervisionSegment(
            id=key, recording_id=pieces[0][0].id, start=0.0 if joined else pieces[0][1],
            duration=round(sum(end - start for _, start, end in pieces), 8), **about[key])
        if joined:
            cuts.append(_joined(key, pieces, supervision))
        else:
            supervisions.append(supervision)
    if not recordings.read:
        raise AudioPaLMError(f"lhotse can read none of the recordings of {part}; the log names them")
    _write(RecordingSet.from_recordings(recordings.read.values()), output / f"{prefix}_recordings_{part}.jsonl.gz")
    if joined:
        _write(CutSet.from_cuts(cuts), output / f"{prefix}_cuts_{part}.jsonl.gz")
    else:
        _write(SupervisionSet.from_segments(supervisions), output / f"{prefix}_supervisions_{part}.jsonl.gz")


class Recordings:
    """Lhotse's recordings by name; each file is opened once."""

    def __init__(self) -> None:
        self.read: dict[str, Any] = {}
        self.unread: dict[str, str] = {}

    def get(self, path: str, name: str) -> Any:
        """The `lhotse.Recording` of a file. Raises AudioPaLMError when it cannot be read."""
        if name not in self.read and name not in self.unread:
            try:
                self.read[name] = _recording(Path(path), name)
            except AudioPaLMError as error:
                self.unread[name] = str(error)
        if name in self.unread:
            raise AudioPaLMError(self.unread[name])
        return self.read[name]


def _recording(path: Path, name: str) -> Any:
    from lhotse import Recording

    problem = look_at(path).problem
    if problem:
        raise AudioPaLMError(f"{path}: recording {problem}")
    recording = Recording.from_file(path, recording_id=name)
    if path.suffix == ".mp3":  # lhotse would take the length in the header, which may be wrong
        recording.num_samples = len(read_audio(path, recording.sampling_rate))
        recording.duration = recording.num_samples / recording.sampling_rate
    return recording


def _joined(key: str, pieces: list[tuple[Any, float, float]], supervision: Any) -> Any:
    """A cut of the pieces, (recording, start, end), one after the other, with one supervision over all of them."""
    from lhotse import MonoCut

    first, *others = [MonoCut(id=f"{key}-{number}", start=start, duration=round(end - start, 8), channel=0,
                              recording=recording) for number, (recording, start, end) in enumerate(pieces)]
    first.supervisions = [supervision]
    for piece in others:
        first = first.append(piece)
    return first.with_id(key)


def _write(manifest: Any, path: Path) -> None:
    with atomic_path(path) as temporary:
        manifest.to_file(temporary)
