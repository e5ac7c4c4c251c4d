"""Common Voice for speech recognition, any release: its own train, dev and test sets, in all downloaded languages.

It is stored separately from release 4, which CoVoST 2 and CVSS need, because releases differ in their clips.
`<downloads>/<language>/` holds `{train,dev,test}.tsv` and `clips/`, as in an archive. Clips that are in another set of
CoVoST 2 are not removed here, but by audiopalm/corpora/joint.py.
"""

import logging
from pathlib import Path
from typing import Any

from audiopalm.core.errors import AudioPaLMError
from audiopalm.corpora.common_voice import SPEAKER_DIGITS, Clip, clip_path, why_not
from audiopalm.corpora.covost2 import short_code
from audiopalm.corpora.data_set import DataSet, ReaderOptions, Utterance, write_sets
from audiopalm.corpora.tables import read_columns, values
from audiopalm.languages import LANGUAGES

SETS = ("train", "dev", "test")


def prepare(options: ReaderOptions) -> dict[str, Any]:
    """Write <output>/{train,dev,test} for the languages (Common Voice's codes) and return the report.

    By default all languages in the downloads are read. Nothing is unpacked. Raises AudioPaLMError when a language is
    missing, when there is no language, or when more than `options.max_drop` of the rows of a set are dropped.
    """
    folders = {path.parent.name: path.parent for path in sorted(options.downloads.glob("*/train.tsv"))
               if (path.parent / "clips").is_dir()}
    missing = [language for language in options.languages if language not in folders]
    if missing or not folders:
        raise AudioPaLMError(f"Common Voice, {missing[0] if missing else 'any language'}: {options.downloads} has no "
                             "folder of it with train.tsv and clips/; unpack the archive there")
    sets = {name: DataSet() for name in SETS}
    for language in options.languages or folders:
        if short_code(language) in LANGUAGES:
            for name, data in sets.items():
                _read_set(folders[language], language, name, data)
        else:
            logging.warning("Common Voice, %s: left out, because audiopalm/languages.py has no name for it", language)
    return write_sets(options.output, sets, options.max_drop)


def _read_set(folder: Path, language: str, name: str, data: DataSet) -> None:
    data.account.begin(language)
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
