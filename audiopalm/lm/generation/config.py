"""The settings of a decode."""

from dataclasses import dataclass
from typing import Any

from audiopalm.core.config import check_fields, ranged, to_dict
from audiopalm.core.errors import AudioPaLMError

MAX_TOKENS = 20_000  # in a part; 800 s of audio


@dataclass
class DecodingConfig:
    """The settings of a decode.

    Temperature 0 is greedy. Otherwise a token is sampled from the `top_k` most probable tokens, or from the smallest
    set of them whose probabilities add up to `top_p`. A `beam` above 1 selects beam search (beam.py) for both kinds of
    parts. With `rescore` the model then chooses the answer whose speech it recognises best (rescoring.py).
    """

    text_tokens: int = ranged(60, low=1, high=MAX_TOKENS)  # maximum length of a text part
    audio_tokens: int = ranged(300, low=1, high=MAX_TOKENS)  # maximum length of an audio part (25 units a second)
    # a second maximum, as a multiple of the tokens of the prompt, tag included
    text_tokens_per_input: float | None = ranged(None, above=0)
    audio_tokens_per_input: float | None = ranged(None, above=0)
    text_temperature: float = ranged(0.0, low=0, high=100)
    text_top_k: int = ranged(20, low=1)
    text_top_p: float = ranged(1.0, above=0, high=1)
    audio_temperature: float = ranged(0.0, low=0, high=100)
    audio_top_k: int = ranged(20, low=1)
    audio_top_p: float = ranged(1.0, above=0, high=1)
    beam: int = ranged(1, low=1, high=64)  # hypotheses per prompt; memory grows in proportion
    # answers are ranked by log probability / tokens ** length_penalty
    length_penalty: float = ranged(1.0, low=-10, high=10)
    rescore: bool = False
    # So many parts of a combined answer are not generated: the true text stands in their place, for measurements.
    true_parts: int = ranged(0, low=0)

    def __post_init__(self) -> None:
        check_fields(self, "decoding")
        for name in ("text_temperature", "audio_temperature"):
            if self.beam > 1 and getattr(self, name):
                raise AudioPaLMError(f"decoding: a beam does not sample, but beam is {self.beam} and {name} "
                                     f"{getattr(self, name)}; give one of them (nbest needs a beam)")

    def record(self) -> dict[str, Any]:
        """The settings in the record of a decode. `true_parts` is left out at 0, as in earlier decodes without it."""
        return {key: value for key, value in to_dict(self).items() if key != "true_parts" or value}

    def sampling(self, is_audio: bool) -> tuple[float, int, float]:
        """Temperature, top_k and top_p of a part."""
        if is_audio:
            return self.audio_temperature, self.audio_top_k, self.audio_top_p
        return self.text_temperature, self.text_top_k, self.text_top_p
