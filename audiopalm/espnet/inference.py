"""Inference from the files of an ESPnet pack (audiopalm/bin/espnet_pack.py): speech or text in, text and speech out."""

from pathlib import Path

from audiopalm.acoustic.registry import load_acoustic
from audiopalm.codec.registry import load_codec
from audiopalm.data.examples import Example
from audiopalm.espnet.imports import unpack
from audiopalm.espnet.scorer import beam_search
from audiopalm.espnet.task import AudioPaLMTask
from audiopalm.inference import AudioPaLM
from audiopalm.lm.generation.config import DecodingConfig
from audiopalm.lm.generation.grammar import Generated
from audiopalm.lm.sequences import SequenceBuilder
from audiopalm.lm.trained import trained_from_json
from audiopalm.tasks import Task
from audiopalm.units.registry import UnitTokenizer
from audiopalm.vocabulary.joint import load_vocabulary


class Speech2Any(AudioPaLM):
    """`AudioPaLM` with a language model that is a checkpoint of ESPnet's Trainer.

    >>> model = Speech2Any.from_pretrained("exp/espnet_pack.zip", beam_size=5)
    >>> model("x.wav", task="[AST Spanish English]").text["ast"]

    `vocabulary_file` is vocabulary.json. `units_file`, `acoustic_file` and `codec_file` are the config.json of each
    folder. With a `beam_size` above 1 ESPnet's beam search decodes, else ours does as `decoding` says.
    """

    def __init__(self, audiopalm_train_config: str | Path, audiopalm_model_file: str | Path,
                 vocabulary_file: str | Path, units_file: str | Path, acoustic_file: str | Path, codec_file: str | Path,
                 decoding: DecodingConfig | None = None, beam_size: int = 1):
        model, args = AudioPaLMTask.build_model_from_file(audiopalm_train_config, audiopalm_model_file)
        vocabulary, tokenizer = load_vocabulary(Path(vocabulary_file).parent)
        vocabulary.check(args.vocabulary_hash, str(audiopalm_model_file))
        super().__init__(UnitTokenizer.load(Path(units_file).parent), model.decoder,
                         SequenceBuilder(vocabulary, tokenizer), load_acoustic(Path(acoustic_file).parent),
                         load_codec(Path(codec_file).parent), decoding or DecodingConfig(),
                         # ESPnet's own readers (--task) do not say which languages they gave.
                         trained_from_json(getattr(args, "trained", []), str(audiopalm_train_config)) or None)
        self.beam_size = beam_size

    @classmethod
    def from_pretrained(cls, model_tag: str | Path | None = None, **options) -> "Speech2Any":
        """`model_tag` is a pack, x.zip, which is unpacked into the folder x beside it.

        Without it, `options` must hold all arguments of the constructor.
        """
        if model_tag is not None:
            options |= unpack(model_tag, Path(model_tag).with_suffix(""))
        return cls(**options)

    def generate(self, task: Task, examples: list[Example], decoding: DecodingConfig,
                 seed: int) -> list[list[Generated]]:
        if self.beam_size == 1:
            return super().generate(task, examples, decoding, seed)
        prompts = [self.builder.prompt(task, example) for example in examples]
        return [[answer for _, answer in beam_search(self.lm, prompt, task, self.builder.vocabulary, decoding,
                                                     self.beam_size)] for prompt in prompts]
