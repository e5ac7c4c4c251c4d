"""The web page in a headless browser. `audiopalm demo` serves a tiny random model from a process of its own.

No wait is endless: each has a timeout, `timeout` ends the server, and faulthandler ends a process of pytest that is
stuck in the driver of the browser, and prints where.
"""

import faulthandler
import os
import secrets
import select
import shutil
import socket
import subprocess
import sys
import time
from urllib.parse import urlparse

import pytest
import soundfile
from packed import make_pack, spoken
from safetensors.torch import load_file, save_file

pytest.importorskip("gradio", reason="no browser test: the web page needs gradio")
sync_api = pytest.importorskip("playwright.sync_api", reason="no browser test: playwright is not installed")

from audiopalm.inference import AudioPaLM  # noqa: E402
from audiopalm.languages import language_name  # noqa: E402
from audiopalm.tasks import AUDIO, TASKS  # noqa: E402
from audiopalm.vocabulary.joint import load_vocabulary  # noqa: E402

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
if BROWSER is None:
    pytest.skip("no browser test: neither chromium nor google-chrome is installed", allow_module_level=True)

START, WAIT, WHOLE = 300, 180, 1800  # seconds: of the server's start, of each wait in the page, of the file
HOST = "127.0.0.1"
TASK_LABELS = {
    "asr": "Speech to text", "ast": "Speech to translation", "s2st": "Speech to spoken translation",
    "asr+ast": "Speech to text, translation", "ast+s2st": "Speech to translation, spoken translation",
    "asr+ast+s2st": "Speech to text, translation, spoken translation", "mt": "Text to translation",
    "tts": "Text to speech",
}


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    """A pack with a random language model that writes words, because all other pieces have a logit of 0."""
    root = make_pack(tmp_path_factory.mktemp("pack"))
    vocabulary, tokenizer = load_vocabulary(root / "vocabulary")
    weights = load_file(root / "lm" / "model.safetensors")
    for piece in range(vocabulary.text_size):
        if not tokenizer.decode([piece]).isalnum():
            weights["embedding.weight"][piece] = 0
    save_file(weights, root / "lm" / "model.safetensors")
    return root


@pytest.fixture(scope="module")
def model(pack):
    """The same model in this process, which gives the answers that the page must show."""
    return AudioPaLM.from_pretrained(pack)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Two recordings of 2 s, with different words."""
    folder = tmp_path_factory.mktemp("recordings")
    for number in range(2):
        soundfile.write(folder / f"{number}.wav", spoken(2.0, 5.0 * number), 16000)
    return [str(folder / f"{number}.wav") for number in range(2)]


@pytest.fixture(scope="module")
def other_hosts():
    """A proxy that does not answer. Requests of the server to other hosts come here and can be counted."""
    with socket.create_server((HOST, 0)) as proxy:
        yield proxy


def free_port() -> int:
    """A port that no other program gets before the server starts: one below Linux's range of ephemeral ports."""
    while True:
        try:
            with socket.create_server((HOST, port := 10000 + secrets.randbelow(10000))):
                return port
        except OSError:
            continue


@pytest.fixture(scope="module")
def server(pack, other_hosts, tmp_path_factory):
    """(address, process, file with its output) of `audiopalm demo`."""
    port, log = free_port(), tmp_path_factory.mktemp("server") / "log"
    proxy = f"http://{HOST}:{other_hosts.getsockname()[1]}"
    environment = {**os.environ, "NO_PROXY": HOST} | {
        name: proxy for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")}
    command = [sys.executable, "-m", "audiopalm.cli", "demo", "--model", str(pack), "--host", HOST, "--port", str(port)]
    with open(log, "wb") as output:
        process = subprocess.Popen(["timeout", "-k", str(WAIT // 2), str(WHOLE), *command], env=environment,
                                   stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + START
        while "open http" not in log.read_text() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        assert f"open http://{HOST}:{port}/" in log.read_text(), f"no page after {START} s: {log.read_text()}"
        yield f"http://{HOST}:{port}/", process, log
    finally:
        process.terminate()
        try:
            process.wait(WAIT)
        except subprocess.TimeoutExpired:
            process.kill()


@pytest.fixture(scope="module")
def browser():
    faulthandler.dump_traceback_later(WHOLE, exit=True)
    try:
        with sync_api.sync_playwright() as playwright:
            options = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
            browser = playwright.chromium.launch(executable_path=BROWSER, args=options, timeout=START * 1000)
            yield browser
            browser.close()
    finally:
        faulthandler.cancel_dump_traceback_later()


@pytest.fixture
def visit(browser, server):
    """A function that opens the page as a new user. All requests of the pages must go to the server."""
    contexts, asked = [], set()

    def visit():
        contexts.append(browser.new_context())
        contexts[-1].on("request", lambda request: asked.add(urlparse(request.url)[:2]))
        page = contexts[-1].new_page()
        page.set_default_timeout(WAIT * 1000)
        page.goto(server[0], wait_until="domcontentloaded")  # never "networkidle": the page keeps a connection open
        page.get_by_role("button", name="Answer", exact=True).wait_for()
        return page

    yield visit
    for context in contexts:
        context.close()
    assert {scheme for scheme, _ in asked} <= {"http", "data", "blob"}
    assert {host for scheme, host in asked if scheme == "http"} == {urlparse(server[0]).netloc}


def choose(page, menu, label):
    page.get_by_label(menu, exact=True).click()
    page.get_by_role("option", name=label, exact=True).click()


def upload(page, path):
    """Upload into the only visible player without a recording."""
    empty = page.locator("input[type=file]")
    empty.set_input_files(path)
    empty.wait_for(state="detached")


def press(page):
    page.get_by_role("button", name="Answer", exact=True).click()


def wait_for_answer(page, answer, labels):
    """Wait until the page shows the texts of `answer` under `labels`, and a player if the answer has audio."""
    boxes = page.locator("label:has(textarea[disabled])")
    expected = [list(pair) for pair in zip(labels, answer.text.values(), strict=True)], answer.audio is not None
    deadline = time.monotonic() + WAIT
    while True:
        texts = boxes.evaluate_all("boxes => boxes.filter(box => box.offsetParent).map("
                                   "box => [box.querySelector('span').innerText.trim(), "
                                   "box.querySelector('textarea').value])")
        shown = texts, page.get_by_text("Spoken answer").is_visible()
        if shown == expected and page.get_by_text("s of computing").is_visible():
            return
        assert time.monotonic() < deadline, f"expected {expected}, the page shows {shown}"
        page.wait_for_timeout(100)


def test_the_page_shows_the_answer_of_the_model_for_each_task(visit, model, recordings):
    page = visit()
    upload(page, recordings[0])
    for name, label in TASK_LABELS.items():
        choose(page, "Task", label)
        row = TASKS[name]
        target = sync_api.expect(page.get_by_label("To", exact=True))  # the server adapts this menu to the task
        if row.translates:
            target.to_have_value("English", timeout=WAIT * 1000)
        else:
            target.to_be_hidden(timeout=WAIT * 1000)
        tag = row.tag_text("es", "en" if row.translates else None)
        if row.input == AUDIO:
            answer = model(recordings[0], tag)
        elif row.spoken:
            upload(page, recordings[1])
            answer = model(text="uno dos", task=tag, voice=recordings[1])
        else:
            page.get_by_label("Text", exact=True).fill("uno dos")
            answer = model(text="uno dos", task=tag)
        press(page)
        wait_for_answer(page, answer, [language_name(row.output(part).language("es", "en")) for part in answer.text])
    assert set(TASK_LABELS) == {trained.task for trained in model.facts.trained} - {"lm"}


def test_a_wrong_file_is_a_message_and_the_page_goes_on(visit, model, recordings, tmp_path):
    (tmp_path / "page.wav").write_bytes(b"<html>not found</html>")
    page = visit()
    upload(page, str(tmp_path / "page.wav"))
    press(page)
    page.get_by_text("cannot be decoded").first.wait_for()
    page.get_by_label("Clear").first.click()
    press(page)
    page.get_by_text("give a recording").first.wait_for()
    upload(page, recordings[0])
    press(page)
    wait_for_answer(page, model(recordings[0], "[ASR AST S2ST Spanish English]"), ["Spanish", "English"])


def test_two_users_at_once_each_have_their_own_answer(visit, model, recordings):
    pages = [visit(), visit()]
    choose(pages[1], "From", "English")
    sync_api.expect(pages[1].get_by_label("To", exact=True)).to_have_value("Spanish", timeout=WAIT * 1000)
    for page, recording in zip(pages, recordings, strict=True):
        upload(page, recording)
    for page in pages:
        press(page)
    tags = "[ASR AST S2ST Spanish English]", "[ASR AST S2ST English Spanish]"
    answers = [model(recording, tag) for recording, tag in zip(recordings, tags, strict=True)]
    assert all(answers[0].text[part] not in ("", answers[1].text[part]) for part in answers[0].text)
    wait_for_answer(pages[0], answers[0], ["Spanish", "English"])
    wait_for_answer(pages[1], answers[1], ["English", "Spanish"])


def test_the_server_asks_no_other_host_and_ends_while_a_page_is_open(visit, server, other_hosts):
    visit()
    _, process, log = server
    process.terminate()
    assert process.wait(WAIT) == 130
    lines = log.read_text().splitlines()
    assert lines[0].startswith("open http") and lines[-1] == "audiopalm: interrupted" and len(lines) == 2, lines
    assert select.select([other_hosts], [], [], 0)[0] == []
