"""Several corpora as one: their train sets are united, and so are their dev sets; test sets stay separate (egs/joint).

Each corpus is first prepared into <output>/<corpus>/{train,dev,test}. In the united sets an utterance is named
`<corpus>-<its id in the corpus>`. They always have `segments`: VoxPopuli has parts of recordings, the other corpora
have whole files. Later releases of Common Voice divide the clips of CoVoST 2 differently: a clip that is in one set of
CoVoST 2 or CVSS is left out of the other sets of Common Voice.
"""

import logging
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

from audiopalm.core.errors import AudioPaLMError, nearest
from audiopalm.core.files import atomic_path, require, write_json
from audiopalm.corpora import common_voice_asr, covost2, cvss, voxpopuli
from audiopalm.corpora.covost2 import INTO_ENGLISH, short_code
from audiopalm.corpora.data_set import ReaderOptions
from audiopalm.data.datadir import languages_of, read_table, table_line, write_lines
from audiopalm.languages import in_order

# {corpus: the codes of its languages}
KNOWN = {"covost2": INTO_ENGLISH, "cvss": INTO_ENGLISH, "voxpopuli": tuple(voxpopuli.HOURS)}
CORPORA = ("common_voice", "covost2", "cvss", "spoken_mt", "voxpopuli")
TEXTS = ("text", "utt2spk", "utt2lang")


def prepare(options: ReaderOptions, corpora: Sequence[str] = (), name: str = "joint", version: str = "c",
            targets: Sequence[str] = ()) -> dict[str, Any]:
    """Write <output>/{train,dev}_<name> and <output>/<corpus>_test; return {`<corpus>/<set>`: its report}.

    The languages are Common Voice's codes; each corpus is read in the languages that it has. `version` is the version
    of CVSS, `targets` are the target languages of VoxPopuli. The corpus `spoken_mt` is the output of
    audiopalm.stages.speak_texts in <output>/spoken_mt. Raises AudioPaLMError for an unknown corpus, for a corpus that
    has none of the languages, for a language that none of them has, and as the readers do.
    """
    output, downloads = options.output, options.downloads
    report: dict[str, Any] = {}
    for corpus in corpora:
        if corpus not in CORPORA:
            raise AudioPaLMError(f"unknown corpus {corpus!r}; {nearest(corpus, CORPORA)}")
    if "spoken_mt" in corpora:
        require(output / "spoken_mt" / "train" / "wav.scp", "audiopalm.stages.speak_texts")
    read: dict[str, Callable[..., dict[str, Any]]] = {
        "covost2": covost2.prepare, "cvss": partial(cvss.prepare, version=version),
        "voxpopuli": partial(voxpopuli.prepare, targets=targets), "common_voice": common_voice_asr.prepare}
    folders: dict[str, Path] = {}
    languages: dict[str, list[str]] = {}
    for corpus in sorted(read.keys() & set(corpora)):
        # Common Voice has its own folder, so that its release is not confused with release 4, that of CoVoST 2.
        own = downloads / corpus
        folders[corpus] = own if corpus == "common_voice" or corpus == "voxpopuli" and own.is_dir() else downloads
        languages[corpus] = _known(corpus, options.languages, folders[corpus])
    known = set(chain.from_iterable(languages.values()))
    for code in options.languages:
        if folders and not {code, short_code(code)} & known:
            raise AudioPaLMError(f"none of {', '.join(folders)} has the language {code!r}; leave it out of --langs")
    for corpus, folder in folders.items():
        logging.info("reading %s", corpus)
        entries = read[corpus](replace(options, downloads=folder, output=output / corpus,
                                       languages=languages[corpus]))
        report |= {f"{corpus}/{kind}": entry for kind, entry in entries.items()}
    sources = {kind: {corpus: output / corpus / kind for corpus in sorted(corpora)
                      if (output / corpus / kind / "text").is_file()} for kind in ("train", "dev", "test")}
    divided = {clip_of(key): kind for kind, folders in sources.items() for corpus, source in folders.items()
               if corpus in ("covost2", "cvss") for key, _ in _rows(source / "text")}

    def wanted(kind: str, corpus: str, key: str) -> bool:
        return corpus != "common_voice" or divided.get(clip_of(key), kind) == kind

    for kind in ("train", "dev"):
        unite(output / f"{kind}_{name}", sources[kind], partial(wanted, kind))
    for corpus, source in sources["test"].items():
        unite(output / f"{corpus}_test", {corpus: source}, partial(wanted, "test"))
    return report


def _known(corpus: str, languages: Sequence[str], folder: Path) -> list[str]:
    """The `languages` that the corpus has, in its own codes; an empty list for all languages."""
    if corpus == "common_voice":
        known = [language for language in languages if (folder / language).is_dir()]
    else:
        spelt = {code if code in KNOWN[corpus] else short_code(code) for code in languages}
        known = [code for code in KNOWN[corpus] if code in spelt]
    if languages and not known:
        raise AudioPaLMError(f"{corpus} has none of --langs {' '.join(languages)}; leave it out by --corpora")
    return known


def clip_of(utterance: str) -> str:
    """`fr-<speaker>-common_voice_fr_1` -> `common_voice_fr_1`, in every corpus that has the clip."""
    return utterance.rpartition("-")[2]


def unite(target: Path, sources: dict[str, Path], wanted: Callable[[str, str], bool]) -> None:
    """Unite the data directories of several corpora, {corpus: directory}, without utterances that are not
    `wanted(corpus, id)`.

    Tables are written line by line: ids are in order, because those of a corpus begin with its name. languages.json
    beside them lists the source languages that have translations, and those that have transcripts only.
    """
    shutil.rmtree(target, ignore_errors=True)  # an earlier run may have had more tables
    for table in TEXTS:
        write_lines(target / table, _lines(sources, table, wanted))
    for code in sorted({code for source in sources.values() for code in languages_of(source, "text")}):
        write_lines(target / f"text.{code}", _lines(sources, f"text.{code}", wanted))
    write_lines(target / "spk2utt", _speakers(sources, wanted))
    kept = _write_segments(target, sources, wanted)
    translated = {language for corpus, source in sources.items() for language in _translated(source)}
    spoken = set(read_table(target / "utt2lang").values())
    write_json(target / "languages.json", {"translated": in_order(spoken & translated),
                                           "transcribed_only": in_order(spoken - translated)})
    logging.info("wrote %s: %s", target, ", ".join(f"{number} of {corpus}" for corpus, number in kept.items()))


def _rows(path: Path) -> Iterator[tuple[str, str]]:
    """(id, value) of each line of a table, in the order of the file; none where there is no file."""
    if path.is_file():
        with open(path, encoding="utf-8", newline="\n") as lines:
            for line in lines:
                key, _, value = line.rstrip("\n").partition(" ")
                yield key, value


def _lines(sources: dict[str, Path], table: str, wanted: Callable[[str, str], bool]) -> Iterator[tuple[str, str]]:
    for corpus, source in sources.items():
        for key, value in _rows(source / table):
            if wanted(corpus, key):
                yield f"{corpus}-{key}", f"{corpus}-{value}" if table == "utt2spk" else value


def _speakers(sources: dict[str, Path], wanted: Callable[[str, str], bool]) -> Iterator[tuple[str, str]]:
    for corpus, source in sources.items():
        for speaker, keys in _rows(source / "spk2utt"):
            kept = [f"{corpus}-{key}" for key in keys.split() if wanted(corpus, key)]
            if kept:
                yield f"{corpus}-{speaker}", " ".join(kept)


def _write_segments(target: Path, sources: dict[str, Path], wanted: Callable[[str, str], bool]) -> dict[str, int]:
    """Write `segments`, `segments.<language>` and `wav.scp`; return {corpus: number of its utterances}."""
    kept: dict[str, int] = defaultdict(int)
    with ExitStack() as stack:
        files: dict[str, TextIO] = {}

        def write(name: str, key: str, value: str) -> None:
            if name not in files:
                temporary = stack.enter_context(atomic_path(target / name))
                files[name] = stack.enter_context(open(temporary, "w", encoding="utf-8"))
            files[name].write(table_line(key, value))

        for corpus, source in sources.items():
            recordings: dict[str, str] = {}
            in_pieces = (source / "segments").is_file()
            name = "segments" if in_pieces else "wav.scp"
            for suffix in ["", *(f".{code}" for code in languages_of(source, name))]:
                for key, value in _rows(source / f"{name}{suffix}"):
                    if not wanted(corpus, key):
                        continue
                    kept[corpus] += not suffix
                    if in_pieces:
                        fields = value.split()
                        fields[::3] = [f"{corpus}-{recording}" for recording in fields[::3]]
                        write(f"segments{suffix}", f"{corpus}-{key}", " ".join(fields))
                    else:
                        recordings[f"{corpus}-{key}{suffix}"] = value
                        write(f"segments{suffix}", f"{corpus}-{key}", f"{corpus}-{key}{suffix} 0 -1")
            if in_pieces:
                recordings = {f"{corpus}-{key}": value for key, value in _rows(source / "wav.scp")}
            for key in sorted(recordings, key=str.encode):
                write("wav.scp", key, recordings[key])
    return dict(kept)


def _translated(source: Path) -> set[str]:
    """The languages of utterances that have a translation, as text or as speech."""
    language = read_table(source / "utt2lang")
    tables = [f"{name}.{code}" for name in ("text", "wav.scp", "segments") for code in languages_of(source, name)]
    return {language[key] for table in tables for key, _ in _rows(source / table)}
