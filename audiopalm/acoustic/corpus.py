"""The tokens of a data set in memory, and training batches: voice prompts with other speech of the same speakers."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from audiopalm.acoustic.prompt import FRAMES_PER_UNIT, align, fit_prompt
from audiopalm.core.errors import AudioPaLMError, nearest
from audiopalm.core.files import read_object
from audiopalm.data.archive import TokenArchive
from audiopalm.data.datadir import read_table

TOKEN_META = {"units_size": int, "units_sha256": str, "codec_size": int, "codec_levels": int, "codes_sha256": str}


def read_token_meta(tokens: str | Path) -> dict:
    """The part of meta.json that is stored with a model: sizes, and hashes of the unit and codec models."""
    path = Path(tokens) / "meta.json"
    meta = read_object(path, "stage 5 (tokenize) with --codec_tokens true", TOKEN_META)
    return {key: meta[key] for key in TOKEN_META}


def check_token_meta(expected: dict, found: dict, expected_at: object, found_at: object) -> None:
    """Raise AudioPaLMError if tokens are of another unit or codec model; the message states both values."""
    for key in TOKEN_META:
        if expected[key] != found[key]:
            raise AudioPaLMError(f"{key} differs: {expected_at} has {expected[key]}, {found_at} has {found[key]}; "
                                 "tokenize (stage 5) and train the acoustic model (stage 9) with the same models")


@dataclass
class UnitLatents:
    """The average codec latent of each unit of a corpus.

    means: `[units_size, 2, latent]`, for the first and the second frame of a unit. unit_error, code_error: the mean
    squared distance, per axis, of a frame's latent to that mean and to the vector of its first code.
    """

    means: Tensor
    unit_error: float
    code_error: float


@dataclass
class Batch:
    """V voice prompts and, for each of them, `targets` sequences of the same speaker; all int64.

    prompt_units: `[V, P / 2]`. prompt_codec: `[V, P, levels]`. With B = V * targets, in the order of the prompts:
    units `[B, T / 2]`, codec `[B, T, levels]`, voice `[B]` (the row of the prompt).
    """

    prompt_units: np.ndarray
    prompt_codec: np.ndarray
    units: np.ndarray
    codec: np.ndarray
    voice: np.ndarray


class Corpus:
    """Units and codec tokens of every utterance that has both, indexed by speaker and by (speaker, language).

    `levels` is the number of codec levels that are kept, the coarsest first; 0 keeps all. Utterances of a language are
    drawn `weights[language]` times as often as those of languages without a weight.
    """

    def __init__(self, data_dir: str | Path, tokens: str | Path, levels: int = 0,
                 weights: Mapping[str, float] | None = None):
        meta = read_token_meta(tokens)
        self.units_size, self.codec_size = meta["units_size"], meta["codec_size"]
        self.levels = levels or meta["codec_levels"]
        units = TokenArchive(Path(tokens) / "units.scp", size=self.units_size)
        codec = TokenArchive(Path(tokens) / "codec.scp", meta["codec_levels"], size=self.codec_size)
        utt2spk, utt2lang = (read_table(Path(data_dir) / name, "stage 2 (audio)") for name in ("utt2spk", "utt2lang"))
        for language in weights or {}:
            if language not in utt2lang.values():
                raise AudioPaLMError(f"no utterance of {data_dir} is in {language!r}; "
                                     f"{nearest(language, set(utt2lang.values()))}")
        self.units: list[np.ndarray] = []
        self.codec: list[np.ndarray] = []
        self.voice: list[tuple[str, str]] = []  # (speaker, language)
        self.of_speaker: dict[str, list[int]] = {}
        self.of_voice: dict[tuple[str, str], list[int]] = {}
        for name in sorted(set(units) & set(codec) & set(utt2spk)):
            unit_ids, codes = units[name], codec[name].reshape(-1, meta["codec_levels"])[:, :self.levels]
            if len(unit_ids) == 0 or len(codes) == 0:
                continue
            voice = utt2spk[name], utt2lang[name]
            self.of_speaker.setdefault(utt2spk[name], []).append(len(self.units))
            self.of_voice.setdefault(voice, []).append(len(self.units))
            self.voice.append(voice)
            self.units.append(unit_ids.astype(np.int64))
            self.codec.append(align(unit_ids, codes).astype(np.int16))
        if not self.units:
            raise AudioPaLMError(f"no utterance has units, codec tokens ({tokens}) and a speaker ({data_dir})")
        relative = np.array([(weights or {}).get(language, 1.0) for _, language in self.voice])
        self.probabilities = relative / relative.sum()

    def __len__(self) -> int:
        return len(self.units)

    @property
    def frames(self) -> int:
        return sum(map(len, self.codec))

    def unit_latents(self, codebooks: Tensor) -> UnitLatents:
        """Averages over all frames, of the latents that `codebooks [levels, codec_size, latent]` decode to.

        A unit that does not occur gets the average of all frames.
        """
        rows = FRAMES_PER_UNIT * self.units_size
        sums, counts = torch.zeros(rows, codebooks.shape[2]), torch.zeros(rows)
        energy = finer_energy = 0.0
        for first in range(0, len(self), 500):  # 500 utterances at a time, to bound memory
            units = torch.from_numpy(np.concatenate(self.units[first:first + 500]))
            row = (FRAMES_PER_UNIT * units[:, None] + torch.arange(FRAMES_PER_UNIT)).flatten()
            codes = torch.from_numpy(np.concatenate(self.codec[first:first + 500]).astype(np.int64))
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

    def other(self, random: np.random.Generator, utterance: int, own: list[int]) -> int:
        """A random one of `own` other than `utterance`, or `utterance` itself if there is no other."""
        index = int(random.integers(len(own)))
        if own[index] == utterance and len(own) > 1:
            index = (index + 1 + int(random.integers(len(own) - 1))) % len(own)
        return own[index]

    def piece(self, utterance: int, first: int, length: int) -> tuple[np.ndarray, np.ndarray]:
        """At most `length` units from `first` on, and their codec frames."""
        frames = slice(FRAMES_PER_UNIT * first, FRAMES_PER_UNIT * (first + length))
        return self.units[utterance][first:first + length], self.codec[utterance][frames]

    def prompt(self, random: np.random.Generator, utterance: int, length: int) -> tuple[np.ndarray, np.ndarray]:
        """A voice prompt as in synthesis, from a random position: units `[length]`, codec `[2 * length, levels]`."""
        first = random.integers(0, max(1, len(self.units[utterance]) - length + 1))
        return fit_prompt(*self.piece(utterance, first, length), length)

    def target(self, random: np.random.Generator, utterance: int, length: int) -> tuple[np.ndarray, np.ndarray]:
        """A training target without padding: units `[length]`, codec `[2 * length, levels]`.

        It consists of `utterance`, or of a random part of it if it is longer, followed by other utterances of the
        speaker in this language as needed.
        """
        parts = []
        while length > 0:
            first = random.integers(0, max(1, len(self.units[utterance]) - length + 1))
            parts.append(self.piece(utterance, first, length))
            length -= len(parts[-1][0])
            utterance = self.other(random, utterance, self.of_voice[self.voice[utterance]])
        units, codec = zip(*parts, strict=True)
        return np.concatenate(units), np.concatenate(codec)

    def draw(self, random: np.random.Generator, voices: int, targets: int, prompt: int, target: int) -> Batch:
        """A batch of `voices` prompts with `targets` sequences each; lengths `prompt` and `target` in units.

        A prompt is of the same speaker, in any language, and is not the utterance that a target begins with.
        """
        chosen = [self.voice[index] for index in random.choice(len(self), voices, p=self.probabilities)]
        prompted = [self.of_speaker[speaker][random.integers(len(self.of_speaker[speaker]))] for speaker, _ in chosen]
        prompts = [self.prompt(random, index, prompt) for index in prompted]
        sequences = [self.target(random, self.other(random, index, self.of_voice[voice]), target)
                     for index, voice in zip(prompted, chosen, strict=True) for _ in range(targets)]
        prompt_units, prompt_codec = (np.stack(values).astype(np.int64) for values in zip(*prompts, strict=True))
        units, codec = (np.stack(values).astype(np.int64) for values in zip(*sequences, strict=True))
        return Batch(prompt_units, prompt_codec, units, codec, np.repeat(np.arange(voices), targets))
