"""Inference from the files of an ESPnet pack (audiopalm/bin/espnet_pack.py): speech or text in, text and speech out."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from audiopalm.acoustic.registry import load_acoustic
from audiopalm.answer import Segment
from audiopalm.codec.registry import load_codec
from audiopalm.core.device import usable_device
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import require
from audiopalm.core.zip_files import check_zip
from audiopalm.data.examples import Example
from audiopalm.espnet.imports import unpack
from audiopalm.espnet.scorer import beam_search
from audiopalm.espnet.task import AudioPaLMTask
from audiopalm.inference import AudioPaLM, PackFacts, Settings
from audiopalm.lm.generation.config import DecodingConfig
from audiopalm.lm.generation.grammar import Generated
from audiopalm.lm.sequences import SequenceBuilder
from audiopalm.lm.trained import trained_from_json
from audiopalm.request import Request
from audiopalm.tasks import Task
from audiopalm.units.registry import UnitTokenizer
from audiopalm.vocabulary.joint import load_vocabulary

FILES = {"audiopalm_train_config", "audiopalm_model_file", "vocabulary_file", "units_file", "acoustic_file",
         "codec_file"}  # the names in meta.yaml of a pack of bin/espnet_pack.py
# settings of our own decoder that ESPnet's beam search does not have
UNUSED = ("beam", "length_penalty", "rescore", "true_parts", "text_temperature", "audio_temperature")


class Speech2Any(AudioPaLM):
    """`AudioPaLM` with a language model that is a checkpoint of ESPnet's Trainer.

    >>> model = Speech2Any.from_pretrained("exp/espnet_pack.zip", beam_size=5, nbest=3, device="cuda")
    >>> answer = model("x.wav", task="[AST Spanish English]")
    >>> answer.text["ast"], answer.nbest

    The files are those of a pack: `vocabulary_file` is vocabulary.json; `units_file`, `acoustic_file` and `codec_file`
    are the config.json of each folder. They are separate arguments, because ESPnet's `unpack` returns them by these
    names. The other arguments have the names and the meaning of ESPnet's Speech2Text:

    device: the device of all parts, `cpu` or `cuda`.
    beam_size: above 1 ESPnet's beam search decodes; with 1 our decoder decodes, with the settings `decoding`.
    nbest: the number of hypotheses in the answer's `nbest`, at most beam_size. Only the best hypothesis is spoken.
    maxlenratio: the maximum length of a hypothesis, in tokens without <eos>, is this ratio times the length of the
        input; below 0 its absolute value is the maximum. The length of the input is the number of its units, 25 a
        second (the rate of an encoder of ESPnet that subsamples by four), or of its text tokens. With 0 there is no
        such maximum. The limits of `decoding` always apply. In a combined task the maximum applies to each part.
    """

    def __init__(self, audiopalm_train_config: str | Path, audiopalm_model_file: str | Path,
                 vocabulary_file: str | Path, units_file: str | Path, acoustic_file: str | Path, codec_file: str | Path,
                 *, device: str = "cpu", maxlenratio: float = 0.0, beam_size: int = 1, nbest: int = 1,
                 decoding: DecodingConfig | None = None) -> None:
        if not 1 <= nbest <= beam_size:
            raise AudioPaLMError(f"nbest must be 1 to beam_size, which is {beam_size}, found {nbest}")
        self.beam_size, self.nbest, self.maxlenratio = beam_size, nbest, maxlenratio
        used = usable_device(device)
        model, args = AudioPaLMTask.build_model_from_file(audiopalm_train_config, audiopalm_model_file, str(used))
        vocabulary, tokenizer = load_vocabulary(Path(vocabulary_file).parent)
        vocabulary.check(args.vocabulary_hash, str(audiopalm_model_file))
        # A training with ESPnet's own readers (--task) does not record its languages.
        trained = frozenset(trained_from_json(getattr(args, "trained", []), str(audiopalm_train_config))) or None
        super().__init__(UnitTokenizer.load(Path(units_file).parent, used), model.decoder,
                         SequenceBuilder(vocabulary, tokenizer), load_acoustic(Path(acoustic_file).parent, used),
                         load_codec(Path(codec_file).parent, used), PackFacts(trained), decoding)

    @classmethod
    def from_pretrained(  # type: ignore[override]  # the arguments are those of ESPnet's Speech2Text
            cls, model_tag: str | Path | None = None, **options: Any) -> "Speech2Any":
        """Load a pack, or the files that `options` name.

        model_tag: a pack x.zip, which ESPnet's `unpack` unpacks into the folder x beside it. Without it, `options` must
        have all files that the constructor needs, as `unpack` returns them. Raises AudioPaLMError for a file that is
        not a pack of this package.
        """
        if model_tag is not None:
            archive = require(model_tag, "bin/espnet_pack.py")
            check_zip(archive)  # ESPnet's own `unpack` does not check the paths in a zip
            try:
                options |= unpack(archive, archive.with_suffix(""))
            except (RuntimeError, ValueError, KeyError, AssertionError, OSError, yaml.YAMLError) as error:
                reason = " ".join(str(error).split()) or "its meta.yaml is not one"
                raise AudioPaLMError(f"{model_tag} is not a pack of ESPnet ({reason}); pack the model again "
                                     "(bin/espnet_pack.py)") from None
        if missing := FILES - options.keys():
            raise AudioPaLMError(f"{model_tag or 'the call'} does not give {', '.join(sorted(missing))}; packs of "
                                 "bin/espnet_pack.py do")
        return cls(**options)

    def _request(self, tag: str, decoding: Settings, seed: int, nbest: int) -> Request:
        """The request. Raises AudioPaLMError for more hypotheses than the beam has, and for settings of `decoding`
        that ESPnet's beam search does not have."""
        if nbest > self.beam_size:
            raise AudioPaLMError(f"nbest must be 1 to beam_size, which is {self.beam_size}, found {nbest}")
        request = replace(super()._request(tag, decoding, seed, 1), nbest=nbest)
        unused = [name for name in UNUSED if getattr(request.decoding, name) != getattr(DecodingConfig, name)]
        if self.beam_size > 1 and unused:
            raise AudioPaLMError(f"decoding: ESPnet's beam search has no {unused[0]}; beam_size=1 decodes with it")
        return request

    def __call__(self, *arguments: Any, nbest: int | None = None, **options: Any) -> Any:
        """As `AudioPaLM.__call__`. The constructor gives the default of `nbest`."""
        return super().__call__(*arguments, **options | {"nbest": self.nbest if nbest is None else nbest})

    def stream(self, *arguments: Any, nbest: int | None = None, **options: Any) -> Iterator[Segment]:
        """As `AudioPaLM.stream`. The constructor gives the default of `nbest`."""
        return super().stream(*arguments, **options | {"nbest": self.nbest if nbest is None else nbest})

    def generate(self, task: Task, examples: list[Example], decoding: DecodingConfig,
                 seed: int) -> list[list[Generated]]:
        """The hypotheses for each example, the best first, by ESPnet's beam search if beam_size is above 1."""
        if self.beam_size == 1:
            return [super(Speech2Any, self).generate(task, [example], self._limited(task, example, decoding), seed)[0]
                    for example in examples]
        return [[answer for _, answer in beam_search(self.lm, self.builder.prompt(task, example), task,
                                                     self.builder.vocabulary, self._limited(task, example, decoding),
                                                     self.beam_size)] for example in examples]

    def _limited(self, task: Task, example: Example, decoding: DecodingConfig) -> DecodingConfig:
        """`decoding` with the maximum length by `maxlenratio`, computed as in ESPnet's search."""
        if self.maxlenratio == 0:
            return decoding
        length = len(self.builder.value(task.input, example))
        most = max(1, int(self.maxlenratio * length) if self.maxlenratio > 0 else -int(self.maxlenratio))
        return replace(decoding, text_tokens=min(most, decoding.text_tokens),
                       audio_tokens=min(most, decoding.audio_tokens))
