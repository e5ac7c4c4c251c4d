"""Everything a phone, a browser or a script sends: each call ends in one AudioPaLMError of one line or a right answer.

A right answer to speech has the units of the speech itself; an answer to silence is empty.
"""

import io
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from packed import make_pack, spoken

from audiopalm import AudioPaLM
from audiopalm.answer import Answer
from audiopalm.bin import infer
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import sha256, write_json
from audiopalm.core.manifest import MANIFEST

ASR, AST, MT, TTS = "[ASR Spanish]", "[ASR AST S2ST Spanish English]", "[MT Spanish English]", "[TTS English]"
SHORT = {"text_tokens": 4, "audio_tokens": 8}
REFUSED, SILENT, SPOKEN, ANSWERED = "refused", "silent", "spoken", "answered"  # how a call must end; ANSWERED: any way
Call = tuple[dict[str, Any], str]  # arguments, how it must end


def encoded(samples: np.ndarray, rate: int = 16000, kind: str = "WAV", subtype: str | None = None) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=kind, subtype=subtype)
    return buffer.getvalue()


def sine(seconds: float, hertz: float = 440.0) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hertz * np.arange(round(16000 * seconds)) / 16000)).astype(np.float32)


def music(seconds: float) -> np.ndarray:
    """Chords of a few sines with an attack every half a second."""
    time = np.arange(round(16000 * seconds)) / 16000
    notes = 220 * 2 ** (np.array([0, 4, 7, 12, 5, 9])[(time * 2).astype(int) % 6] / 12)
    return (
        sum(np.sin(2 * np.pi * notes * k * time) / k for k in range(1, 6)) * 0.1 * np.exp(-3 * (time % 0.5))
    ).astype(np.float32)


def arrays() -> Iterator[Call]:  # longer than 60 lines: a table of calls
    speech, random = spoken(), np.random.default_rng(0)
    for rate in (None, 0, -1, 1, 999, 768001, 2**40, "16000", "x", 16000.5, float("nan"), float("inf"), True, [], {}):
        yield {"speech": speech, "sampling_rate": rate}, REFUSED
    for rate in (8000, 11025, 22050, 32000, 44100, 48000, 96000, 12345):
        resampled = np.interp(np.arange(round(3.0 * rate)) / rate * 16000, np.arange(len(speech)), speech)
        yield {"speech": resampled, "sampling_rate": rate}, SPOKEN
    for value in (
        (speech * 32767).astype(np.int16),
        (speech * 2e9).astype(np.int32),
        speech.astype(np.float16),
        ((speech + 1) * 127.5).astype(np.uint8),
        speech * 32768,
        speech * 1e-3,
        speech * 1e4,
        speech + 3,
        speech[:, None],
        speech[None],
        np.stack([speech] * 2),
        np.stack([speech] * 6, axis=1),
        np.concatenate([np.zeros(48000), speech, np.zeros(48000)]),
        speech[::-1][::-1],
        np.asfortranarray(speech),
        torch.from_numpy(speech),
        torch.from_numpy(speech).bfloat16(),
        torch.from_numpy(speech).requires_grad_(),
        np.clip(speech * 8, -0.3, 0.3),
        speech + random.normal(0, 0.005, len(speech)),
    ):
        yield {"speech": value, "sampling_rate": 16000}, SPOKEN
    for value in (
        np.zeros(0),
        np.zeros((2, 0)),
        np.zeros((0, 2)),
        np.zeros((2, 100)),
        np.zeros((100, 100)),
        np.float32(1),
        np.zeros((1, 2, 3000)),
        np.zeros(()),
        np.array(["a"]),
        np.array([None]),
        speech > 0,
        speech.astype(np.complex64),
        speech.astype(np.int64),
        speech.astype(np.uint16),
        speech.astype("S8"),
        np.full(9999, np.nan),
        np.where(np.arange(48000) == 5, np.inf, 0),
        np.full(9999, 1e30),
        torch.zeros(0),
        torch.zeros(3, 3, 3),
        torch.full((9999,), torch.nan),
        torch.zeros(9999).bool(),
    ):
        yield {"speech": value, "sampling_rate": 16000}, REFUSED
    for value in (
        np.zeros(1),
        np.zeros(160),
        np.ones(160),
        np.zeros(48000),
        np.full(48000, 0.5),
        np.zeros(160, np.int16),
        np.full(48000, 1e-9),
        np.full(48000, 32767, np.int16),
        random.integers(-1, 2, 48000).astype(np.int16),
        sine(3),
        sine(0.01),
        sine(2, 50),
        sine(2, 7999),
        np.eye(1, 48000)[0],
        np.full(48000, 128, np.uint8),
    ):
        yield {"speech": value, "sampling_rate": 16000}, SILENT
    for value in (
        music(4),
        random.normal(0, 0.1, 48000),
        random.normal(0, 1e-4, 48000),
        speech[:160],
        speech[:1600],
        np.sign(speech),
        np.repeat(speech[8000:8640], 100),
        random.uniform(-1, 1, 16),
        speech[::-1],
    ):
        yield {"speech": value, "sampling_rate": 16000}, ANSWERED


def files(folder: Path) -> Iterator[Call]:  # longer than 60 lines: a table of calls
    speech, wav = spoken(), encoded(spoken())
    for kind, subtype in (
        ("WAV", "PCM_16"),
        ("WAV", "PCM_24"),
        ("WAV", "FLOAT"),
        ("WAV", "ULAW"),
        ("WAVEX", "PCM_16"),
        ("FLAC", "PCM_16"),
        ("OGG", "VORBIS"),
        ("OGG", "OPUS"),
        ("MP3", "MPEG_LAYER_III"),
        ("AIFF", "PCM_16"),
        ("AU", "PCM_16"),
        ("RF64", "PCM_16"),
        ("CAF", "PCM_16"),
        ("W64", "PCM_16"),
    ):
        yield {"speech": encoded(speech, kind=kind, subtype=subtype)}, SPOKEN
        (path := folder / f"x.{kind}.{subtype}").write_bytes(encoded(speech, kind=kind, subtype=subtype))
        yield {"speech": str(path)}, SPOKEN
    (folder / "wrong.txt").write_bytes(wav)
    yield {"speech": folder / "wrong.txt"}, SPOKEN  # the name says nothing
    yield {"speech": encoded(np.stack([speech, speech], axis=1), 48000)}, ANSWERED  # three times too fast
    webm = b"\x1aE\xdf\xa3\x9fB\x86\x81\x01" + bytes(500)
    m4a = b"\0\0\0 ftypM4A \0\0\0\0" + bytes(500)
    for content in (
        b"",
        b"\0",
        b"x" * 1000,
        b"<html>404</html>",
        webm,
        m4a,
        b"RIFF",
        wav[:20],
        wav[:43],
        wav[:44],
        wav[:5000],
        wav[:-2],
        b"ID3" + bytes(99),
        wav[:24] + struct.pack("<I", 5) + wav[28:],
        encoded(speech, kind="FLAC")[:9000],
        encoded(np.zeros((0, 1))),
    ):
        yield {"speech": content}, REFUSED
    for path in (
        "",
        "nowhere.wav",
        "/proc",
        str(folder),
        "a\0b",
        "n" * 5000,
        "~",
        "file://x.wav",
        "http://x/y.wav",
        ".",
        Path("/dev/null/x"),
        Path("nowhere"),
        "\U0001f600.wav",
        "-",
    ):
        yield {"speech": path}, REFUSED
    yield {"speech": wav, "sampling_rate": 16000}, REFUSED
    for value in (
        None,
        5,
        5.0,
        object(),
        {"a": 1},
        bytearray(wav),
        memoryview(wav),
        {1, 2},
        (spoken(),),
        (16000, speech),
        (speech, None),
        (speech, 16000, 1),
        ("x", 16000),
        [5],
        [None],
        [[1.0, 2.0]],
        [0.1] * 5,
        AudioPaLM,
        True,
    ):
        yield {"speech": value}, REFUSED


def settings() -> Iterator[Call]:
    speech = {"speech": (spoken(), 16000)}
    for task in (
        "",
        "x",
        "[ASR]",
        "[ASR Klingon]",
        "[ASR Welsh]",
        "[ASR Spanish English]",
        "[S2ST Spanish]",
        "[asr spanish]",
        "[ASR \U0001f600]",
        "[" * 999,
        "ASR " * 9999,
        None,
        5,
        [],
        "[LM Spanish]",
        "[AST Spanish Spanish]",
        "[ASR Spannish]",
        "\n",
        "[MT English Spanish]",
        MT,
        TTS,
    ):
        yield {**speech, "task": task}, REFUSED
    for seed in (-1, 2**31, 1.5, "0", None, True):
        yield {**speech, "seed": seed}, REFUSED
    for nbest in (0, -1, 65, 1.5, "2", None, True):
        yield {**speech, "nbest": nbest}, REFUSED
    for decoding in (
        {"beam": 0},
        {"beam": 10**9},
        {"beams": 2},
        {"text_tokens": "many"},
        {"text_temperature": -1},
        5,
        "beam=2",
        {"text_temperature": float("nan")},
        [],
        {"rescore": True},
        {5: 5},
    ):
        yield {**speech, "decoding": decoding, "task": AST}, REFUSED
    for voice in (
        "nowhere.wav",
        5,
        b"",
        np.zeros(9),
        (np.zeros(48000), 16000),
        (sine(3), 16000),
        (spoken(), 0),
        [],
        [None] * 2,
        (np.full(999, np.nan), 16000),
    ):
        yield {**speech, "task": AST, "voice": voice}, REFUSED
    yield {**speech, "task": ASR, "text": "uno"}, REFUSED
    yield {"speech": []}, ANSWERED


def texts() -> Iterator[Call]:
    for text in (
        "",
        " ",
        "\n\t",
        "uno " * 2500,
        "x" * 10_000,
        5,
        5.0,
        b"uno",
        ["uno", 5],
        [["uno"]],
        ("uno",),
        {"a": 1},
    ):
        yield {"text": text, "task": MT}, REFUSED
    for text in (
        "uno",
        "\U0001f600\U0001f600",
        "uno\ndos",
        "uno\0dos",
        "\ud800",
        "[ASR Spanish]",
        "<eos>",
        "¡¿UNO!?",
        "日本語",
        "a" * 900,
        "\u202euno",
        "e\u0301",
        "<0x0A>",
        " uno  dos ",
    ):
        yield {"text": text, "task": MT}, ANSWERED
        yield {"text": text, "task": TTS, "voice": (spoken(), 16000)}, ANSWERED
    yield {"text": "one", "task": TTS}, REFUSED
    yield {"speech": "uno", "task": MT}, REFUSED
    yield {"task": MT}, REFUSED
    yield {"text": "uno", "task": ASR}, REFUSED


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    return make_pack(tmp_path_factory.mktemp("pack") / "pack")


@pytest.fixture(scope="module")
def model(packed):
    return AudioPaLM.from_pretrained(packed)


def ending(call: Callable[[], Any]) -> Any:
    """The answer, or the line of the error; anything else that a call raises fails the test."""
    try:
        return call()
    except AudioPaLMError as error:
        line = str(error)
        assert line and "\n" not in line and len(line) < 20_000
        return line


def check(model: AudioPaLM, arguments: dict[str, Any], expected: str, units: int) -> None:
    answer = ending(lambda: model(**{"task": ASR, "decoding": SHORT, **arguments}))
    if expected == REFUSED:
        assert isinstance(answer, str), "it was answered"
    elif expected == SILENT:
        assert isinstance(answer, Answer) and not answer.segments and not any(answer.text.values()), answer
    elif expected == SPOKEN:
        assert isinstance(answer, Answer) and len(answer.units) == pytest.approx(units, abs=12), answer


def test_hostile_calls(model, tmp_path):
    units = len(model(spoken(), ASR, 16000, decoding=SHORT).units)
    calls = [*arrays(), *files(tmp_path), *settings(), *texts()]
    assert len(calls) >= 150
    failures = []
    for number, (arguments, expected) in enumerate(calls):
        try:
            check(model, arguments, expected, units)
        except Exception as error:  # named with the call, and the others are still made
            failures.append(f"{number} {expected} {str(arguments)[:150]}: {type(error).__name__} {str(error)[:150]}")
    assert not failures, "\n".join([f"{len(failures)} of {len(calls)}", *failures])


def test_an_hour_of_silence_with_one_sentence(model):
    hour = np.zeros(3600 * 16000, dtype=np.int16)
    hour[50 * 60 * 16000 :][:48000] = (spoken() * 32767).astype(np.int16)
    answer = model(hour, ASR, 16000, decoding=SHORT)
    assert len(answer.segments) == 1 and 2999 < answer.segments[0].start < 3001 and answer.segments[0].end < 3004


@pytest.mark.parametrize(
    "source", ["nowhere", "user/nowhere/x", "", "\0", 5, "/proc", "/dev/null", b"x", "x.zip", ".."]
)
def test_what_is_no_model(source, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("AUDIOPALM_CACHE", str(tmp_path / "cache"))
    assert isinstance(ending(lambda: AudioPaLM.from_pretrained(source)), str)


def test_models_that_cannot_be_opened(packed, tmp_path, monkeypatch):
    monkeypatch.setattr("audiopalm.inference.SHIPPED", tmp_path / "absent")
    assert "no model is named" in ending(AudioPaLM.from_pretrained)
    for device in ("gpu", "cuda:99", "cuda", 5.5, "meta:7x", ""):
        if device != "cuda" or not torch.cuda.is_available():
            assert "cannot be used" in ending(lambda device=device: AudioPaLM.from_pretrained(packed, device=device))
    for dtype in ("int8", "float", None, torch.float32, ""):
        assert "dtype" in ending(lambda dtype=dtype: AudioPaLM.from_pretrained(packed, dtype=dtype))
    (tmp_path / "x.zip").write_bytes(b"PK\3\4" + bytes(99))
    monkeypatch.setenv("AUDIOPALM_CACHE", str(tmp_path / "cache"))
    assert isinstance(ending(lambda: AudioPaLM.from_pretrained(tmp_path / "x.zip")), str)


def test_a_damaged_pack(packed, tmp_path):
    files = {
        path.relative_to(packed).as_posix(): {"sha256": sha256(path), "bytes": path.stat().st_size}
        for path in packed.rglob("*")
        if path.is_file()
    }
    write_json(packed / MANIFEST, {"files": files})
    weights = packed / "lm" / "model.safetensors"
    content = weights.read_bytes()
    try:
        for damage in (content[:-1], content[:-1] + bytes([content[-1] ^ 1]), b"", content[1:]):
            weights.write_bytes(damage)
            assert "lm/model.safetensors" in ending(lambda: AudioPaLM.from_pretrained(packed))
    finally:
        weights.write_bytes(content)
        (packed / MANIFEST).unlink()


@pytest.mark.parametrize("out", ["/proc/y.wav", "y.mp3", ".", "/dev/null/y.wav", "n" * 300 + ".wav"])
def test_outputs_that_cannot_be_written(packed, tmp_path, monkeypatch, out):
    soundfile.write(tmp_path / "x.wav", spoken(), 16000)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["infer", "x.wav", "--task", AST, "--out", out, "--model", str(packed)])
    assert isinstance(ending(infer.main), str) and [path.name for path in tmp_path.iterdir()] == ["x.wav"]
