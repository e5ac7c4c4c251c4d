"""Damaged packs: commands that read one name the damage in one line."""

import json
import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from one_line import said_in_one_line
from packed import make_pack, tone
from safetensors.torch import load_file, save_file

from audiopalm.bin import infer
from audiopalm.core.files import sha256, write_json
from audiopalm.core.manifest import MANIFEST
from audiopalm.inference import AudioPaLM

Damage = Callable[[Path], None]
MODELS = ("lm", "units", "codec", "acoustic")
JSONS = (*(f"{name}/config.json" for name in MODELS), "vocabulary/vocabulary.json")
DAMAGES: dict[str, Damage] = {}


def damage(name: str) -> Callable[[Damage], Damage]:
    return lambda function: DAMAGES.setdefault(name, function)


def written(file: str, content: bytes) -> Damage:
    return lambda pack: (pack / file).write_bytes(content) and None


def shortened(file: str, share: float) -> Damage:
    def cut(pack: Path) -> None:
        content = (pack / file).read_bytes()
        (pack / file).write_bytes(content[:int(share * len(content))])
    return cut


def keyed(file: str, *keys: str, value: object = ...) -> Damage:
    """A value of a JSON file replaced, or without `value` removed."""
    def change(pack: Path) -> None:
        whole = values = json.loads((pack / file).read_text())
        for key in keys[:-1]:
            values = values[key]
        if value is ...:
            del values[keys[-1]]
        else:
            values[keys[-1]] = value
        (pack / file).write_text(json.dumps(whole))
    return change


def tensors(name: str, change: Callable[[dict[str, torch.Tensor]], None]) -> Damage:
    def rewrite(pack: Path) -> None:
        file = pack / name / "model.safetensors"
        weights = load_file(file)
        change(weights)
        save_file(weights, file)
    return rewrite


def first(weights: dict[str, torch.Tensor]) -> str:
    return min(name for name, value in weights.items() if value.is_floating_point() and value.ndim > 1)


def put(weights: dict[str, torch.Tensor], function: Callable[[torch.Tensor], torch.Tensor]) -> None:
    weights[first(weights)] = function(weights[first(weights)])


def spoil(value: torch.Tensor, number: float) -> torch.Tensor:
    value.view(-1)[value.numel() // 2] = number
    return value


for file in JSONS:
    for text in ("{}", "[]", "null", "3", '"words"', "", "{", "nan", "[" * 100000, '{"kind": [1]}', '{"kind": "none"}'):
        DAMAGES[f"{file} is {text[:20]}"] = written(file, text.encode())
    DAMAGES[f"{file} is cut"] = shortened(file, 0.6)
    DAMAGES[f"{file} is latin1"] = written(file, '{"caf\u00e9": 1}'.encode("latin1"))
    DAMAGES[f"{file} is absent"] = lambda pack, file=file: (pack / file).unlink()
for name in MODELS:
    file = f"{name}/model.safetensors"
    for share in (0.0, 0.3, 0.999):
        DAMAGES[f"{file} is cut to {share}"] = shortened(file, share)
    DAMAGES[f"{file} is absent"] = lambda pack, file=file: (pack / file).unlink()
    DAMAGES[f"{file} is a folder"] = lambda pack, file=file: ((pack / file).unlink(), (pack / file).mkdir())
    DAMAGES[f"{file} is a page"] = written(file, b"<html>404 not found</html>" * 40)
    DAMAGES[f"{file} has a huge header"] = written(file, struct.pack("<Q", 2 ** 60) + b"{}")
    DAMAGES[f"{file} has an odd header"] = written(file, struct.pack("<Q", 9) + b'{"a": [1]')
    DAMAGES[f"{file} holds NaN"] = tensors(name, lambda w: put(w, lambda v: spoil(v, float("nan"))))
    DAMAGES[f"{file} holds infinity"] = tensors(name, lambda w: put(w, lambda v: spoil(v, float("inf"))))
    DAMAGES[f"{file} lacks a weight"] = tensors(name, lambda w: w.pop(first(w)) is None)
    DAMAGES[f"{file} has one more"] = tensors(name, lambda w: w.update({"more\nlines": torch.zeros(2)}))
    DAMAGES[f"{file} has a shape more"] = tensors(name, lambda w: put(w, lambda v: v[None].clone()))
    DAMAGES[f"{file} has fewer rows"] = tensors(name, lambda w: put(w, lambda v: v[:-1].clone()))
    DAMAGES[f"{file} is transposed"] = tensors(name, lambda w: put(w, lambda v: torch.zeros(v.shape[::-1] + (1,))))
    DAMAGES[f"{file} holds integers"] = tensors(name, lambda w: put(w, lambda v: v.to(torch.int32)))
for keys, value in ((("dim",), 10 ** 9), (("layers",), 10 ** 9), (("dim",), 131072), (("heads",), 0), (("heads",), 3),
                    (("dim",), "32"), (("dim",), None), (("dim",), True), (("norm_eps",), float("nan")),
                    (("activation",), "relu"), (("vocabulary_size",), 7), (("vocabulary_size",), ...), (("dims",), 5),
                    (("rope_scaling",), 5)):
    DAMAGES[f"lm {keys[0]}={value}"] = keyed("lm/config.json", "model", *keys, value=value)
for file, key, value in (("lm", "vocabulary_hash", 5), ("lm", "vocabulary_hash", "other"), ("lm", "model", []),
                         ("units", "size", 17), ("units", "heads", 3), ("units", "codebook_sha256", "other"),
                         ("units", "dim", -1), ("units", "characters", 5), ("units", "kernel", 10 ** 5),
                         ("codec", "kind", "soundstreem"), ("codec", "levels", 3), ("codec", "levels", 0),
                         ("codec", "n_fft", 10 ** 12), ("codec", "size", ...), ("acoustic", "kind", "audiolm"),
                         ("acoustic", "units_sha256", "other"), ("acoustic", "codes_sha256", ...),
                         ("acoustic", "generation", {"iterations": []}), ("acoustic", "generation", {"iteration": [1]}),
                         ("acoustic", "generation", {"window_seconds": 0}), ("acoustic", "model", {"dim": 3})):
    DAMAGES[f"{file} {key}={value}"] = keyed(f"{file}/config.json", key, value=value)
for key, value in (("text_size", -1), ("text_size", 5), ("audio_size", 15), ("audio_size", "16"), ("eos", 3),
                   ("newline", None), ("text_sha256", "other"), ("languages", "en"), ("layout_hash", "other")):
    DAMAGES[f"vocabulary {key}={value}"] = keyed("vocabulary/vocabulary.json", key, value=value)
for share in (0.0, 0.5, 0.99):
    DAMAGES[f"text.model is cut to {share}"] = shortened("vocabulary/text.model", share)
DAMAGES["text.model is a page"] = written("vocabulary/text.model", b"<html>404 not found</html>")
DAMAGES["text.model is absent"] = lambda pack: (pack / "vocabulary/text.model").unlink()


@damage("text.model is damaged and the vocabulary has its hash")
def _(pack: Path) -> None:
    shortened("vocabulary/text.model", 0.7)(pack)
    keyed("vocabulary/vocabulary.json", "text_sha256", value=sha256(pack / "vocabulary/text.model"))(pack)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """(a pack without a manifest, so that every loader must find the damage itself; a recording)"""
    root = tmp_path_factory.mktemp("whole")
    return make_pack(root / "pack"), tone(root / "x.wav")


@pytest.fixture
def pack(whole, tmp_path):
    return shutil.copytree(whole[0], tmp_path / "pack")


def add_manifest(pack: Path) -> Path:
    files = {path.relative_to(pack).as_posix(): {"sha256": sha256(path), "bytes": path.stat().st_size}
             for path in sorted(pack.rglob("*")) if path.is_file()}
    write_json(pack / MANIFEST, {"audiopalm": "0", "recipe": "mini", "files": files})
    return pack


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_found_by_the_loaders(whole, pack, monkeypatch, capsys, name):
    DAMAGES[name](pack)
    line = said_in_one_line(monkeypatch, capsys, infer.main, whole[1], "--task", "[ASR Spanish]", "--model", pack)
    assert str(pack) in line or "vocabulary mismatch" in line or "acoustic model" in line, line


@pytest.mark.parametrize("seed", range(20))
def test_one_flipped_bit_is_found_by_the_manifest(whole, pack, monkeypatch, capsys, seed):
    add_manifest(pack)
    draw = random.Random(seed)
    path = draw.choice(sorted(path for path in pack.rglob("*") if path.is_file() and path.name != MANIFEST))
    content = bytearray(path.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)
    line = said_in_one_line(monkeypatch, capsys, infer.main, whole[1], "--task", "[ASR Spanish]", "--model", pack)
    assert f"{path} has SHA-256" in line and "fetch it again" in line


@pytest.mark.parametrize("content", ["{}", "[]", '{"files": []}', '{"files": {}}', '{"files": {"lm/config.json": 1}}',
                                     '{"files": {"../x": {"sha256": "", "bytes": 0}}}',
                                     '{"files": {"/etc/passwd": {"sha256": "", "bytes": 0}}}',
                                     '{"files": {"lm/other.json": {"sha256": "", "bytes": 0}}}',
                                     '{"files": {"lm/config.json": {"sha256": 5, "bytes": "x"}}}', "{", ""])
def test_a_damaged_manifest_is_one_line(whole, pack, monkeypatch, capsys, content):
    (pack / MANIFEST).write_text(content)
    said_in_one_line(monkeypatch, capsys, infer.main, whole[1], "--task", "[ASR Spanish]", "--model", pack)


def test_an_undamaged_pack_passes_the_check_and_the_check_can_be_skipped(whole, pack):
    add_manifest(pack)
    assert AudioPaLM.from_pretrained(pack)(whole[1], "[ASR Spanish]").text.keys() == {"asr"}
    (pack / "lm" / "config.json").write_text((pack / "lm" / "config.json").read_text() + "\n")
    AudioPaLM.from_pretrained(pack, verify=False)


@pytest.mark.parametrize("out", ["y.mp3", "y", ".", "folder", "folder/", "file/y.wav", "/proc/y.wav", "/dev/null/y.wav",
                                 "y.wav\0", "n" * 300 + ".wav", "", "/sys/y.flac"])
@pytest.mark.parametrize("command", ["infer", "resynthesize"])
def test_outputs_are_checked_before_the_model_is_read(whole, tmp_path, monkeypatch, capsys, out, command):
    from audiopalm.bin import resynthesize
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    before = sorted(tmp_path.rglob("*"))
    if command == "infer":
        line = said_in_one_line(monkeypatch, capsys, infer.main, whole[1], "--task", "[S2ST Spanish English]",
                                "--out", out, "--model", "no such model")
    else:
        line = said_in_one_line(monkeypatch, capsys, resynthesize.main, whole[1], out, "--model", "no such model")
    assert "no such model" not in line and sorted(tmp_path.rglob("*")) == before
