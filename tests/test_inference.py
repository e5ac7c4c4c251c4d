"""The packed model by its class and its command, with tiny random models of all real kinds and a real speaker."""

import io
import json
import pickle
import shutil
import subprocess
import sys
import unicodedata
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import soundfile
import torch
from commands import command
from packed import make_pack, spoken, tone

from audiopalm import AudioPaLM
from audiopalm.answer import Segment, faded, join
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import sha256, write_json
from audiopalm.core.manifest import MANIFEST
from audiopalm.data.audio import read_audio
from audiopalm.lm.generation.config import DecodingConfig
from audiopalm.stages.pack import zip_folder

ALL = "[ASR AST S2ST Spanish English]"
SHORT = {"text_tokens": 6, "audio_tokens": 12}


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    return make_pack(tmp_path_factory.mktemp("pack") / "pack")


@pytest.fixture(scope="module")
def model(packed):
    return AudioPaLM.from_pretrained(packed)


def contents(answer):
    return (answer.text, None if answer.audio is None else answer.audio.tolist(), answer.units.tolist(),
            answer.truncated, answer.nbest)


def test_a_call_answers_with_text_and_speech_of_its_task(model, tmp_path):
    soundfile.write(wav := tmp_path / "x.wav", spoken(), 16000)
    combined = model(wav, task=ALL)
    assert set(combined.text) == {"asr", "ast"} and combined.audio.dtype == np.float32
    assert len(combined.audio) % 640 == 0 and np.abs(combined.audio).max() <= 1.5
    assert combined.sampling_rate == 16000 and len(combined.units) > 20 and combined.truncated
    assert list(combined.seconds) == ["input", "units", "lm", "acoustic", "codec"]
    assert min(combined.seconds.values()) > 0
    assert combined.segments[0].mean_scores.keys() == {"asr", "ast", "s2st"} and combined.confidence is None
    assert model(wav, task="[ASR Spanish]").audio is None
    assert set(model(text="uno dos", task="[MT Spanish English]").text) == {"mt"}
    lines = model(text=" uno\n dos\n", task="[MT Spanish English]")  # a newline would end the input
    assert lines.text == model(text="uno dos", task="[MT Spanish English]").text
    said = model(text="one two", task="[TTS English]", voice=wav)
    again = model(text="one two", task="[TTS English]", voice=(spoken(), 16000))
    assert said.audio is not None and np.abs(said.audio - again.audio).max() < 0.02  # the file has 16 bits


def test_the_same_speech_in_every_form_has_the_same_units(model, tmp_path):
    samples = spoken()
    expected = model(samples, "[ASR Spanish]", sampling_rate=16000)
    assert len(expected.units) > 20
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, 16000, format="WAV", subtype="FLOAT")
    (path := tmp_path / "x.wav").write_bytes(buffer.getvalue())
    same = [path, str(path), buffer.getvalue(), (samples, 16000), (samples.astype(np.float64), 16000.0),
            (torch.from_numpy(samples), 16000), (torch.from_numpy(samples)[None], np.int64(16000)),
            (np.stack([samples, samples], axis=1), 16000)]
    for speech in same:
        assert model(speech, "[ASR Spanish]").units.tolist() == expected.units.tolist(), type(speech)
    whole = (samples * 32768).round()
    close = [(whole.astype(np.int16), 16000), (torch.from_numpy(whole).short(), 16000),
             (whole.astype(np.float32), 16000), ((samples * 2.0 ** 31).astype(np.int32), 16000),
             (samples * 0.05, 16000), (samples + 0.1, 16000)]
    for speech in close:
        units = model(speech, "[ASR Spanish]").units
        assert len(units) == len(expected.units) and np.mean(units == expected.units) > 0.9
    at_48 = np.interp(np.arange(len(samples) * 3) / 3, np.arange(len(samples)), samples)
    assert abs(len(model(at_48, "[ASR Spanish]", 48000).units) - len(expected.units)) <= 2


def test_48_khz_stereo_is_the_same_recording(tmp_path):
    mono = read_audio(tone(tmp_path / "a.wav"))
    stereo = read_audio(tone(tmp_path / "b.wav", rate=48000, channels=2))
    assert len(mono) == len(stereo) and np.abs(mono - stereo)[100:-100].max() < 1e-3


@pytest.mark.parametrize("decoding", [SHORT, {**SHORT, "audio_temperature": 1.0}, DecodingConfig(6, 12, beam=3)])
def test_inputs_of_a_list_have_the_answers_of_single_calls(model, decoding):
    inputs = [(spoken(2.5, start), 16000) for start in (0, 3, 30, 50)] + [(np.zeros(16000), 16000),
                                                                          (spoken(20.0, 5), 16000)]
    together = model(inputs, ALL, decoding=decoding)
    assert [contents(answer) for answer in together] == [
        contents(model(speech, ALL, decoding=decoding)) for speech in inputs]
    assert len({tuple(answer.units) for answer in together}) == len(inputs)
    texts = ["uno", "dos tres"]
    both = model(text=texts, task="[TTS Spanish]", voice=[(spoken(), 16000), (spoken(3.0, 30), 16000)],
                 decoding=SHORT)
    assert len(both) == 2 and model([], "[ASR Spanish]") == []
    assert contents(both[1]) == contents(model(text="dos tres", task="[TTS Spanish]", voice=(spoken(3.0, 30), 16000),
                                               decoding=SHORT))


def test_a_call_takes_nbest_decoding_settings_and_a_seed(model):
    speech = spoken()
    answer = model(speech, "[ASR Spanish]", 16000, nbest=3, decoding={"text_tokens": 4})
    scores = [score for _, score in answer.nbest]
    assert len(scores) == 3 and answer.nbest[0][0] == answer.text and len({text["asr"] for text, _ in answer.nbest}) > 1
    wide = model(speech, "[ASR Spanish]", 16000, decoding={"text_tokens": 4, "beam": 3})
    assert wide.text == answer.text and len(wide.nbest) == 1
    drawn = [model(speech, "[ASR Spanish]", 16000, decoding={**SHORT, "text_temperature": 2.0}, seed=seed).text
             for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_voice_may_be_an_array_with_a_rate_and_numbers_may_be_those_of_numpy(model):
    wav = spoken()
    pair = model(text="one two", task="[TTS English]", voice=(wav, 16000))
    array = model(text="one two", task="[TTS English]", voice=wav, sampling_rate=16000, seed=np.int64(0),
                  nbest=np.int64(1))
    assert contents(pair) == contents(array) and pair != array
    with pytest.raises(AudioPaLMError, match=r"speech is a list of numbers; give its samples as one array"):
        model([0.1, 0.2], "[ASR Spanish]", 16000)
    composed, apart = "dólares", unicodedata.normalize("NFD", "dólares")
    assert composed != apart
    assert model(text=composed, task="[MT Spanish English]").text == model(text=apart, task="[MT Spanish English]").text


def test_a_copy_in_another_process_has_the_same_answers(model):
    copied = pickle.loads(pickle.dumps(model))
    wav = spoken()
    assert contents(copied(wav, "[ASR Spanish]", 16000)) == contents(model(wav, "[ASR Spanish]", 16000))


def test_subtitles_have_the_segments_with_words():
    segments = [Segment(start, start + 1.0, {"asr": text}, nbest=[({"asr": text}, 0.0)])
                for start, text in ((0.0, "one"), (1.0, ""), (2.0, "two"))]
    srt = join(segments, ["asr"], False, 1).to_srt()
    assert srt == ("1\n00:00:00,000 --> 00:00:01,000\none\n\n2\n00:00:02,000 --> 00:00:03,000\ntwo\n")
    with pytest.raises(AudioPaLMError, match="the answer to a text has no times"):
        join([Segment(0.0, 0.0, {"mt": "one"}, nbest=[({"mt": "one"}, 0.0)])], ["mt"], False, 1).to_srt()


def test_silence_has_an_empty_answer(model):
    answer = model(np.zeros(48000, dtype=np.int16), ALL, sampling_rate=16000)
    assert answer.text == {"asr": "", "ast": ""} and len(answer.audio) == 0 and answer.segments == []
    assert answer.to_srt() == "" and list(model.stream(np.zeros(100), ALL, 16000)) == []


def test_long_audio_is_answered_in_segments_that_can_be_streamed(model):
    sound = np.concatenate([spoken(25.0), np.zeros(16000, dtype=np.float32), spoken(6.0, 40)])
    answer = model(sound, ALL, 16000, decoding=SHORT)
    segments = list(model.stream(sound, ALL, 16000, decoding=SHORT))
    assert len(segments) == len(answer.segments) >= 4
    for streamed, segment in zip(segments, answer.segments, strict=True):
        assert (streamed.start, streamed.end, streamed.text) == (segment.start, segment.end, segment.text)
        assert np.array_equal(streamed.audio, segment.audio) and 0 < streamed.end - streamed.start <= 12.0
    times = [time for segment in segments for time in (segment.start, segment.end)]
    assert times == sorted(times) and times[-1] <= len(sound) / 16000
    assert answer.text["ast"] == " ".join(filter(None, (segment.text["ast"] for segment in segments)))
    entries = answer.to_srt("asr").split("\n\n")
    assert len(entries) == len(segments) and entries[0].startswith("1\n00:00:00,") and " --> " in entries[0]
    written = json.loads(answer.to_json())
    assert written["segments"][1]["text"] == segments[1].text and written["units"] == answer.units.tolist()
    with pytest.raises(AudioPaLMError, match="no part 'mt'"):
        answer.to_srt("mt")


def test_joined_speech_has_no_clicks():
    loud = faded(np.ones(1600, dtype=np.float32))
    assert loud[0] == 0 and loud[-1] == 0 and loud[800] == 1 and np.abs(np.diff(loud)).max() < 0.02
    segments = [Segment(start, start + 1.0, {"asr": "a"}, loud, nbest=[({"asr": "a"}, -1.0), ({"asr": "b"}, -2.0)])
                for start in (0.0, 1.25, 9.0)]
    answer = join(segments, ["asr"], True, 3)
    assert len(answer.audio) == 3 * 1600 + 4000 + 8000 and np.abs(np.diff(answer.audio)).max() < 0.02
    assert answer.nbest[0] == ({"asr": "a a a"}, -3.0) and [score for _, score in answer.nbest] == [-3.0, -4.0, -4.0]


def test_threads_have_the_answers_of_single_calls(model):
    inputs = [(spoken(2.0, start), 16000) for start in (0, 4, 8, 30, 34, 50)]
    expected = [contents(model(speech, ALL, decoding=SHORT)) for speech in inputs]
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(lambda speech: contents(model(speech, ALL, decoding=SHORT)), inputs)) == expected


def test_a_zip_answers_as_its_folder_and_bfloat16_is_an_option(packed, model, tmp_path, monkeypatch):
    monkeypatch.setenv("AUDIOPALM_CACHE", str(tmp_path / "cache"))
    packed = shutil.copytree(packed, tmp_path / "pack")
    files = {path.relative_to(packed).as_posix(): {"sha256": sha256(path), "bytes": path.stat().st_size}
             for path in packed.rglob("*") if path.is_file()}
    write_json(packed / MANIFEST, {"files": files})
    archive = zip_folder(packed, tmp_path / "pack.zip")
    zipped = AudioPaLM.from_pretrained(archive)
    speech = (spoken(), 16000)
    assert contents(zipped(speech, ALL, decoding=SHORT)) == contents(model(speech, ALL, decoding=SHORT))
    half = AudioPaLM.from_pretrained(packed, dtype="bfloat16")
    assert half.lm.embedding.weight.dtype == torch.bfloat16 and len(half(speech, ALL, decoding=SHORT).audio)
    info = zipped.info()
    assert info["languages"] == ["en", "es"] and "[ASR Spanish]" in info["tasks"] and set(info["sha256"]) == {
        "lm", "units", "acoustic", "codec"}
    json.dumps(info)


def test_importing_the_package_does_not_import_torch():
    code = "import sys, audiopalm; assert 'torch' not in sys.modules; print(audiopalm.AudioPaLM.__name__)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "AudioPaLM\n"


def test_loading_a_model_imports_no_package_of_trainings(packed):
    """Each import takes a good part of a second; PyTorch's compiler, which imports sympy, takes two."""
    heavy = {"faiss", "lightning_fabric", "transformers", "pandas", "matplotlib", "sklearn", "jiwer", "sacrebleu",
             "torch._dynamo", "sympy"}
    code = f"import sys, audiopalm; audiopalm.AudioPaLM.from_pretrained({str(packed)!r}); " \
           f"print({heavy} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout == "set()\n", result.stderr


def test_the_command_prints_texts_and_writes_speech(packed, tmp_path):
    soundfile.write(wav := tmp_path / "x.wav", spoken(), 16000)
    result = command("infer", wav, "--task", ALL, "--out", out := tmp_path / "y.wav", "--model", packed)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("asr: ") and "\nast: " in result.stdout
    assert soundfile.info(out).samplerate == 16000


def test_an_error_of_the_command_is_one_line(packed, tmp_path):
    result = command("infer", tmp_path / "no.wav", "--task", "[ASR Spanish]", "--model", packed)
    assert result.returncode == 1 and "does not exist" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
