"""Training batches of a data set: voice prompts with other speech of the same speakers, drawn by the index."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from audiopalm.acoustic.latents import UnitLatents
from audiopalm.acoustic.prompt import FRAMES_PER_UNIT, align, fit_prompt
from audiopalm.acoustic.token_meta import read_token_meta
from audiopalm.core.errors import AudioPaLMError, nearest
from audiopalm.core.files import require
from audiopalm.data.index import open_index
from audiopalm.data.indexed import IndexedSet

LATENT_UTTERANCES = 20_000  # sufficient for the averages of a few thousand units


@dataclass
class Batch:
    """V voice prompts and, for each of them, `targets` sequences of the same speaker; all arrays are int64.

    prompt_units: `[V, P / 2]`. prompt_codec: `[V, P, levels]`. With B = V * targets, in the order of the prompts:
    units `[B, T / 2]`, codec `[B, T, levels]`, voice `[B]` (the row of the prompt).
    """

    prompt_units: np.ndarray
    prompt_codec: np.ndarray
    units: np.ndarray
    codec: np.ndarray
    voice: np.ndarray


class Groups:
    """The numbers 0..N-1 in groups. `of[n]`, int32, is the group of n. `members(g)` are the sorted numbers in g."""

    def __init__(self, codes: np.ndarray):
        self.keys, self.of = np.unique(codes, return_inverse=True)
        self.of = self.of.astype(np.int32)
        self._order = np.argsort(self.of, kind="stable").astype(np.int32)
        self._begins = np.searchsorted(self.of[self._order], np.arange(len(self.keys) + 1))

    def __len__(self) -> int:
        return len(self.keys)

    def members(self, group: int) -> np.ndarray:
        return self._order[self._begins[group]:self._begins[group + 1]]


class Corpus:
    """Units and codec tokens of every utterance that has both, grouped by speaker and by (speaker, language).

    levels: the number of codec levels to use, the coarsest first; 0 uses all. weights: utterances of a language are
    drawn `weights[language]` times as often as utterances of languages without a weight. Tokens are read when they are
    drawn; memory holds only a few numbers per utterance.

    Raises AudioPaLMError for missing files, for a language without utterances, if no utterance has units, codec tokens
    and a speaker, and for a wrong number of codec tokens.
    """

    def __init__(self, data_dir: str | Path, tokens: str | Path, levels: int = 0,
                 weights: Mapping[str, float] | None = None):
        meta = read_token_meta(tokens)
        self.units_size, self.codec_size = meta["units_size"], meta["codec_size"]
        self.levels, self._stored_levels = levels or meta["codec_levels"], meta["codec_levels"]
        require(Path(tokens) / "codec.scp", "stage 5 (tokenize) with --codec_tokens true")
        self.set = IndexedSet(*open_index(data_dir, tokens, "stage 2 (audio)"))
        self.languages = self.set.data.languages
        for language in weights or {}:
            if language not in self.languages:
                raise AudioPaLMError(f"no utterance of {data_dir} is in {language!r}; "
                                     f"{nearest(language, self.languages)}")
        rows = np.arange(self.set.rows, dtype=np.int32)
        units, codec = self.set.counts("units", rows), self.set.counts("codec", rows)
        speaker, speakers = self.set.data.codes("speaker"), self.set.data.names("speaker")
        unnamed = speakers.index("").as_py()
        self._rows = rows[(units > 0) & (codec > 0) & (speaker != unnamed)]
        if not len(self._rows):
            raise AudioPaLMError(f"no utterance has units, codec tokens ({tokens}) and a speaker ({data_dir})")
        self._check_levels(tokens, codec[self._rows])
        self.lengths = units[self._rows]
        language = self.set.data.codes("language")[self._rows]
        self.speakers = Groups(speaker[self._rows])
        self.voices = Groups(self.speakers.of.astype(np.int64) * len(self.languages) + language)  # (speaker, language)
        relative = np.array([(weights or {}).get(name, 1.0) for name in self.languages])[language]
        self._cumulated = np.cumsum(relative / relative.sum())
        self._cumulated /= self._cumulated[-1]

    def _check_levels(self, tokens: str | Path, counts: np.ndarray) -> None:
        wrong = np.flatnonzero(counts % self._stored_levels)
        if len(wrong):
            raise AudioPaLMError(f"{Path(tokens) / 'codec.scp'}: {self.set.id(self._rows[wrong[0]])} has "
                                 f"{counts[wrong[0]]} tokens, which is no multiple of its {self._stored_levels} levels")

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def frames(self) -> int:
        """The codec frames (50 Hz) of all utterances."""
        return FRAMES_PER_UNIT * int(self.lengths.sum(dtype=np.int64))

    def language(self, utterance: int) -> str:
        """The code of the language of an utterance, 0 to `len(self)` - 1."""
        return self.languages[self.set.data.codes("language")[self._rows[utterance]]]

    def tokens(self, utterance: int) -> tuple[np.ndarray, np.ndarray]:
        """Units, int64 `[T]`, and codec tokens, int16 `[2 * T, levels]`, of an utterance, 0 to `len(self)` - 1."""
        row = int(self._rows[utterance])
        units = self.set.values("units", row, self.units_size)
        codes = self.set.values("codec", row, self.codec_size).reshape(-1, self._stored_levels)[:, :self.levels]
        return units.astype(np.int64), align(units, codes).astype(np.int16)

    def unit_latents(self, codebooks: Tensor) -> UnitLatents:
        """The average codec latents of each unit, over at most LATENT_UTTERANCES utterances.

        codebooks: `[levels, codec_size, latent]`, whose vectors add up to a frame's latent. A unit that does not occur
        gets the average of all frames.
        """
        rows = FRAMES_PER_UNIT * self.units_size
        sums, counts = torch.zeros(rows, codebooks.shape[2]), torch.zeros(rows)
        energy = finer_energy = 0.0
        used = np.linspace(0, len(self) - 1, min(len(self), LATENT_UTTERANCES)).astype(int)
        for first in range(0, len(used), 500):  # 500 utterances at a time, to bound memory
            read = [self.tokens(utterance) for utterance in used[first:first + 500]]
            units = torch.from_numpy(np.concatenate([units for units, _ in read]))
            row = (FRAMES_PER_UNIT * units[:, None] + torch.arange(FRAMES_PER_UNIT)).flatten()
            codes = torch.from_numpy(np.concatenate([codec for _, codec in read]).astype(np.int64))
            finer = sum((codebooks[level][codes[:, level]] for level in range(1, self.levels)), torch.zeros(()))
            latents = codebooks[0][codes[:, 0]] + finer
            sums.index_add_(0, row, latents)
            counts.index_add_(0, row, torch.ones(len(row)))
            energy += float(latents.square().sum())
            finer_energy += float(finer.square().sum())
        means = torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], sums.sum(0) / counts.sum())
        explained, size = float((means.square().sum(dim=1) * counts).sum()), float(counts.sum()) * codebooks.shape[2]
        return UnitLatents(means.view(self.units_size, FRAMES_PER_UNIT, -1), (energy - explained) / size,
                           finer_energy / size)

    def other(self, random: np.random.Generator, utterance: int, own: np.ndarray) -> int:
        """A random utterance of `own` other than `utterance`, or `utterance` itself if there is no other."""
        index = int(random.integers(len(own)))
        if own[index] == utterance and len(own) > 1:
            index = (index + 1 + int(random.integers(len(own) - 1))) % len(own)
        return int(own[index])

    def piece(self, utterance: int, first: int, length: int) -> tuple[np.ndarray, np.ndarray]:
        """Units `first` to at most `first + length` (exclusive) of an utterance, and their codec frames."""
        units, codec = self.tokens(utterance)
        return units[first:first + length], codec[FRAMES_PER_UNIT * first:FRAMES_PER_UNIT * (first + length)]

    def prompt(self, random: np.random.Generator, utterance: int, length: int) -> tuple[np.ndarray, np.ndarray]:
        """A voice prompt as in synthesis, from a random position: units `[length]`, codec `[2 * length, levels]`."""
        first = int(random.integers(0, max(1, int(self.lengths[utterance]) - length + 1)))
        return fit_prompt(*self.piece(utterance, first, length), length)

    def target(self, random: np.random.Generator, utterance: int, length: int) -> tuple[np.ndarray, np.ndarray]:
        """A training target without padding: units `[length]`, codec `[2 * length, levels]`.

        It consists of `utterance`, or of a random part of it if it is longer, followed by other utterances of the
        speaker in this language as needed.
        """
        parts = []
        while length > 0:
            first = int(random.integers(0, max(1, int(self.lengths[utterance]) - length + 1)))
            parts.append(self.piece(utterance, first, length))
            length -= len(parts[-1][0])
            utterance = self.other(random, utterance, self.voices.members(self.voices.of[utterance]))
        units, codec = zip(*parts, strict=True)
        return np.concatenate(units), np.concatenate(codec)

    def draw(self, random: np.random.Generator, voices: int, targets: int, prompt: int, target: int) -> Batch:
        """A batch of `voices` prompts with `targets` sequences each; lengths `prompt` and `target` in units.

        A prompt is speech of the same speaker in any language. A target never begins with the prompt's utterance.
        """
        chosen = np.searchsorted(self._cumulated, random.random(voices), side="right")
        prompted = []
        for index in chosen:
            own = self.speakers.members(self.speakers.of[index])
            prompted.append(int(own[random.integers(len(own))]))
        prompts = [self.prompt(random, index, prompt) for index in prompted]
        spoken = [self.voices.members(self.voices.of[index]) for index in chosen]
        sequences = [self.target(random, self.other(random, index, own), target)
                     for index, own in zip(prompted, spoken, strict=True) for _ in range(targets)]
        prompt_units, prompt_codec = (np.stack(values).astype(np.int64) for values in zip(*prompts, strict=True))
        units, codec = (np.stack(values).astype(np.int64) for values in zip(*sequences, strict=True))
        return Batch(prompt_units, prompt_codec, units, codec, np.repeat(np.arange(voices), targets))
