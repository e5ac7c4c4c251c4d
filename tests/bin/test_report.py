"""The page of stage 13: every link leads to a file, every text is there, nothing is taken as markup."""

import json
import re
import sys

import pytest
from scoring_data import Parrot, write_set

from audiopalm.bin import report, score
from audiopalm.errors import AudioPaLMError
from audiopalm.scoring import judge, voice


@pytest.fixture
def page(tmp_path, monkeypatch):
    monkeypatch.setitem(judge.JUDGES, "parrot", Parrot)
    monkeypatch.setattr(judge, "_judges", {})
    monkeypatch.setattr(voice.Voices, "_one", lambda self, file: voice.np.ones(2, dtype="float32"))
    (tmp_path / "mini").mkdir()
    root = write_set(tmp_path / "mini")
    monkeypatch.chdir(root)
    log = root / "exp/lm/log.jsonl"
    log.parent.mkdir()
    lines = [json.dumps({"step": step, "loss": 5 / step}) for step in (1, 2, 3)]
    log.write_text("\n".join([*lines, '{"step": 4, "lo']))  # the last one half written
    (root / "exp/decode/test/asr_es/asr").write_text("ana-es-a <b>dos\nana-es-b cuatro\nluis-es-a\n")
    monkeypatch.setattr(sys, "argv", ["score", "--decode_dir", "exp/decode", "--data_dir", "dump/raw", "--output",
                                      "exp/score", "--judges", "parrot", "--processes", "1"])
    score.main()
    monkeypatch.setattr(sys, "argv", ["report", "--output", "exp/report"])
    report.main()
    return root / "exp/report/index.html"


def test_page_is_whole(page):
    text = page.read_text(encoding="utf-8")
    links = re.findall(r'src="([^"]+)"', text)
    assert links and all((page.parent / link).stat().st_size > 44 for link in links)
    assert not any(link.startswith(("/", "http")) for link in links)
    assert any(link.endswith("loss_lm.svg") for link in links)
    assert sum(link.endswith(".png") for link in links) == 2  # spectrograms of two speech translations
    assert "&lt;b&gt;dos" in text and "<b>dos" not in text
    assert "tengo tres" in text and "four five" in text


def test_page_before_the_scores(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["report", "--output", "exp/report"])
    with pytest.raises(AudioPaLMError, match=r"run stage 12 \(score\) first"):
        report.main()
    assert not (tmp_path / "exp/report").exists()
