"""The settings of a decode."""

from dataclasses import dataclass

from audiopalm.core.errors import AudioPaLMError


@dataclass
class DecodingConfig:
    """Greedy at temperature 0, else sampled: from the `top_k` most probable tokens, limited to the smallest set of the
    most probable ones whose probabilities add up to `top_p`.

    A `beam` above 1 selects beam search (beam.py) for both kinds of parts. With `rescore` the model then chooses the
    answer whose speech it recognises best (rescoring.py).
    """

    text_tokens: int = 60  # maximum length of a text part
    audio_tokens: int = 300  # maximum length of an audio part (25 units a second)
    text_tokens_per_input: float | None = None  # a second maximum: times the tokens of the prompt, its tag included
    audio_tokens_per_input: float | None = None
    text_temperature: float = 0.0
    text_top_k: int = 20
    text_top_p: float = 1.0
    audio_temperature: float = 0.0
    audio_top_k: int = 20
    audio_top_p: float = 1.0
    beam: int = 1
    length_penalty: float = 1.0  # answers are ranked by log probability / tokens ** length_penalty
    rescore: bool = False

    def __post_init__(self):
        for kind, (_, top_k, top_p) in (("audio", self.sampling(True)), ("text", self.sampling(False))):
            if not 0 < top_p <= 1 or top_k < 1:
                raise AudioPaLMError(f"decoding: {kind}_top_p={top_p} and {kind}_top_k={top_k}; top_p must be above 0 "
                                     "and at most 1, top_k at least 1")

    def sampling(self, is_audio: bool) -> tuple[float, int, float]:
        """Temperature, top_k and top_p of a part."""
        if is_audio:
            return self.audio_temperature, self.audio_top_k, self.audio_top_p
        return self.text_temperature, self.text_top_k, self.text_top_p
