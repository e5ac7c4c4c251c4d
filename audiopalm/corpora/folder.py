"""A folder of recordings with a text beside each: the corpus of a recipe that new_recipe.sh makes.

    <downloads>/<set>/<name>.wav        or .flac, .ogg, .mp3
    <downloads>/<set>/<name>.txt        its transcript
    <downloads>/<set>/<name>.en.txt     optional: its translation into English; likewise other languages
    <downloads>/<set>/<name>.en.wav     optional: its spoken translation

Endings may be capitals, names may have dots. Sets are train, dev and test.

In a name such as `anna-0001`, the part before the last hyphen is the speaker; a recording
with another name counts as a speaker of its own. --langs gives the language.

Recordings in several languages are in one folder per language, named by its code:
<downloads>/<set>/<language>/<name>.wav. --langs chooses the languages; by default all are read. The utterance of
nl/anna-0001.wav is then anna-0001-nl.
"""

from pathlib import Path
from typing import Any

from audiopalm.core.errors import AudioPaLMError
from audiopalm.corpora.data_set import DataSet, ReaderOptions, Utterance, write_sets
from audiopalm.languages import LANGUAGES, language_name

SETS = ("train", "dev", "test")
AUDIO = ("wav", "flac", "ogg", "mp3")
NOT_UTF8 = "\ufffd"  # stands for a text that cannot be read


def prepare(options: ReaderOptions) -> dict[str, Any]:
    """Write <output>/{train,dev,test} and return the report.

    Raises AudioPaLMError when a set or a language in it is missing, for unknown languages, and when more than
    `options.max_drop` of the recordings of a set are dropped.
    """
    downloads = options.downloads
    folders = {name: downloads / name for name in SETS}
    for folder in folders.values():
        if not folder.is_dir():
            raise AudioPaLMError(f"{folder} does not exist; the recordings lie in {', '.join(SETS)} of {downloads}")
    by_language = sorted({path.name for folder in folders.values() for path in folder.iterdir()
                          if path.is_dir() and not path.name.startswith(".")})
    if not by_language and len(options.languages) != 1:
        raise AudioPaLMError(f"the recordings in {downloads} are in one language: give its code, for example "
                             "--langs en; recordings in several languages lie in one folder per language, named by its "
                             "code")
    languages = options.languages or by_language
    for code in languages:
        language_name(code)
    sets = {name: DataSet() for name in SETS}
    for name, folder in folders.items():
        if not by_language:
            _read_folder(folder, languages[0], "", sets[name])
            continue
        if beside := [path for path in sorted(folder.iterdir()) if path.suffix[1:].lower() in AUDIO]:
            raise AudioPaLMError(f"{beside[0]} lies beside folders ({' '.join(by_language)}); where there are folders, "
                                 "every recording lies in the folder of its language")
        for language in languages:
            if not (folder / language).is_dir():
                raise AudioPaLMError(f"{folder / language} does not exist; each language needs a folder in "
                                     f"{', '.join(SETS)}, or --langs leaves it out")
            _read_folder(folder / language, language, f"-{language}", sets[name])
    return write_sets(options.output, sets, options.max_drop)


def _read_folder(folder: Path, language: str, suffix: str, data: DataSet) -> None:
    """Add the recordings of a folder to `data`; `suffix` is appended to their names."""
    data.account.begin(language)
    by_name: dict[str, dict[str, Path]] = {}  # {name: {ending after the name: file}}
    for path in sorted(folder.iterdir()):
        if path.is_file() and not path.name.startswith("."):
            name, kind = _name_and_kind(path.name)
            by_name.setdefault(name, {})[kind] = path
    for name, files in by_name.items():
        data.account.rows += 1
        audio = next((files[kind] for kind in AUDIO if kind in files), None)
        text = _text(files.get("txt"))
        if " " in name:
            data.account.drop(name + suffix, "space in the name")
        elif not _is_utf8(name):
            data.account.drop(ascii(name + suffix), "name is not UTF-8")
        elif audio is None:
            other = next((kind for kind in files if kind.rpartition(".")[2] not in ("txt", *AUDIO)), None)
            data.account.drop(name + suffix, "text without recording" if other is None else
                              f"no recording, but a file .{other}")
        elif any(_text(path) == NOT_UTF8 for kind, path in files.items() if kind.endswith("txt")):
            data.account.drop(name + suffix, "text is not UTF-8")
        elif text is None:
            data.account.drop(name + suffix, "recording without text")
        elif not text:
            data.account.drop(name + suffix, "empty text")
        else:
            translations: dict[str, str] = {}
            spoken: dict[str, Path] = {}
            for kind, path in files.items():
                code, _, ending = kind.partition(".")
                if ending == "txt" and (translation := _text(path)):
                    translations[code] = translation
                elif ending in AUDIO:
                    spoken[code] = path
            data.utterances.append(Utterance(
                id=name + suffix, speaker=name.rpartition("-")[0] or name + suffix, language=language, audio=audio,
                text=text, translations=translations, spoken=spoken))


def _name_and_kind(file: str) -> tuple[str, str]:
    """`anna-1.en.txt` -> (`anna-1`, `en.txt`), `rec.01.WAV` -> (`rec.01`, `wav`).

    A name may have dots; only the code of a language before the ending is that of a translation.
    """
    name, _, ending = file.rpartition(".")
    if not name:
        return file, ""
    stem, _, code = name.rpartition(".")
    kind = ending.lower()
    return (stem, f"{code}.{kind}") if stem and code in LANGUAGES and kind in ("txt", *AUDIO) else (name, kind)


def _is_utf8(name: str) -> bool:
    """Whether the name of a file is UTF-8; Python shows other bytes as surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in name)


def _text(path: Path | None) -> str | None:
    """The text of a file on one line; None where there is no file, NOT_UTF8 for other bytes."""
    try:
        return None if path is None else " ".join(path.read_text(encoding="utf-8-sig").split())
    except UnicodeDecodeError:
        return NOT_UTF8
