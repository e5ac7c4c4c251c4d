"""The jobs of stage 11: shards of units to speech, by the acoustic model and the codec."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from audiopalm.acoustic.base import PROMPT_UNITS, Acoustic
from audiopalm.acoustic.prompt import FRAMES_PER_UNIT, UNITS_RATE
from audiopalm.acoustic.registry import load_acoustic
from audiopalm.codec.base import Codec
from audiopalm.codec.registry import load_codec
from audiopalm.core.device import best_device
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import atomic_path
from audiopalm.data.archive import read_vector
from audiopalm.data.audio import SAMPLE_RATE, write_audio
from audiopalm.data.audio_archive import write_audio_ark
from audiopalm.stages.audio_store import write_index
from audiopalm.stages.jobs import Result, work
from audiopalm.stages.prompt_utterances import SILENCE, Prompts

SILENCE_SECONDS = 0.5  # the speech of an utterance without units
PROMPT_SECONDS = PROMPT_UNITS / UNITS_RATE  # of a voice prompt, as in the training of acoustic models
CHUNK = 64  # utterances in a batch


@dataclass(frozen=True, kw_only=True)
class SpeakerOptions:
    """The models and settings that speak a set. The fields are options of the commands of stage 11.

    data_dir, tokens: the set, whose utterances are the voice prompts. prompt_seconds: longest voice prompt.
    overrides: settings of the generation.
    """

    acoustic: Path
    codec: Path
    data_dir: Path
    tokens: Path
    seed: int = 0
    audio_format: str = "wav"
    prompt_seconds: float = PROMPT_SECONDS
    overrides: Sequence[str] = ()

    def arguments(self) -> list[str]:
        """The options of a job."""
        return ["--acoustic", str(self.acoustic), "--codec", str(self.codec), "--data_dir", str(self.data_dir),
                "--tokens", str(self.tokens), "--seed", str(self.seed), "--audio_format", self.audio_format,
                "--prompt_seconds", str(self.prompt_seconds), *self.overrides]


@dataclass(frozen=True)
class SpeechShard:
    """Utterances to speak, into files in `folder` or into the archive `<folder>/<stem>.ark`.

    units: the entry of each utterance in a token archive. prompts: for each utterance, the utterance whose beginning
    is its voice prompt, or SILENCE.
    """

    folder: str
    stem: str
    utterances: list[str]
    units: list[str]
    prompts: list[str]


@dataclass(frozen=True)
class SpokenShard(Result):
    """A report on a shard: its folder, the number of utterances, the seconds of speech, and the seconds of work."""

    folder: str = ""
    count: int = 0
    audio: float = 0.0
    seconds: float = 0.0


class Speaker:
    """Writes shards of speech with an acoustic model and a codec in memory, prompted by utterances of a set."""

    def __init__(self, acoustic: Acoustic, codec: Codec, prompts: Prompts, options: SpeakerOptions) -> None:
        self.acoustic, self.codec, self.prompts, self.seed = acoustic, codec, prompts, options.seed
        self.audio_format = options.audio_format
        self.prompt_units = max(round(options.prompt_seconds * UNITS_RATE), 1)

    def __call__(self, shard: SpeechShard) -> SpokenShard:
        """Write the speech of a shard. An error is returned as a result, so that the stage reports that of any job."""
        began, folder, audio = time.monotonic(), Path(shard.folder), 0
        folder.mkdir(parents=True, exist_ok=True)
        try:
            if self.audio_format == "flac.ark":
                path = folder / f"{shard.stem}.ark"
                with atomic_path(path) as partial:
                    entries = {name: [offset, samples] for name, offset, samples
                               in write_audio_ark(partial, self._speech(shard), SAMPLE_RATE)}
                write_index(path, entries, {})
                audio = sum(samples for _, samples in entries.values())
            else:
                for name, speech in self._speech(shard):
                    write_audio(folder / f"{name}.wav", speech)
                    audio += len(speech)
        except AudioPaLMError as error:
            return SpokenShard(str(error))
        return SpokenShard(folder=shard.folder, count=len(shard.utterances), audio=audio / SAMPLE_RATE,
                           seconds=time.monotonic() - began)

    def _prompt(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """The units and codec tokens of a prompt, no longer than `prompt_seconds`."""
        units, codec = self._silence if name == SILENCE else self.prompts.of(name)
        return units[:self.prompt_units], codec[:FRAMES_PER_UNIT * self.prompt_units]

    @cached_property
    def _silence(self) -> tuple[np.ndarray, np.ndarray]:
        """A prompt without a voice: the codec tokens of silence, and the unit that most recordings begin with."""
        (codec,) = self.codec.encode([np.zeros(PROMPT_UNITS * SAMPLE_RATE // UNITS_RATE, dtype=np.float32)])
        return np.full(PROMPT_UNITS, self.prompts.first_unit()), codec

    def _speech(self, shard: SpeechShard) -> Iterator[tuple[str, np.ndarray]]:
        """Yield each utterance with its samples `[T]` float32 at 16 kHz."""
        for first in range(0, len(shard.utterances), CHUNK):
            chunk = slice(first, first + CHUNK)
            voices = [self._prompt(name) for name in shard.prompts[chunk]]
            # A shorter prompt than those of the training is repeated, as the paper does.
            tokens = self.acoustic.generate([read_vector(entry) for entry in shard.units[chunk]],
                                            [units for units, _ in voices], [codes for _, codes in voices], self.seed,
                                            max(self.prompt_units, PROMPT_UNITS))
            names = shard.utterances[chunk]
            spoken = [name for name, codes in zip(names, tokens, strict=True) if len(codes)]
            samples = dict(zip(spoken, self.codec.decode([codes for codes in tokens if len(codes)]), strict=True))
            for name in names:
                yield name, samples.get(name, np.zeros(round(SILENCE_SECONDS * SAMPLE_RATE), dtype=np.float32))


def synthesize_shards(todo: Path, done: Path, options: SpeakerOptions) -> None:
    """Speak the shards of a job, on one core or a GPU."""
    torch.set_num_threads(1)
    device = best_device()
    acoustic = load_acoustic(options.acoustic, device, options.overrides)
    prompts = Prompts(options.data_dir, options.tokens, acoustic, options.acoustic)
    speaker = Speaker(acoustic, load_codec(options.codec, device), prompts, options)
    work(todo, done, SpeechShard, speaker)
