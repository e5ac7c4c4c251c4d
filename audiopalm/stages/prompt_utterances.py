"""The choice of voice prompts: the utterance of a set whose beginning prompts another utterance."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from audiopalm.acoustic.base import Acoustic
from audiopalm.acoustic.token_meta import check_token_meta, read_token_meta
from audiopalm.core.errors import AudioPaLMError
from audiopalm.data.archive import TokenArchive
from audiopalm.data.datadir import read_table
from audiopalm.data.speakers import speakers_beside

SILENCE = "<silence>"  # in the place of an utterance: no voice prompt


class Prompts:
    """The units and codec tokens of the source utterances of a set, and rules that choose prompts among them.

    Raises AudioPaLMError for missing tables, and for tokens that the acoustic model was not trained on.
    """

    def __init__(self, data_dir: str | Path, tokens: str | Path, acoustic: Acoustic, acoustic_dir: str | Path) -> None:
        self.meta = read_token_meta(tokens)
        check_token_meta(acoustic.meta, self.meta, acoustic_dir, tokens)
        self.tokens = Path(tokens)
        self.units = TokenArchive(self.tokens / "units.scp")
        self.codec = TokenArchive(self.tokens / "codec.scp", self.meta["codec_levels"])
        self.language = read_table(Path(data_dir) / "utt2lang", "stage 2 (audio)")
        speaker = read_table(Path(data_dir) / "utt2spk", "stage 2 (audio)")
        self._of_speaker: dict[str, list[str]] = {}
        for utterance in sorted(set(self.codec) & set(self.units), key=str.encode):
            self._of_speaker.setdefault(speaker[utterance], []).append(utterance)
        self._speaker = speaker

    def own(self, utterance: str) -> str:
        """The utterance itself. Raises AudioPaLMError if it has no codec tokens."""
        if utterance not in self.codec:
            raise AudioPaLMError(f"{self.codec.path} has no codec tokens for the voice prompt of {utterance!r}; "
                                 "tokenize this set with the codec (stage 5)")
        return utterance

    def next(self, utterance: str) -> str:
        """The next utterance of the same speaker by id, wrapping round; the same utterance if there is no other."""
        of_speaker = self._of_speaker.get(self._speaker[self.own(utterance)], [])
        return of_speaker[(of_speaker.index(utterance) + 1) % len(of_speaker)]

    def others(self, utterances: Iterable[str], language: str) -> dict[str, str]:
        """{utterance: an utterance of another speaker}; raises AudioPaLMError if the set has no other speaker."""
        utterances, known = list(utterances), set(self.codec) & set(self.units)
        prompts, _ = speakers_beside(utterances, known, self._speaker, self.language, language)
        if alone := [utterance for utterance in utterances if utterance not in prompts]:
            raise AudioPaLMError(f"{self.tokens} has no other speaker than that of {alone[0]!r} to prompt with; leave "
                                 "out --other_prompts")
        return prompts

    def first_unit(self) -> int:
        """The unit that most utterances begin with, the unit of silence."""
        return Counter(int(self.units[name][0]) for name in self.units if len(self.units[name])).most_common(1)[0][0]

    def of(self, utterance: str) -> tuple[np.ndarray, np.ndarray]:
        """The units `[P]` and codec tokens `[about 2 * P, levels]`, int32, of a prompt utterance."""
        return self.units[utterance], self.codec[utterance].reshape(-1, self.meta["codec_levels"])
