"""The functions of the web page, with a tiny random model."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import soundfile
from packed import make_pack, spoken

gradio = pytest.importorskip("gradio", reason="the web page needs gradio: pip install 'audiopalm[demo]'")

from audiopalm import demo  # noqa: E402
from audiopalm.inference import AudioPaLM  # noqa: E402
from audiopalm.lm.generation.config import DecodingConfig  # noqa: E402


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    model = AudioPaLM.from_pretrained(make_pack(tmp_path_factory.mktemp("pack")))
    model.decoding = DecodingConfig(text_tokens=5, audio_tokens=9)  # the random model answers up to its limits
    return model


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    path = tmp_path_factory.mktemp("recordings") / "speech.wav"
    soundfile.write(path, spoken(2.0), 16000)
    return str(path)


def test_menus_offer_the_tasks_and_languages_of_the_model(model):
    menus = demo.Menus(model)
    assert {name for _, name in menus.tasks} == {name for name in demo.TASKS if name != "lm"}
    assert menus.sources("mt") == [("Spanish", "es")] and menus.targets("mt", "es") == [("English", "en")]
    assert menus.targets("asr", "es") == [] and len({label for label, _ in menus.tasks}) == len(menus.tasks)


def test_answers_are_those_of_the_model(model, recording):
    asr, ast, player, heard, said, notes = demo.Answering(model)("asr+ast+s2st", "es", "en", recording, "", None)
    direct = model(recording, "[ASR AST S2ST Spanish English]")
    assert (asr["value"], ast["value"]) == (direct.text["asr"], direct.text["ast"])
    assert (asr["label"], ast["label"]) == ("Spanish", "English")
    assert player["value"][0] == 16000 and len(player["value"][1]) == len(direct.audio)
    assert heard["visible"] and said["visible"] and "of computing" in notes


def test_the_voice_of_another_task_is_not_used(model, recording, tmp_path):
    """The page hides it when a task with speech is chosen, and sends it all the same."""
    soundfile.write(tmp_path / "long.wav", [0.0] * 16000 * 61, 16000)
    answer = demo.Answering(model)
    own, other = (answer("s2st", "es", "en", recording, "", voice) for voice in (None, str(tmp_path / "long.wav")))
    players = [next(value["value"] for value in values if isinstance(value, dict) and isinstance(value["value"], tuple))
               for values in (own, other)]
    assert players[0][1].tolist() == players[1][1].tolist()


def test_a_wrong_input_is_a_message_on_the_page(model, recording, tmp_path):
    answer = demo.Answering(model)
    (tmp_path / "bad.wav").write_bytes(b"<html>")
    soundfile.write(tmp_path / "long.wav", [0.0] * 16000 * 61, 16000)
    for arguments, message in (
        (("asr", "es", None, None, "", None), "give a recording"),
        (("asr", "es", None, str(tmp_path / "bad.wav"), "", None), "cannot be decoded"),
        (("asr", "es", None, str(tmp_path / "long.wav"), "", None), "lasts 61 s, the page takes 60 s"),
        (("tts", "es", None, None, "uno", None), "recording of the voice"),
        (("tts", "es", None, None, "uno", str(tmp_path / "long.wav")), "lasts 61 s, the page takes 60 s"),
        (("mt", "es", "en", None, " ", None), "needs a text"),
        (("mt", "es", "en", None, "a" * 501, None), "501 characters"),
        (("mt", "en", "es", None, "one", None), "not trained on"),
    ):
        with pytest.raises(gradio.Error, match=message):
            answer(*arguments)


def test_two_threads_each_have_their_own_answer(model, recording):
    answer = demo.Answering(model)
    with ThreadPoolExecutor(2) as pool:
        spanish, english = pool.map(lambda code: answer("asr", code, None, recording, "", None)[0], ("es", "en"))
    assert spanish["value"] == model(recording, "[ASR Spanish]").text["asr"]
    assert english["value"] == model(recording, "[ASR English]").text["asr"]
