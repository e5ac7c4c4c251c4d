"""Iterative parallel decoding: units and a voice prompt to codec tokens, many utterances at once."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from audiopalm.acoustic.masking import still_masked
from audiopalm.acoustic.prompt import FRAMES_PER_UNIT, fit_prompt
from audiopalm.acoustic.soundstorm import ModelConfig, SoundStorm, Voice
from audiopalm.config import from_dict, load_config
from audiopalm.data.files import read_json, require
from audiopalm.errors import AudioPaLMError

CONFIG, MODEL = "config.json", "model.safetensors"
PROMPT_UNITS = 75  # 3 s


@dataclass
class GenerationConfig:
    """How tokens are chosen; temperature 0 takes the most probable token."""

    iterations: list = field(default_factory=lambda: [8, 1])  # of each level; the last number serves all further ones
    temperature: float = 0.8  # of levels with several iterations
    fine_temperature: float = 0.0  # of levels with one iteration
    noise: float = 1.0  # on the confidence, fading to 0 at the last iteration
    window_seconds: float = 8.0  # longer speech is made in windows of this length, each going on from the one before
    overlap_seconds: float = 1.0
    batch_frames: int = 4000  # of a batch, padding included


class Acoustic:
    """A trained SoundStorm with its decoding settings and the hashes of the tokens it speaks."""

    def __init__(self, model: SoundStorm, generation: GenerationConfig, meta: dict | None = None):
        self.model, self.generation, self.meta = model.eval(), generation, meta or {}

    @torch.inference_mode()
    def generate(self, units: list[np.ndarray], prompt_units: list[np.ndarray], prompt_codec: list[np.ndarray],
                 seed: int = 0) -> list[np.ndarray]:
        """Codec tokens int64 `[2 * T, levels]` of each utterance, prompt not included.

        units: int `[T]` at 25 Hz, may be empty; prompt_units: `[P]`, prompt_codec: `[2 * P or 2 * P - 1, levels]` of
        the same stretch of speech of the wanted voice; levels finer than the model's are left out. The result of an
        utterance depends on the seed, and not on the other utterances. Raises AudioPaLMError for ids out of range and
        for an empty prompt.
        """
        config = self.model.config
        prompts = []
        for one, prompt_one, prompt_many in zip(units, prompt_units, prompt_codec, strict=True):
            prompt_many = np.asarray(prompt_many)[:, :config.levels]
            prompts.append(fit_prompt(np.asarray(prompt_one), prompt_many, PROMPT_UNITS))
            for what, values, size in (("unit", one, config.units_size), ("prompt unit", prompt_one, config.units_size),
                                       ("prompt codec token", prompt_many, config.codec_size)):
                outside = np.asarray(values)[(np.asarray(values) < 0) | (np.asarray(values) >= size)]
                if len(outside):
                    raise AudioPaLMError(f"{what} {outside[0]} is outside 0..{size - 1} of the acoustic model")
        made = [np.zeros((0, config.levels), dtype=np.int64) for _ in units]
        pending = [index for index, one in enumerate(units) if len(one)]
        while pending:
            pending.sort(key=lambda index: len(self._window(units[index], len(made[index]))[0]))
            for group in self._groups(pending, units, made):
                self._extend(group, units, prompts, made, seed)
            pending = [index for index in pending if len(made[index]) < FRAMES_PER_UNIT * len(units[index])]
        return made

    def _window(self, units: np.ndarray, done: int) -> tuple[np.ndarray, int]:
        """The next units to work on after `done` frames, and how many of the window's frames are made already."""
        overlap = min(done, FRAMES_PER_UNIT * round(self.generation.overlap_seconds * 25))
        first = (done - overlap) // FRAMES_PER_UNIT
        return units[first:first + round(self.generation.window_seconds * 25)], overlap

    def _groups(self, pending: list[int], units: list[np.ndarray], made: list[np.ndarray]) -> list[list[int]]:
        """Batches of neighbours in length that hold at most `batch_frames`."""
        groups: list[list[int]] = []
        for index in pending:
            frames = FRAMES_PER_UNIT * len(self._window(units[index], len(made[index]))[0])
            if not groups or frames * (len(groups[-1]) + 1) > self.generation.batch_frames:
                groups.append([])
            groups[-1].append(index)
        return groups

    def _extend(self, group: list[int], units: list[np.ndarray], prompts: list, made: list[np.ndarray],
                seed: int) -> None:
        """Make the next window of each utterance of `group`, appended to `made`."""
        windows = [self._window(units[index], len(made[index])) for index in group]
        lengths = [FRAMES_PER_UNIT * len(window) for window, _ in windows]
        shape = (len(group), max(lengths))
        unit_batch = np.zeros((shape[0], shape[1] // FRAMES_PER_UNIT), dtype=np.int64)
        codec_batch = np.full((*shape, self.model.config.levels), self.model.config.codec_size, dtype=np.int64)
        wanted = np.zeros(shape, dtype=bool)
        uniform = np.empty((2, sum(self._iterations()), *shape), dtype=np.float32)
        for row, (index, (window, known), frames) in enumerate(zip(group, windows, lengths, strict=True)):
            unit_batch[row, :len(window)] = window
            if known:
                codec_batch[row, :known] = made[index][-known:]
            wanted[row, known:frames] = True
            # One stream of numbers for each utterance and window, so that neighbours in the batch change nothing.
            random = np.random.default_rng([seed, len(made[index])])
            uniform[..., row, :frames] = random.random((*uniform.shape[:2], frames), dtype=np.float32)
        device = self.model.head_bias.device
        prompt_units, prompt_codec = (torch.from_numpy(np.stack(values)).to(device)
                                      for values in zip(*(prompts[index] for index in group), strict=True))
        voice = self.model.encode_prompt(prompt_units, prompt_codec)
        filled = self.fill(torch.from_numpy(unit_batch).to(device), torch.from_numpy(codec_batch).to(device), voice,
                           torch.from_numpy(wanted).to(device), torch.tensor(lengths, device=device),
                           torch.from_numpy(uniform).to(device)).cpu().numpy()
        for row, index in enumerate(group):
            made[index] = np.concatenate([made[index], filled[row][wanted[row]]])

    def _iterations(self) -> list[int]:
        given = self.generation.iterations
        return [given[min(level, len(given) - 1)] for level in range(self.model.config.levels)]

    def fill(self, units: Tensor, codec: Tensor, voice: Voice, wanted: Tensor, lengths: Tensor,
             uniform: Tensor) -> Tensor:
        """`codec [B, T, levels]` with the frames `wanted [B, T]` filled in, level by level; no other frame changes.

        units `[B, T / 2]`; lengths `[B]`, real frames; uniform `[2, passes, B, T]`, numbers in [0, 1):
        which token, and the noise on its confidence.
        """
        step = 0
        for level, iterations in enumerate(self._iterations()):
            masked = wanted.clone()
            for iteration in range(iterations):
                states = self.model(units, codec, voice, lengths)
                temperature = self.generation.temperature if iterations > 1 else self.generation.fine_temperature
                tokens, confidence = choose(self.model.logits(states[masked], codec[masked], level), temperature,
                                            uniform[0, step][masked])
                if iteration + 1 < iterations:
                    fade = self.generation.noise * (1 - (iteration + 1) / iterations)
                    draw = uniform[1, step][masked].clamp(1e-7, 1 - 1e-7)
                    confidence = confidence - fade * torch.log(-torch.log(draw))
                    kept = most_confident(confidence, masked, wanted.sum(dim=1), iteration, iterations)
                else:
                    kept = torch.ones_like(tokens, dtype=torch.bool)
                places = masked.nonzero()[kept]
                codec[places[:, 0], places[:, 1], level] = tokens[kept]
                masked[places[:, 0], places[:, 1]] = False
                step += 1
        return codec


def choose(logits: Tensor, temperature: float, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """Token `[N]` and its log-probability from logits `[N, codes]`: by `uniform [N]`, or the best at temperature 0."""
    if temperature == 0:
        log_probability = logits.log_softmax(dim=-1)
        best = log_probability.max(dim=-1)
        return best.indices, best.values
    probability = (logits / temperature).softmax(dim=-1)
    cumulative = probability.cumsum(dim=-1)
    token = torch.searchsorted(cumulative, uniform[:, None] * cumulative[:, -1:], right=True)
    token = token.clamp(max=logits.shape[1] - 1)
    return token[:, 0], probability.gather(1, token)[:, 0].clamp(min=1e-30).log()


def most_confident(confidence: Tensor, masked: Tensor, totals: Tensor, iteration: int, iterations: int) -> Tensor:
    """Which masked positions to keep, `[N]` in row-major order of `masked [B, T]`: the cosine schedule per row."""
    table = torch.full(masked.shape, -torch.inf, device=masked.device)
    table[masked] = confidence
    remaining = torch.tensor([still_masked(int(total), iteration, iterations) for total in totals.tolist()],
                             device=masked.device)
    rank = table.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    return (rank < (masked.sum(dim=1) - remaining)[:, None])[masked]


def load_acoustic(directory: str | Path, device: str = "cpu", overrides: list[str] = ()) -> Acoustic:
    """The model that stage 9 wrote; `overrides` change how it generates, for example `temperature=0`.

    Raises AudioPaLMError when it is missing or damaged.
    """
    made_by = "stage 9 (acoustic)"
    meta = read_json(Path(directory) / CONFIG, made_by)
    weights = require(Path(directory) / MODEL, made_by)
    model = SoundStorm(from_dict(ModelConfig, meta["model"], f"{directory}/{CONFIG}"))
    try:
        model.load_state_dict(load_file(str(weights)))
    except (SafetensorError, RuntimeError) as error:
        raise AudioPaLMError(f"{weights} does not hold the model of {CONFIG}: {error}") from None
    stored = [f"{key}={json.dumps(value)}" for key, value in meta["generation"].items()]
    return Acoustic(model.to(device), load_config(GenerationConfig, overrides=[*stored, *overrides]), meta)
