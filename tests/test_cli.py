"""The console script `audiopalm`: its commands with a tiny random model; wrong input is one line and exit code 2."""

import io
import json
import os
import subprocess
import sys

import pytest
import soundfile
from packed import make_pack, spoken
from prestarted import run_python

from audiopalm import cli
from audiopalm.core import hub
from audiopalm.inference import AudioPaLM


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    return str(make_pack(tmp_path_factory.mktemp("pack")))


@pytest.fixture
def command(packed, capsys, monkeypatch):
    """A function that runs the command in this process: (exit code, lines of stdout, lines of stderr)."""
    loaded = {}

    def load(source, device="cpu"):
        if source not in loaded:
            loaded[source] = real(source, device)
        return loaded[source]

    real = AudioPaLM.from_pretrained
    monkeypatch.setattr(AudioPaLM, "from_pretrained", load)
    # The random model answers up to its limits.
    short = ["--model", packed, "--decoding", "text_tokens=5", "--decoding", "audio_tokens=9"]

    def run(*arguments, model=True):
        with pytest.raises(SystemExit) as ended:
            cli.main([*map(str, arguments), *(short if model else [])])
        out, err = capsys.readouterr()
        return ended.value.code, out.splitlines(), err.splitlines()

    return run


def speech(path, seconds=2.0):
    """A recording of the embedded corpus."""
    soundfile.write(path, spoken(seconds), 16000)
    return path


def shell(*arguments):
    return run_python("-m", "audiopalm.cli", *arguments)


def test_translate_writes_texts_and_speech(command, tmp_path):
    code, out, _ = command("translate", speech(tmp_path / "x.wav"), "--from", "es", "--to", "English", "-o",
                           tmp_path / "y.wav")
    assert code == 0 and out[0].startswith("Spanish: ") and out[1].startswith("English: ")
    assert out[2].startswith(f"{tmp_path / 'y.wav'}: ") and soundfile.info(tmp_path / "y.wav").samplerate == 16000
    code, out, _ = command("translate", tmp_path / "x.wav", "--from", "Spanish", "--to", "en")
    assert code == 0 and [line.split(":")[0] for line in out] == ["Spanish", "English"]
    code, out, _ = command("translate", "uno dos", "--text", "--from", "es", "--to", "en")
    assert code == 0 and out[0].startswith("English: ")


def test_a_folder_has_the_answers_of_its_recordings(command, tmp_path):
    for name, seconds in (("a.wav", 2.0), ("b.flac", 3.0)):
        speech(tmp_path / name, seconds)
    (tmp_path / "c.txt").write_text("no recording")
    code, out, err = command("transcribe", tmp_path, "--from", "es", "--json")
    rows = [json.loads(line) for line in out]
    assert (code, err) == (0, [])
    assert [row["input"] for row in rows] == [str(tmp_path / "a.wav"), str(tmp_path / "b.flac")]
    single = json.loads(command("transcribe", tmp_path / "b.flac", "--from", "es", "--json")[1][0])
    assert single["text"] == rows[1]["text"] and single["task"] == "[ASR Spanish]" and single["segments"]
    code, out, _ = command("translate", tmp_path, "--from", "es", "--to", "en", "-o", tmp_path / "out")
    assert code == 0 and sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.wav", "b.wav"]


def test_a_bad_file_is_named_and_the_others_are_answered(command, tmp_path):
    (tmp_path / "bad.wav").write_bytes(b"<html>")
    code, out, err = command("transcribe", speech(tmp_path / "a.wav"), tmp_path / "bad.wav", "--from", "es")
    assert code == 2 and len(out) == 1 and out[0].startswith(str(tmp_path / "a.wav"))
    err = [line for line in err if "warning: " not in line]
    assert len(err) == 2 and "bad.wav" in err[0] and err[1] == "audiopalm: 1 of 2 inputs could not be answered"


def test_each_answer_is_printed_once_where_nobody_speaks_in_a_recording(command, tmp_path):
    soundfile.write(tmp_path / "b.wav", [0.0] * 16000, 16000)
    names = [speech(tmp_path / "a.wav"), tmp_path / "b.wav", speech(tmp_path / "c.wav")]
    code, out, err = command("transcribe", *names, "--from", "es", "--json")
    assert code == 2 and [json.loads(line)["input"] for line in out] == [str(names[0]), str(names[2])]
    assert sum("nobody speaks" in line for line in err) == 1


def test_a_recording_that_is_read_is_never_overwritten(command, tmp_path):
    recording = speech(tmp_path / "x.wav")
    before = recording.read_bytes()
    for arguments in (["translate", recording, "--from", "es", "--to", "en", "-o", recording],
                      ["translate", tmp_path, "--from", "es", "--to", "en", "-o", tmp_path],
                      ["speak", "one", "--voice", recording, "-o", recording]):
        code, _, err = command(*arguments)
        assert code == 2 and "is a recording that is read, and would be overwritten; name another file" in err[-1]
    assert recording.read_bytes() == before


def test_standard_input_may_be_a_recording_or_texts(command, tmp_path, monkeypatch):
    recording = speech(tmp_path / "x.wav").read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(recording)))
    code, out, _ = command("transcribe", "-", "--from", "es", "--srt")
    assert code == 0 and out[0] == "1" and " --> " in out[1]
    monkeypatch.setattr(sys, "stdin", io.StringIO("one\ntwo\n"))
    code, out, _ = command("speak", "-", "--voice", tmp_path / "x.wav", "-o", tmp_path / "z.flac")
    assert code == 0 and out[-1].startswith(str(tmp_path / "z.flac")) and soundfile.info(tmp_path / "z.flac").frames


def test_info_states_languages_and_tasks(command, packed):
    code, out, _ = command("info", "--model", packed, "--json", model=False)
    assert code == 0 and json.loads(out[0])["languages"] == ["en", "es"]
    code, out, _ = command("info", "--model", packed, model=False)
    assert code == 0 and out[0] == "languages: English, Spanish" and "task: [ASR Spanish]" in out


def test_upload_hands_folder_id_and_privacy_to_the_hub(command, monkeypatch):
    monkeypatch.setattr(hub, "upload_pack", lambda folder, repo_id, private: f"{folder} {repo_id} {private}")
    assert command("upload", "pack", "me/model", "--private", model=False)[1] == ["pack me/model True"]


@pytest.mark.parametrize("arguments, message", [
    (["transcribe", "nowhere.wav", "--from", "es"], "does not exist"),
    (["transcribe", "{dir}/empty", "--from", "es"], "holds no recordings"),
    (["translate", "{dir}/x.wav", "--to", "Spannish"], "did you mean 'Spanish'"),
    (["translate", "{dir}/x.wav", "--from", "es", "--to", "cy"], "not trained on Welsh"),
    (["translate", "{dir}/x.wav", "--to", "cy"], "required: --from"),
    (["translate", "{dir}/x.wav", "--to", "en", "-o", "{dir}/y.mp3", "--from", "es"], ".wav"),
    (["translate", "{dir}/x.wav", "{dir}/x.wav", "{dir}/z.wav", "--to", "en", "-o", "{dir}/y.wav", "--from", "es"],
     "name a folder"),
    (["translate", "hola", "--text", "--to", "en"], "--from"),
    (["speak", "one"], "--voice"),
    (["speak", "one", "--voice", "nowhere.wav", "-o", "{dir}/y.wav"], "nowhere.wav"),
    (["speak", " ", "--voice", "{dir}/x.wav", "-o", "{dir}/y.wav"], "needs a text"),
    (["transcribe", "{dir}/x.wav", "--from", "es", "--seed", "-1"], "seed"),
    (["transcribe", "{dir}/x.wav", "--json", "--srt", "--from", "es"], "exclude each other"),
    (["transcribe", "{dir}/x.wav", "--decoding", "beem=3", "--from", "es"], "did you mean"),
    (["sing"], "invalid choice"),
    ([], "required"),
])
def test_wrong_input_is_one_line_and_exit_code_2(command, tmp_path, arguments, message):
    speech(tmp_path / "x.wav")
    speech(tmp_path / "z.wav")
    (tmp_path / "empty").mkdir()
    code, out, err = command(*(argument.format(dir=tmp_path) for argument in arguments), model=bool(arguments))
    assert code == 2 and out == [] and len(err) == 1 and message in err[0], (out, err)
    assert not (tmp_path / "y.wav").exists()


def test_a_missing_model_is_one_line(command, tmp_path):
    code, _, err = command("info", "--model", tmp_path / "none", model=False)
    assert code == 2 and len(err) == 1


def test_help_and_version_import_nothing_heavy():
    for option, first_line in (("--help", "usage: audiopalm "), ("--version", "audiopalm ")):
        program = (f"import sys, audiopalm.cli as cli\ntry: cli.main([{option!r}])\n"
                   "except SystemExit: print({'numpy', 'torch', 'tqdm', 'yaml'} & set(sys.modules))")
        result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        assert result.stdout.startswith(first_line) and result.stdout.splitlines()[-1] == "set()"


def test_stages_are_listed_and_have_their_own_help():
    listed = shell("stage").stdout
    assert {path.stem for path in (cli.Path(cli.__file__).parent / "bin").glob("[!_]*.py")} <= set(listed.split())
    result = shell("stage", "tables", "--help")
    assert result.returncode == 0 and result.stdout.startswith("usage: audiopalm stage tables")
    result = shell("stage", "decodee")
    assert result.returncode == 2 and "did you mean 'decode'" in result.stderr and result.stderr.count("\n") == 1


@pytest.mark.parametrize(("given", "expected"), [({}, "1000 None"), ({"GOMP_SPINCOUNT": "5"}, "5 None"),
                                                 ({"OMP_WAIT_POLICY": "PASSIVE"}, "None PASSIVE")])
def test_waiting_threads_sleep_unless_the_user_says_otherwise(given, expected):
    script = ("import os, sys, audiopalm.cli as cli\n"
              "try: cli.main(['--version'])\n"
              "except SystemExit: pass\n"
              "print(os.environ.get('GOMP_SPINCOUNT'), os.environ.get('OMP_WAIT_POLICY'), 'torch' in sys.modules)")
    environment = {key: value for key, value in os.environ.items() if key not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    result = subprocess.run([sys.executable, "-c", script], env=environment | given, text=True, capture_output=True)
    assert result.stdout.splitlines()[-1] == f"{expected} False", result.stderr  # set before torch reads it
