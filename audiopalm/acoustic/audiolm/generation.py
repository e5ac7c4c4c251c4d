"""AudioLM's stages 2 and 3 speak: codec tokens one after another with a key-value cache, many utterances at once."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from audiopalm.acoustic.audiolm.model import AudioLM, Stage
from audiopalm.acoustic.base import Acoustic, Made, Prompt, Window, WindowConfig, choose, make_in_windows
from audiopalm.acoustic.prompt import FRAMES_PER_UNIT, UNITS_RATE
from audiopalm.lm.generation.cache import CachedDecoder


@dataclass
class GenerationConfig(WindowConfig):
    """How tokens are chosen; temperature 0 takes the most probable token. Windows are those of stage 2."""

    temperature: float = 0.8  # of the coarse levels
    fine_temperature: float = 0.6


class AudioLMAcoustic(Acoustic):
    """Trained stages 2 and 3 with their decoding settings."""

    model: AudioLM
    generation: GenerationConfig

    def make(self, units: list[np.ndarray], prompts: list[Prompt], seed: int) -> list[np.ndarray]:
        sizes, settings, lengths = self.model.config, self.generation, [len(one) for one in units]

        def heard(window: Window) -> np.ndarray:
            both = np.concatenate([prompts[window.utterance][0], units[window.utterance][window.first:window.last]])
            return both[:, None]

        coarse = _speak(self.model.coarse, lengths, settings, heard,
                        [codec[:, :sizes.coarse_levels] for _, codec in prompts], settings.temperature, [seed, 2])
        kept = FRAMES_PER_UNIT * round(sizes.fine_prompt_seconds * UNITS_RATE)
        endings = [codec[len(codec) - kept:] for _, codec in prompts]

        def heard_coarse(window: Window) -> np.ndarray:
            made = coarse[window.utterance][FRAMES_PER_UNIT * window.first:FRAMES_PER_UNIT * window.last]
            return np.concatenate([endings[window.utterance][:, :sizes.coarse_levels], made])

        fine = _speak(self.model.fine, lengths, replace(settings, window_seconds=sizes.fine_seconds), heard_coarse,
                      [codec[:, sizes.coarse_levels:] for codec in endings], settings.fine_temperature, [seed, 3])
        return [np.concatenate(levels, axis=1) for levels in zip(coarse, fine, strict=True)]


def _speak(stage: Stage, lengths: list[int], windows: WindowConfig, heard: Callable[[Window], np.ndarray],
           prompts: list[np.ndarray], temperature: float, seed: list[int]) -> Made:
    """What one stage writes, `[2 * length, levels]` of each utterance.

    heard: the context `[N, read]` of a window, prompt first; prompts: `[P, levels]`.
    """
    def extend(group: list[Window], made: Made) -> list[np.ndarray]:
        known = np.stack([np.concatenate([prompts[window.utterance], window.known_of(made)]) for window in group])
        # One stream of numbers for each utterance and window, so that neighbours in the batch change nothing.
        uniform = [np.random.default_rng([*seed, window.begin]).random((window.frames - window.known, stage.levels),
                                                                       dtype=np.float32) for window in group]
        return write(stage, [heard(window) for window in group], known, uniform, temperature)

    return make_in_windows(lengths, stage.levels, windows, extend)


def write(stage: Stage, contexts: list[np.ndarray], known: np.ndarray, uniform: list[np.ndarray],
          temperature: float) -> list[np.ndarray]:
    """Codes `[n, levels]` of each row behind its `known` ones `[B, P, levels]`, which do not change.

    contexts: `[N, read]` each; uniform: numbers in [0, 1), `[n, levels]` each, n never falling from row to row.
    """
    device, frames = stage.decoder.embedding.weight.device, [len(one) for one in uniform]
    draws = np.stack([np.pad(one, ((0, frames[-1] - len(one)), (0, 0))) for one in uniform])
    written = torch.zeros(draws.shape, dtype=torch.long, device=device)
    draws = torch.from_numpy(draws).to(device)
    decoder, hidden, lengths = _prefill(stage, contexts, known, frames[-1])
    first = 0  # of the rows that are not finished
    for frame in range(frames[-1]):
        finished = sum(count <= frame for count in frames) - first
        if finished:
            rows = list(range(finished, decoder.active_slots))
            decoder.select_slots(rows)
            rows += rows[:1] * (decoder.slots - len(rows))  # products have company that nobody looks at
            hidden, lengths, first = hidden[rows], [lengths[row] for row in rows], first + finished
        for level in range(stage.levels):
            logits = stage.logits(hidden, level)[:decoder.active_slots]
            codes, _ = choose(logits, temperature, draws[first:, frame, level])
            written[first:, frame, level] = codes
            if (frame + 1, level + 1) != (frames[-1], stage.levels):
                token, position = stage.written_id(codes, known.shape[1] + frame, level)
                others = decoder.slots - decoder.active_slots
                token, position = (torch.cat([one[:, 0], one[:1, 0].expand(others)]) for one in (token, position))
                hidden = decoder.step(token, lengths, position)
                lengths = [length + 1 for length in lengths]
    return [codes[:count] for codes, count in zip(written.cpu().numpy(), frames, strict=True)]


def _prefill(stage: Stage, contexts: list[np.ndarray], known: np.ndarray,
             frames: int) -> tuple[CachedDecoder, Tensor, list[int]]:
    """A decoder that has read context and known codes and has room for `frames` more; the last hidden state of each
    row `[rows, dim]`, and how many tokens it has."""
    device = stage.decoder.embedding.weight.device
    pairs = [[torch.cat(parts, dim=1)[0] for parts in zip(
        stage.read_ids(torch.from_numpy(context)[None].to(device)),
        stage.written_ids(torch.from_numpy(codes)[None].to(device)), strict=True)]
        for context, codes in zip(contexts, known, strict=True)]
    longest = max(len(ids) for ids, _ in pairs) + frames * stage.levels
    turns = (known.shape[1] + frames) * (stage.read + stage.levels)
    decoder = CachedDecoder(stage.decoder, len(pairs), longest, max(turns, *(int(pair[1].max()) + 1 for pair in pairs)))
    hidden = torch.stack([decoder.prefill(row, ids, positions) for row, (ids, positions) in enumerate(pairs)])
    others = decoder.slots - len(pairs)
    lengths = [len(ids) for ids, _ in pairs]
    return decoder, torch.cat([hidden, hidden[:1].expand(others, -1)]), lengths + lengths[:1] * others
