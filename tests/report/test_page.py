"""The page of stage 13 is a single file. Its texts are aligned, and none of them is taken as markup."""

import base64
import json
import re
import shutil
import subprocess

import pytest
from commands import call
from scoring_data import replace_models, run_score, write_set
from waiting import LIMIT

from audiopalm.core.errors import AudioPaLMError
from audiopalm.report.listen import align


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    root = tmp_path_factory.mktemp("page") / "mini"
    root.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        replace_models(patch)
        patch.chdir(write_set(root))
        (root / "exp/lm").mkdir()
        lines = [json.dumps({"step": step, "loss": 5 / step, "dev": {"asr": 3.0, "loss": 3.0}}) for step in (1, 2, 3)]
        (root / "exp/lm/log.jsonl").write_text("\n".join([*lines, '{"step": 4, "lo']))  # the last one half written
        (root / "dump/raw/test/text").write_text("ana-es-a <b>tengo dos\nana-es-b cuatro cinco\nluis-es-a tengo tres\n")
        run_score(judges="parrot")
        (root / "exp/decode/test/asr_es/1best_recog").mkdir()
        (root / "exp/decode/test/asr_es/1best_recog/token_int").write_text("ana-es-a 5 6\n")
        # The model that decoded is absent: the page has everything but its attention.
        call("report", "--results", "exp/results.json", "--output", "exp/report", "--lm", "exp/lm", "--vocabulary",
             "exp/vocabulary", "--tokens", "dump/tokens")
    return root / "exp/report/index.html"


def data_of(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>',
                                page.read_text(encoding="utf-8"), re.S)[1])


def test_the_page_needs_no_other_file(page):
    text = page.read_text(encoding="utf-8")
    assert [path.name for path in page.parent.iterdir()] == ["index.html"]
    links = re.findall(r'(?:src|href)="([^"]+)"', text)
    assert links and all(link.startswith(("data:", "#")) for link in links)
    # losses, errors by length, BLEU of AST and ASR-BLEU by languages; a spectrogram
    assert [text.count(f"data:image/{kind}") for kind in ("svg", "png")] == [4, 1]
    assert "<b>tengo" not in text  # it stands in the data, escaped
    for sound in data_of(page)["sounds"]:
        assert len(sound["peaks"]) == 120 and base64.b64decode(sound["mp3"])[:1] == b"\xff"


def test_examples_have_their_words_and_errors(page):
    examples = {(example["task"], example["id"]): example for example in data_of(page)["examples"]}
    assert len(examples) == 4 * 3
    asr = examples["asr", "luis-es-a"]
    assert asr["parts"][0]["words"] == [["=", "tengo", "tengo"], ["s", "tres", "dos"]] and asr["error"] == 0.5
    speech = examples["asr+ast+s2st", "luis-es-a"]["parts"][2]
    assert speech["words"] == [["d", "i have 3", ""]] and speech["true_words"][-1] == ["s", "3", "2"]
    assert examples["s2st", "ana-es-a"]["text"] == "<b>tengo dos"


def test_words_are_aligned_and_their_error_is_the_word_error_rate():
    words, error = align("a b c d", "a x c d e", "en")
    assert words == [["=", "a", "a"], ["s", "b", "x"], ["=", "c d", "c d"], ["i", "", "e"]] and error == 0.5
    assert align("我们来", "我来", "zh") == ([["=", "我", "我"], ["d", "们", ""], ["=", "来", "来"]], 0.333)


def test_the_page_works_in_a_browser(page, tmp_path):
    """The script of the page fills the list. The page fits the width of a phone."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium on PATH (apt install chromium)")
    probe = tmp_path / "probe.html"
    script = """<script>
controls.elements.order.value = "worst"; controls.elements.task.value = "asr"; controls.oninput();
document.title = JSON.stringify([list.children.length, list.children[0].querySelector("small").textContent,
    list.querySelectorAll("canvas").length, document.documentElement.scrollWidth <= innerWidth, count.textContent]);
</script>"""
    probe.write_text(page.read_text(encoding="utf-8").replace("</body>", script + "</body>"), encoding="utf-8")
    done = subprocess.run([browser, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=500,900",
                           f"--user-data-dir={tmp_path}/profile", "--dump-dom", probe.as_uri()], capture_output=True,
                          text=True, timeout=LIMIT)
    assert json.loads(re.search("<title>(.*?)</title>", done.stdout)[1]) == [3, "luis-es-a", 3, True, "3 of 3"]


def test_a_page_before_the_scores_names_the_stage(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AudioPaLMError, match=r"run stage 12 \(score\) first"):
        call("report", "--results", "exp/results.json", "--output", "exp/report")
    assert not (tmp_path / "exp/report").exists()
