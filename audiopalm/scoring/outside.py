"""A made-up set of outside inputs: sounds and texts that users and devices send and that the model was not trained on.

The calibration is fitted on some kinds. It is tested on the same kinds and on further kinds that it was not fitted on.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.yaml_files import read_yaml
from audiopalm.data.audio import SAMPLE_RATE

Heard = tuple[str, np.ndarray]  # language of the tag, samples float32 `[T]`
Written = tuple[str, str]  # language of the tag, text
WRONG = "wrong language"  # an input under the tag of another language
FITTED_SOUNDS = ("noise", "silence", "reversed")
TESTED_SOUNDS = (*FITTED_SOUNDS, "music", "chopped", "babble", WRONG)
FITTED_TEXTS = ("open", "shuffled", WRONG)
TESTED_TEXTS = (*FITTED_TEXTS, "other")
NOTES = 24  # two octaves
PIECE = 0.1  # seconds; the length of the pieces of `chopped`


def sounds(recordings: Sequence[Heard], kinds: Sequence[str], count: int, seed: int) -> dict[str, list[Heard]]:
    """{kind: `count` sounds}. Each sound is as long as one of the recordings; kinds made from speech change it, or its
    language. Recordings of a single language have none in a wrong one."""
    languages = sorted({language for language, _ in recordings})
    made: dict[str, list[Heard]] = {}
    for kind in kinds:
        if kind == WRONG and len(languages) == 1:
            continue
        random = np.random.default_rng([seed, *kind.encode()])
        made[kind] = []
        for _ in range(count):
            language, samples = recordings[int(random.integers(len(recordings)))]
            if kind == WRONG:
                made[kind].append((_other(language, languages, random), samples))
            else:
                made[kind].append((language, _sound(kind, samples, recordings, random).astype(np.float32)))
    return made


def _other(language: str, languages: Sequence[str], random: np.random.Generator) -> str:
    """A random one of the other languages."""
    return languages[(languages.index(language) + int(random.integers(1, len(languages)))) % len(languages)]


def _sound(kind: str, samples: np.ndarray, recordings: Sequence[Heard], random: np.random.Generator) -> np.ndarray:
    length = len(samples)
    if kind == "silence":
        return 1e-5 * random.standard_normal(length)
    if kind == "noise":
        noise = random.standard_normal(length)
        if random.random() < 0.5:  # brown
            noise = np.cumsum(noise) - np.linspace(0, noise.sum(), length)
        return 10 ** random.uniform(-2.5, -0.3) * noise / np.abs(noise).max()
    if kind == "reversed":
        return samples[::-1].copy()
    if kind == "music":
        return _music(length, random)
    if kind == "chopped":
        pieces = np.array_split(samples, max(int(length / SAMPLE_RATE / PIECE), 2))
        return np.concatenate([pieces[number] for number in random.permutation(len(pieces))])
    if kind == "babble":
        voices = [recordings[int(random.integers(len(recordings)))][1] for _ in range(6)]
        return np.sum([np.resize(voice, length) for voice in voices], axis=0) / len(voices)
    raise AudioPaLMError(f"unknown kind of sound {kind!r}")


def _music(length: int, random: np.random.Generator) -> np.ndarray:
    """Chords of plucked tones."""
    music, start = np.zeros(length), 0
    while start < length:
        duration = min(int(SAMPLE_RATE * random.choice([0.2, 0.3, 0.5])), length - start)
        time = np.arange(duration) / SAMPLE_RATE
        root = 110 * 2 ** (random.integers(NOTES) / 12)
        for interval in (1, random.choice([1.2, 1.25]), 1.5):
            for harmonic in range(1, 6):
                music[start:start + duration] += np.sin(2 * np.pi * root * interval * harmonic * time) / harmonic * \
                    np.exp(-3 * time)
        start += duration
    return 0.2 * music / max(np.abs(music).max(), 1e-9)


def texts(path: Path | None, sentences: Sequence[Written], kinds: Sequence[str], count: int, seed: int,
          fitted: bool) -> dict[str, list[Written]]:
    """{kind: texts}. Kinds without texts are left out.

    `open` and `other` come from the YAML file `path`, {language or `other`: sentences}; without a file there are none.
    `open` is the first half of each list if `fitted`, else the second half. `shuffled` and `wrong language` are at most
    `count` of `sentences`, with their words shuffled or under the tag of another language.
    """
    open_sentences = read_yaml(path) if path else {}
    languages = sorted({language for language, _ in sentences})
    made: dict[str, list[Written]] = {}
    for kind in kinds:
        random = np.random.default_rng([seed, *kind.encode()])
        chosen = [sentences[index] for index in random.permutation(len(sentences))[:count]]
        if kind == "open":
            made[kind] = [(language, text) for language in languages
                          for text in _half(open_sentences.get(language, []), fitted)]
        elif kind == "other":
            made[kind] = [(languages[number % len(languages)], text)
                          for number, text in enumerate(open_sentences.get("other", []))]
        elif kind == "shuffled":
            made[kind] = [(language, " ".join(random.permutation(text.split()))) for language, text in chosen
                          if len(set(text.split())) > 4]
        elif kind == WRONG and len(languages) > 1:
            made[kind] = [(_other(language, languages, random), text) for language, text in chosen]
    return {kind: written for kind, written in made.items() if written}


def _half(sentences: list[str], first: bool) -> list[str]:
    middle = len(sentences) // 2
    return sentences[:middle] if first else sentences[middle:]
