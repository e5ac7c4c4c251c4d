"""Generated units as an independent judge hears them: SoundStorm, the codec, the judge's transcript."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from audiopalm.acoustic.registry import load_acoustic
from audiopalm.codec.registry import load_codec
from audiopalm.data.audio import write_audio
from audiopalm.scoring.judge import JUDGED_LANGUAGE, judge_signature, transcribe
from audiopalm.scoring.text import get_normaliser
from audiopalm.stages.prompt_utterances import Prompts
from audiopalm.stages.synthesize import check_codec


class Hearing:
    """Speaks units in voices of a data set, and has a judge write down what was said.

    Raises AudioPaLMError for models that do not fit each other and for a judge that cannot run.
    """

    def __init__(self, judge: str, acoustic: Path, codec: Path) -> None:
        judge_signature(judge)
        self.judge, self.acoustic_dir = judge, acoustic
        self.acoustic, self.codec = load_acoustic(acoustic), load_codec(codec)
        check_codec(self.acoustic, codec)
        self.normalise = get_normaliser("english", JUDGED_LANGUAGE)

    def prompts(self, data_dir: Path, tokens: Path) -> Prompts:
        """The voice prompts of a data set."""
        return Prompts(data_dir, tokens, self.acoustic, self.acoustic_dir)

    def right(self, units: Sequence[np.ndarray], texts: Sequence[str], names: Sequence[str],
              prompts: Prompts) -> np.ndarray:
        """Whether the judge hears each text in the speech of its units, every word of it; bool `[N]`.

        units: int `[T]` each. names: the utterances that the texts are of. As in stage 11, the voice prompt is the next
        utterance of the same speaker.
        """
        voices = [prompts.of(prompts.next(name)) for name in names]
        codes = self.acoustic.generate(list(units), [voice for voice, _ in voices], [codec for _, codec in voices])
        with TemporaryDirectory() as folder:
            files: dict[str, str] = {}
            for number, tokens in enumerate(codes):
                if len(tokens):
                    files[str(number)] = f"{folder}/{number}.wav"
                    write_audio(files[str(number)], self.codec.decode([tokens])[0])
            transcripts = transcribe(self.judge, files, folder, processes=1)
        return np.array([self.normalise(transcripts.get(str(number), "")) == self.normalise(text)
                         for number, text in enumerate(texts)])
