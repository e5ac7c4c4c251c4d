"""Fish Fillets NG: the dialogue of a game, spoken by people in Czech and Dutch, with translations into English.

Debian ships it under GPL-2: the package fillets-ng-data has the scripts, fillets-ng-data-cs and -nl have the speech.

    script/<level>/dialogs_<language>.lua     dialogId("<id>", "<font>", "<English>") dialogStr("<text>")
    sound/<level>/<language>/<id>.ogg

The font of a line tells the speaker: the small fish, the big fish, or another character. Every tenth level is in dev
and every tenth in test, the same levels in both languages. Lines that also occur in dev or test are left out of train.
Texts are in lower case without punctuation, as in the embedded corpus.
"""

import re
import unicodedata
from pathlib import Path
from typing import Any

from audiopalm.core.errors import AudioPaLMError, nearest
from audiopalm.corpora.data_set import DataSet, ReaderOptions, Utterance, write_sets

LANGUAGES = ("cs", "nl")
SETS = ("train", "dev", "test")
INSTALLED = "usr/share/games/fillets-ng"
STRING = r'"((?:[^"\\]|\\.)*)"'
LINE = re.compile(rf"dialogId\(\s*{STRING}\s*,\s*{STRING}\s*,\s*{STRING}\s*\)(?:\s*dialogStr\(\s*{STRING}\s*\))?")
NOT_SPOKEN = ("[", "(")  # the first characters of a description of a sound


def prepare(options: ReaderOptions) -> dict[str, Any]:
    """Write <output>/{train,dev,test} and return the report.

    The downloads are the installed folder, or a folder with the three packages, unpacked together or each into its own
    subfolder. Raises AudioPaLMError for other languages, where scripts or speech are missing, and when more than
    `options.max_drop` of the rows of a set are dropped.
    """
    for code in options.languages:
        if code not in LANGUAGES:
            raise AudioPaLMError(f"the speech is in {' and '.join(LANGUAGES)}, not in {code!r}; "
                                 f"{nearest(code, LANGUAGES)}")
    roots = _roots(options.downloads)
    scripts = {path.parent.relative_to(root / "script"): path.parent
               for root in roots for path in sorted((root / "script").rglob("dialogs_en.lua"))}
    levels = sorted(scripts)
    sets = {name: DataSet() for name in SETS}
    held_out: set[str] = set()
    for number, level in sorted(enumerate(levels), key=lambda pair: _set_of(pair[0]) == "train"):
        name = _set_of(number)
        for code in options.languages or LANGUAGES:
            for utterance in _read_level(scripts[level], level, code, roots, sets[name]):
                texts = {utterance.text, *utterance.translations.values()}
                if name != "train":
                    held_out |= texts
                elif texts & held_out:
                    sets[name].account.drop(utterance.id, "line of dev or test")
                    continue
                sets[name].utterances.append(utterance)
    for code in options.languages or LANGUAGES:
        if not any(utterance.language == code for data in sets.values() for utterance in data.utterances):
            raise AudioPaLMError(f"{options.downloads} has no speech in {code}: the package fillets-ng-data-{code} is "
                                 "missing")
    return write_sets(options.output, sets, options.max_drop)


def _set_of(number: int) -> str:
    """The set of a level by its number."""
    return {4: "dev", 9: "test"}.get(number % 10, "train")


def _roots(downloads: Path) -> list[Path]:
    """The folders that hold scripts or speech."""
    roots = [root for root in (downloads, downloads / INSTALLED, *sorted(downloads.glob(f"*/{INSTALLED}")))
             if (root / "script").is_dir() or (root / "sound").is_dir()]
    if not any((root / "script").is_dir() for root in roots):
        raise AudioPaLMError(f"{downloads} does not hold the scripts of the Debian package fillets-ng-data; install it "
                             "with -cs and -nl, or unpack the three into a folder and give that as --downloads")
    return roots


def _read_level(script: Path, level: Path, code: str, roots: list[Path], data: DataSet) -> list[Utterance]:
    """The spoken lines of a level. `data` counts them and the lines that are dropped."""
    path = script / f"dialogs_{code}.lua"
    utterances: list[Utterance] = []
    for name, font, english, text in LINE.findall(path.read_text(encoding="utf-8")) if path.exists() else []:
        audio = next((file for root in roots if (file := root / "sound" / level / code / f"{name}.ogg").exists()), None)
        if audio is None:
            continue  # a line without speech, which is only shown
        data.account.rows += 1
        speaker = f"{code}-{font.removeprefix('font_') or 'other'}"
        key = f"{speaker}-{'_'.join(level.parts)}-{name}"
        if not plain(text) or text.startswith(NOT_SPOKEN):
            data.account.drop(key, "no text")
        else:
            utterances.append(Utterance(id=key, speaker=speaker, language=code, audio=audio, text=plain(text),
                                        translations={"en": plain(english)} if plain(english) else {}))
    return utterances


def plain(text: str) -> str:
    """A string of a script in lower case, without escapes and punctuation; an apostrophe inside a word stays."""
    text = unicodedata.normalize("NFKC", re.sub(r"\\(.)", r"\1", text)).lower().replace("’", "'")
    letters = "".join(" " if unicodedata.category(letter)[0] in "PSC" and letter != "'" else letter for letter in text)
    return " ".join(word.strip("'") for word in letters.split() if word.strip("'"))
