"""Generation with AudioLM's stages 2 and 3: codec tokens one at a time with a KV cache, for a batch of utterances."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from audiopalm.acoustic.audiolm.model import AudioLM, Stage
from audiopalm.acoustic.base import (
    Acoustic,
    Generated,
    Prompt,
    Window,
    WindowConfig,
    generate_in_windows,
    sample_codes,
)
from audiopalm.acoustic.prompt import FRAMES_PER_UNIT, UNITS_RATE
from audiopalm.core.config import ranged
from audiopalm.lm.generation.cache import CachedDecoder


@dataclass
class GenerationConfig(WindowConfig):
    """The sampling of codes. Temperature 0 takes the most probable code. The windows are those of stage 2."""

    temperature: float = ranged(0.8, low=0, high=100)  # of the coarse levels (stage 2)
    fine_temperature: float = ranged(0.6, low=0, high=100)  # of the fine levels (stage 3)


class AudioLMAcoustic(Acoustic):
    """Trained stages 2 and 3 with their generation settings."""

    model: AudioLM
    generation: GenerationConfig

    def _generate(self, units: list[np.ndarray], prompts: list[Prompt], seed: int) -> list[np.ndarray]:
        sizes, settings, lengths = self.model.config, self.generation, [len(ids) for ids in units]

        def unit_context(window: Window) -> np.ndarray:
            prompt_units, _ = prompts[window.utterance]
            return np.concatenate([prompt_units, units[window.utterance][window.first:window.last]])[:, None]

        coarse = _run_stage(self.model.coarse, lengths, settings, unit_context,
                            [codec[:, :sizes.coarse_levels] for _, codec in prompts], settings.temperature, [seed, 2])
        prompt_frames = FRAMES_PER_UNIT * round(sizes.fine_prompt_seconds * UNITS_RATE)
        fine_prompts = [codec[len(codec) - prompt_frames:] for _, codec in prompts]

        def coarse_context(window: Window) -> np.ndarray:
            codes = coarse[window.utterance][FRAMES_PER_UNIT * window.first:FRAMES_PER_UNIT * window.last]
            return np.concatenate([fine_prompts[window.utterance][:, :sizes.coarse_levels], codes])

        fine = _run_stage(self.model.fine, lengths, replace(settings, window_seconds=sizes.fine_seconds),
                          coarse_context, [codec[:, sizes.coarse_levels:] for codec in fine_prompts],
                          settings.fine_temperature, [seed, 3])
        return [np.concatenate(levels, axis=1) for levels in zip(coarse, fine, strict=True)]


def _run_stage(stage: Stage, lengths: list[int], config: WindowConfig, context_of: Callable[[Window], np.ndarray],
               prompts: list[np.ndarray], temperature: float, seed: list[int]) -> Generated:
    """The codes of one stage, `[2 * length, levels]` for each utterance.

    context_of: returns the context of a window, `[N, context_levels]`, which begins with the prompt's. prompts: the
    codes `[P, levels]` of each utterance's voice prompt.
    """
    def extend(windows: list[Window], generated: Generated) -> list[np.ndarray]:
        prefix = np.stack([np.concatenate([prompts[window.utterance], window.overlap_codes(generated)])
                           for window in windows])
        # Each window has its own random numbers, so that its codes do not depend on the batch.
        uniform = [np.random.default_rng([*seed, window.start]).random((window.frames - window.overlap, stage.levels),
                                                                       dtype=np.float32) for window in windows]
        return generate_codes(stage, [context_of(window) for window in windows], prefix, uniform, temperature)

    return generate_in_windows(lengths, stage.levels, config, extend)


def generate_codes(stage: Stage, contexts: list[np.ndarray], prefix: np.ndarray, uniform: list[np.ndarray],
                   temperature: float) -> list[np.ndarray]:
    """New codes, int64 `[n, levels]`, of each sequence, after the codes `prefix` int64 `[B, P, levels]`.

    contexts: `[N, context_levels]` of each sequence. uniform: random numbers in [0, 1), `[n, levels]` of each sequence.
    Sequences are sorted by n, the shortest first.
    """
    device, frames = stage.decoder.embedding.weight.device, [len(numbers) for numbers in uniform]
    draws = np.stack([np.pad(numbers, ((0, frames[-1] - len(numbers)), (0, 0))) for numbers in uniform])
    generated = torch.zeros(draws.shape, dtype=torch.long, device=device)
    draws = torch.from_numpy(draws).to(device)
    decoder, hidden, lengths = _prefill(stage, contexts, prefix, frames[-1])
    first = 0  # the first sequence that is not finished
    for frame in range(frames[-1]):
        finished = sum(count <= frame for count in frames) - first
        if finished:
            slots = list(range(finished, decoder.active_slots))
            decoder.select_slots(slots)
            slots += slots[:1] * (decoder.slots - len(slots))  # inactive slots repeat the first sequence
            hidden, lengths, first = hidden[slots], [lengths[slot] for slot in slots], first + finished
        for level in range(stage.levels):
            logits = stage.logits(hidden, level)[:decoder.active_slots]
            codes, _ = sample_codes(logits, temperature, draws[first:, frame, level])
            generated[first:, frame, level] = codes
            if (frame + 1, level + 1) != (frames[-1], stage.levels):
                token, position = stage.code_id(codes, prefix.shape[1] + frame, level)
                inactive = decoder.slots - decoder.active_slots
                token, position = (torch.cat([value[:, 0], value[:1, 0].expand(inactive)])
                                   for value in (token, position))
                hidden = decoder.step(token, lengths, position)
                lengths = [length + 1 for length in lengths]
    return [codes[:count] for codes, count in zip(generated.cpu().numpy(), frames, strict=True)]


def _prefill(stage: Stage, contexts: list[np.ndarray], prefix: np.ndarray,
             frames: int) -> tuple[CachedDecoder, Tensor, list[int]]:
    """The decoder after the prefill of contexts and prefixes, with the capacity for `frames` more frames.

    Also returns the hidden state of the last token in each slot, `[slots, dim]`, and the number of tokens in each slot.
    Inactive slots repeat the first sequence.
    """
    device = stage.decoder.embedding.weight.device
    sequences = [[torch.cat(parts, dim=1)[0] for parts in zip(
        stage.context_ids(torch.from_numpy(context)[None].to(device)),
        stage.code_ids(torch.from_numpy(codes)[None].to(device)), strict=True)]
        for context, codes in zip(contexts, prefix, strict=True)]  # (ids, positions) of each
    capacity = max(len(ids) for ids, _ in sequences) + frames * stage.levels
    max_position = max((prefix.shape[1] + frames) * stage.positions_per_frame,
                       *(int(positions.max()) + 1 for _, positions in sequences))
    decoder = CachedDecoder(stage.decoder, len(sequences), capacity, max_position)
    hidden = torch.stack([decoder.prefill(slot, ids, positions) for slot, (ids, positions) in enumerate(sequences)])
    inactive = decoder.slots - len(sequences)
    lengths = [len(ids) for ids, _ in sequences]
    return decoder, torch.cat([hidden, hidden[:1].expand(inactive, -1)]), lengths + lengths[:1] * inactive
