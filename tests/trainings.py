"""Small trainings of every kind on synthetic recordings and tokens, started by their real commands."""

import subprocess
from pathlib import Path

import numpy as np
from commands import call
from prestarted import run_python

from audiopalm.core.files import write_json
from audiopalm.data.archive import write_ark
from audiopalm.data.audio import write_audio
from audiopalm.data.datadir import write_table

UNITS, LEVELS, CODES, SPEAKERS = 12, 3, 24, 3  # of the synthetic tokens

SMALL_UNITS = ["model.dim=16", "model.heads=2", "model.kernel=5", "model.size=16", "batch.seconds=4",
               "optimizer.warmup_steps=2"]
# kind -> (command, overrides); all have 12 steps, and checkpoints and validations every 4
KINDS: dict[str, tuple[str, list[str]]] = {
    "usm-v2": ("train_units", [*SMALL_UNITS, "kind=usm-v2", "model.encoder_blocks=1", "model.code_dim=8",
                               "quantise_from=6", "short_steps=2", "augment_from=3", "kmeans_batches=2"]),
    "w2v-bert": ("train_units", [*SMALL_UNITS, "kind=w2v-bert", "kmeans.frames=200", "model.contrastive_blocks=1",
                                 "model.masked_blocks=1", "model.layer=2", "model.target_codes=8",
                                 "model.target_dim=4"]),
    "spectral": ("train_codec", ["model.encoder_dim=16", "model.encoder_blocks=1", "model.latent_dim=8",
                                 "model.decoder.dim=16", "model.decoder.blocks=1", "model.levels=2", "model.size=8",
                                 "batch.crops=4", "batch.crop_seconds=0.32", "quantise_from=5", "kmeans_crops=8",
                                 "adversarial_from=7"]),
    "soundstream": ("train_codec", ["kind=soundstream", "model.hidden_dim=8", "model.filters=2", "model.levels=3",
                                    "model.size=16", "scale_channels=16", "stft_channels=2", "batch.crops=2",
                                    "batch.crop_seconds=0.32", "quantise_from=2", "plain_noise=0.4", "kmeans_crops=8",
                                    "adversarial_from=5"]),
    "soundstorm": ("train_acoustic", ["model.dim=16", "model.layers=1", "model.heads=2", "batch.voices=2"]),
    "audiolm": ("train_acoustic", ["kind=audiolm", "model.coarse_levels=1", "model.coarse={dim: 16, layers: 1}",
                                   "model.fine={dim: 16, layers: 1}", "batch.voices=1", "batch.target_seconds=0.4",
                                   "optimizer.name=muon"]),
}
STEPS = ["training.steps=12", "training.save_every=4", "training.validate_every=4", "training.log_every=3"]


def write_recordings(directory: Path, number: int = 16) -> Path:
    """A data directory of tones: a low one is the letter `a`, a high one `b`."""
    random = np.random.default_rng(0)
    wavs, texts = {}, {}
    for index in range(number):
        text = "".join(random.choice(["a", "b"], random.integers(2, 6)))
        samples = np.concatenate([np.sin(np.arange(6400) * (0.1 if letter == "a" else 0.5)) for letter in text]) * 0.3
        name = f"anna-en-{index:02d}"
        wavs[name], texts[name] = str(directory / f"{index}.flac"), text
        write_audio(wavs[name], samples.astype(np.float32))
    write_table(directory / "wav.scp", wavs)
    write_table(directory / "text", texts)
    write_table(directory / "utt2lang", dict.fromkeys(wavs, "fr"))
    return directory


def write_tokens(folder: Path, seed: int, utterances: int = 30) -> Path:
    """A synthetic language: each speaker says a unit by codes of his own, with other codes in its second half.

    Every fifth utterance of a speaker is in Spanish, the others are in English.
    """
    table = np.random.default_rng(0).integers(0, CODES, (SPEAKERS, UNITS, 2, LEVELS))
    random = np.random.default_rng(seed)
    units, codec, speakers, languages = {}, {}, {}, {}
    for index in range(utterances):
        speaker = index % SPEAKERS
        language = "es" if index // SPEAKERS % 5 == 4 else "en"
        name = f"s{speaker}-{language}-{index:03d}"
        units[name] = random.integers(0, UNITS, int(random.integers(10, 40)))
        frames = table[speaker, units[name]].reshape(-1, LEVELS)
        codec[name] = frames[:len(frames) - index % 2].reshape(-1)  # the last frame may be missing
        speakers[name], languages[name] = f"s{speaker}", language
    write_table(folder / "units.scp", write_ark(folder / "units.ark", units))
    write_table(folder / "codec.scp", write_ark(folder / "codec.ark", codec))
    write_table(folder / "utt2spk", speakers)
    write_table(folder / "utt2lang", languages)
    write_json(folder / "meta.json", {"units_rate": 25, "units_size": UNITS, "units_sha256": "aaaa", "codec_rate": 50,
                                      "codec_levels": LEVELS, "codec_size": CODES, "codes_sha256": "bbbb"})
    return folder


def write_killed(folder: Path, name: str, step: int) -> Path:
    """A script that runs the training command `name` and kills itself by SIGKILL at the beginning of a step."""
    script = folder / f"killed_{name}_{step}.py"
    script.write_text(f"""
import os, signal
from audiopalm.bin import {name}
from audiopalm.core.command import run
from audiopalm.training import loop
train_step = loop._Loop._step
def killed(self, step, batches):
    if step == {step}:
        os.kill(os.getpid(), signal.SIGKILL)
    train_step(self, step, batches)
loop._Loop._step = killed
if __name__ == "__main__":
    run({name}.main)
""")
    return script


class Trainings:
    """The inputs of all kinds in a folder, and their commands."""

    def __init__(self, root: Path):
        self.root = root
        self.speech = write_recordings(root / "speech")
        self.tokens, self.dev_tokens = write_tokens(root / "tokens", 1), write_tokens(root / "dev", 2, 12)
        (root / "empty.yaml").write_text("")

    def arguments(self, kind: str, output: Path, *overrides: str) -> list[str]:
        """The name of the command and its arguments."""
        command, settings = KINDS[kind]
        inputs = ["--data_dir", self.speech, "--dev_dir", self.speech]
        if command == "train_acoustic":
            inputs = ["--data_dir", self.tokens, "--tokens", self.tokens, "--dev_data_dir", self.dev_tokens,
                      "--dev_tokens", self.dev_tokens]
        return [command, *map(str, inputs), "--config", str(self.root / "empty.yaml"), "--output", str(output),
                "--seed", "3", *STEPS, *settings, *overrides]

    def run(self, kind: str, output: Path, *overrides: str) -> None:
        """The command in this process."""
        call(*self.arguments(kind, output, *overrides))

    def run_until_killed(self, kind: str, output: Path, step: int, *overrides: str,
                         processes: int = 1) -> subprocess.CompletedProcess:
        """The command in new processes, which kill themselves by SIGKILL at the beginning of a step."""
        name, *arguments = self.arguments(kind, output, *overrides)
        return self._start([str(write_killed(self.root, name, step))], arguments, processes)

    def run_processes(self, kind: str, output: Path, processes: int, *overrides: str) -> subprocess.CompletedProcess:
        name, *arguments = self.arguments(kind, output, *overrides)
        return self._start(["-m", f"audiopalm.bin.{name}"], arguments, processes)

    def _start(self, program: list[str], arguments: list[str], processes: int) -> subprocess.CompletedProcess:
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
        return run_python(*(launcher if processes > 1 else []), *program, *arguments, OMP_NUM_THREADS="1")
