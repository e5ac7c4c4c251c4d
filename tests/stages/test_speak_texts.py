"""Parallel texts read and spoken, by a command and by a packed model."""

import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
from packed import make_pack, spoken, tone
from prestarted import run_python
from waiting import wait_until

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.processes import start_time
from audiopalm.corpora.parallel_text import prepare
from audiopalm.data.datadir import read_table
from audiopalm.inference import spoken_by_model
from audiopalm.stages.speak_texts import Saying

PAIRS = {"Uno.": "One.", "-- $(exit 3) {out}": 'Two "{lang}".', "Tres.": "Three."}
SCRIPT = """#!/bin/sh
echo "$2 $1" >> "$0.said"
case "$1" in Tres.) echo "no voice" >&2; exit 4 ;; esac
cp "$(dirname "$0")/tone.wav" "$3"
"""


@pytest.fixture
def texts(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.es-en.es").write_text("\n".join(PAIRS) + "\n")
    (folder / "a.es-en.en").write_text("\n".join(PAIRS.values()) + "\n")
    (folder / "b.es-en.tsv").write_bytes(b"Cuatro.\tFour.\nno tab\n\tempty\n\xff\tbytes\n" + 1001 * b"x" + b"\tlong\n")
    return folder


def test_pairs_of_texts_are_kept_or_counted_as_dropped(texts, tmp_path):
    report = prepare(texts, tmp_path / "mt")
    assert report == {"kept": 4, "dropped": {"an empty or a long text": 2, "not two columns": 1, "not UTF-8": 1}}
    assert read_table(tmp_path / "mt/dev/text") == {"mt-es-en-a-000000000": "Uno.", "mt-es-en-b-000000000": "Cuatro."}
    assert list(read_table(tmp_path / "mt/train/text.en").values()) == list(PAIRS.values())[1:]
    (texts / "a.es-en.en").write_text("One.\n")
    with pytest.raises(AudioPaLMError, match="have different numbers of lines"):
        prepare(texts, tmp_path / "mt")


def test_a_command_speaks_the_texts_that_are_not_spoken_yet(texts, tmp_path):
    prepare(texts, tmp_path / "mt")
    tone(tmp_path / "tone.wav")
    script = tmp_path / "say.sh"
    script.write_text(SCRIPT)
    script.chmod(0o755)

    def speak(*more: str) -> subprocess.CompletedProcess:
        return run_python("-m", "audiopalm.bin.speak_texts", "--input", tmp_path / "mt", "--output",
                          tmp_path / "spoken", "--command", f"{script} {{text}} {{lang}} {{out}}", *more)

    result = speak()
    assert result.returncode == 1 and "1 of 8 texts could not be spoken" in result.stderr
    assert "'Tres.' in es" in result.stderr and "exit code 4, no voice" in result.stderr
    said = Path(f"{script}.said")
    assert sorted(said.read_text().splitlines())[:4] == ["en Four.", "en One.", "en Three.", 'en Two "{lang}".']
    assert speak("--max_drop", "0.2").returncode == 0
    assert len(said.read_text().splitlines()) == 9  # the text that failed is tried once more
    spoken = tmp_path / "spoken/train"
    assert read_table(spoken / "text") == {"mt-es-en-a-000000001": "-- $(exit 3) {out}"}
    assert read_table(spoken / "wav.scp").keys() == read_table(spoken / "wav.scp.en").keys() == {"mt-es-en-a-000000001"}


def test_a_second_run_is_refused_and_a_killed_run_leaves_no_command(texts, tmp_path):
    prepare(texts, tmp_path / "mt")
    script = tmp_path / "say.sh"
    script.write_text('#!/bin/sh\necho $$ > "$0.pid.new"; mv "$0.pid.new" "$0.pid"; exec sleep 600\n')
    script.chmod(0o755)
    words = ["-m", "audiopalm.bin.speak_texts", "--input", tmp_path / "mt", "--output", tmp_path / "spoken",
             "--command", f"{script} {{text}} {{out}}", "--nj", "1"]
    first = subprocess.Popen([sys.executable, *words], stderr=subprocess.PIPE, text=True)
    pid = Path(f"{script}.pid")
    wait_until(pid.exists, first)
    second = run_python(*words)
    assert second.returncode == 1
    assert f"spoken is being written by process {first.pid} on " in second.stderr.splitlines()[-1]
    first.kill()
    first.wait()
    first.stderr.close()
    wait_until(lambda: start_time(int(pid.read_text())) is None)


def test_a_packed_model_speaks_the_languages_it_was_trained_on(tmp_path):
    soundfile.write(tmp_path / "voice.wav", spoken(), 16000)
    speak = spoken_by_model(str(make_pack(tmp_path / "pack")), str(tmp_path / "voice.wav"))
    assert speak(Saying("uno dos", "es", tmp_path / "a.wav")) == ""
    assert soundfile.info(tmp_path / "a.wav").frames > 0
    assert "not trained on French" in speak(Saying("un deux", "fr", tmp_path / "b.wav"))
    assert not (tmp_path / "b.wav").exists()
