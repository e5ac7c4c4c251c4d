"""The paper's tables 2, 3 and 4 with the figures that were verified, and the rows of results.json beside them.

A figure is missing if no source for it was available. Tables 5 to 13 are in egs/mini/conf/tables/tables.yaml.
"""

from dataclasses import dataclass
from typing import Any

# FLEURS languages with AST data in the paper: those of CoVoST 2 and the sources of VoxPopuli's interpretation.
SEEN = frozenset("fr de es ca it ru zh pt fa et mn nl tr ar sv lv sl ta ja id cy pl ro hu cs fi hr sk lt".split())


@dataclass(frozen=True)
class Ours:
    """Our counterpart of a figure: the rows that fit `wanted`, at full scale of `full`, in small of the recipe `mini`.

    wanted: arguments of `select`. full: pairs of a recipe and a set.
    """

    wanted: dict[str, Any]
    full: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Line:
    """A line of a table: the name of the figure, the model, the paper's value, and our counterpart if there is one."""

    figure: str
    model: str
    paper: str
    ours: Ours | None = None


_AST = {"task": "ast", "metric": "bleu", "target": "en", "system": "model"}
_VOICE = {"task": "s2st", "metric": "speaker_cosine"}
_SPOKEN = (("joint_s2st", "cvss_test"), ("cvss", "test"))
_COVOST2 = Ours(_AST, (("joint_ast", "covost2_test"), ("joint_s2st", "covost2_test"), ("covost2", "test")))
_CVSS = Ours({"task": "s2st", "metric": "asr_bleu", "target": "en", "system": "model"}, _SPOKEN)
_VOXPOPULI = Ours({"task": "asr", "metric": "wer", "system": "model"},
                  (("joint_ast", "voxpopuli_test"), ("joint_s2st", "voxpopuli_test"), ("voxpopuli", "test")))

TABLES = {
    "2": ("Table 2: main results", [
        Line("CoVoST2 BLEU", "Whisper large-v2 1.5B", "29.1"),
        Line("CoVoST2 BLEU", "mSLAM-CTC 2B", "24.8"),
        Line("CoVoST2 BLEU", "MAESTRO 600M", "25.2"),
        Line("CoVoST2 BLEU", "USM-M", "30.7"),
        Line("CoVoST2 BLEU", "AudioPaLM 8B AST", "35.4", _COVOST2),
        Line("CoVoST2 BLEU", "AudioPaLM-2 8B AST", "37.8"),
        Line("CVSS ASR-BLEU", "Translatotron 2", "25.6"),
        Line("CVSS ASR-BLEU", "AudioPaLM 8B S2ST", "32.5", _CVSS),
        Line("VoxPopuli WER", "Whisper large-v2 1.5B", "13.6"),
        Line("VoxPopuli WER", "mSLAM-CTC 2B", "9.1"),
        Line("VoxPopuli WER", "MAESTRO 600M", "8.1"),
        Line("VoxPopuli WER", "AudioPaLM-2 8B AST", "9.8", _VOXPOPULI),
    ]),
    "3": ("Table 3: FLEURS into English, BLEU", [
        Line("29 languages seen in AST", "Whisper large-v2", "23.3"),
        Line("29 languages seen in AST", "AudioPaLM 8B AST", "22.4",
             Ours(_AST | {"source": lambda code: code in SEEN}, (("fleurs", "test"),))),
        Line("29 languages seen in AST", "AudioPaLM-2 8B AST", "28.6"),
        Line("23 languages with ASR only", "Whisper large-v2 (not zero-shot)", "19.6"),
        # Without ours: which 23 of the other 73 languages the paper means is not known.
        Line("23 languages with ASR only", "AudioPaLM 8B AST", "10.0"),
        Line("23 languages with ASR only", "AudioPaLM-2 8B AST", "20.7"),
    ]),
    "4": ("Table 4: voices on CVSS-T", [
        Line("MOS", "CVSS-T targets", "3.88"),
        Line("MOS", "Translatotron 2", "3.96"),
        Line("MOS", "AudioPaLM 8B S2ST", "4.44"),
        Line("SMOS", "CVSS-T targets", "3.70"),
        Line("SMOS", "Translatotron 2", "3.51"),
        Line("SMOS", "AudioPaLM 8B S2ST", "4.00"),
        Line("speaker cosine", "CVSS-T targets", "0.24", Ours(_VOICE | {"system": "true_audio"}, _SPOKEN)),
        Line("speaker cosine", "Translatotron 2", "0.18"),
        Line("speaker cosine", "AudioPaLM 8B S2ST", "0.40", Ours(_VOICE | {"system": "model"}, _SPOKEN)),
    ]),
}
