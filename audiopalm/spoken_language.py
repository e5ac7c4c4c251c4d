"""Which language a recording is in, by how sure the model is of what it hears."""

from collections.abc import Iterable

from audiopalm.core.errors import AudioPaLMError
from audiopalm.data.speech_input import Speech
from audiopalm.inference import AudioPaLM
from audiopalm.languages import language_name
from audiopalm.tasks import AUDIO, TRANSCRIPT, writing_task


def spoken_language(model: AudioPaLM, speech: Speech, codes: Iterable[str], sampling_rate: int | None = None) -> str:
    """The one of the languages `codes` as which the model recognises the first segment of `speech` with the highest
    mean log probability of a token.

    Raises AudioPaLMError for speech that cannot be read, in which nobody speaks, or for a model without recognition.
    """
    codes = list(codes)
    if len(codes) == 1:
        return codes[0]
    row, scores = writing_task(AUDIO, TRANSCRIPT), {}
    for code in codes:
        segment = next(model.stream(speech, row.tag_text(code, None), sampling_rate), None)
        if segment is None:
            raise AudioPaLMError("nobody speaks in the recording")
        if segment.mean_scores is None:
            raise AudioPaLMError("the language cannot be found out with these settings of decoding; name it, one of "
                                 f"{', '.join(map(language_name, codes))}")
        scores[code] = segment.mean_scores[row.outputs[0].part]
    return max(scores, key=scores.get)
