"""Common Voice for recognition, of any release: its own train, dev and test sets, in all languages that are there.

Apart from release 4, which CoVoST 2 and CVSS need, since another release has other clips. `<downloads>/<language>/`
holds `{train,dev,test}.tsv` and `clips/`, as an archive has them. Which of its clips are in other sets of CoVoST 2 is
not looked at here: audiopalm/corpora/joint.py takes these out.
"""

import logging
from pathlib import Path

from audiopalm.core.errors import AudioPaLMError
from audiopalm.corpora.columns import read_columns, values
from audiopalm.corpora.common_voice import SPEAKER_DIGITS, Clip, clip_path, why_not
from audiopalm.corpora.covost2 import short_code
from audiopalm.corpora.data_set import DataSet, Utterance, write_sets
from audiopalm.languages import LANGUAGES

SETS = ("train", "dev", "test")


def prepare(downloads: str | Path, output: str | Path, languages: list[str], unpacked: str | Path,
            max_drop: float = 0.05) -> dict:
    """Write <output>/{train,dev,test} for the `languages` (Common Voice's codes; none: all there are) and return the
    report.

    Nothing is unpacked. Raises AudioPaLMError when a language is missing or none is found, or when more than `max_drop`
    of the rows of a set are dropped.
    """
    folders = {path.parent.name: path.parent for path in sorted(Path(downloads).glob("*/train.tsv"))
               if (path.parent / "clips").is_dir()}
    if missing := [language for language in languages if language not in folders] or not folders:
        what = missing[0] if languages else "any language"
        raise AudioPaLMError(f"Common Voice, {what}: {downloads} has no folder of it with train.tsv and clips/; "
                             "unpack the archive there")
    sets = {name: DataSet() for name in SETS}
    for language in languages or folders:
        if short_code(language) in LANGUAGES:
            for name, data in sets.items():
                _read_set(folders[language], language, name, data)
        else:
            logging.warning("Common Voice, %s: left out, audiopalm/languages.py has no name for it", language)
    return write_sets(Path(output), sets, max_drop)


def _read_set(folder: Path, language: str, name: str, data: DataSet) -> None:
    columns = read_columns(folder / f"{name}.tsv", ["client_id", "path", "sentence"], data.account,
                           recurring=["client_id"])
    for client, clip, sentence in zip(*map(values, columns), strict=True):
        data.account.rows += 1
        clip = clip.removesuffix(".mp3")
        speaker = f"{language}-{client[:SPEAKER_DIGITS] or 'unknown'}"
        audio = clip_path(folder, f"{clip}.mp3")
        reason = why_not(Clip(sentence, speaker), audio)
        if reason:
            data.account.drop(clip, reason)
        else:
            data.utterances.append(Utterance(f"{speaker}-{clip}", speaker, short_code(language), audio, sentence))
