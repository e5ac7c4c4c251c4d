"""The index of a data set is made once, by one process. An old or damaged one, or one of moved files, is refused."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from commands import call, check
from one_line import said_in_one_line
from prestarted import run_python
from trainings import write_recordings, write_tokens

from audiopalm.acoustic.corpus import Corpus
from audiopalm.bin import train_lm
from audiopalm.core.errors import AudioPaLMError
from audiopalm.data import speech
from audiopalm.data.archive import TokenArchive
from audiopalm.data.columns import TableFile, read_columns
from audiopalm.data.datadir import read_table, remove_tables_by_language, write_table
from audiopalm.data.example_set import ExampleSet
from audiopalm.data.index import open_index
from audiopalm.data.speech import list_speech, open_speech
from audiopalm.lm.training import LMTraining

CONFIG = """
mixture: [{task: asr}, {task: mt}]
model: {dim: 16, layers: 1, heads: 2, kv_heads: 1, hidden_dim: 16}
batch: {rows: 1, row_length: 128}
training: {steps: 1}
"""


@pytest.fixture(scope="module")
def vocabulary(digit_sets, tmp_path_factory):
    root = tmp_path_factory.mktemp("vocabulary")
    (root / "lm.yaml").write_text(CONFIG)
    call("make_vocabulary", "--data_dir", digit_sets[0], "--tokens", digit_sets[1], "--output", root / "vocabulary",
         "text_size=300")
    return root


@pytest.fixture
def copied(digit_sets, tmp_path):
    """Copies of (data, tokens) without indices, whose scp files name the archives of the copy."""
    data, tokens = (Path(shutil.copytree(source, tmp_path / name, ignore=shutil.ignore_patterns("*.arrow")))
                    for source, name in zip(digit_sets[:2], ("data", "tokens"), strict=True))
    for scp in tokens.glob("*.scp"):
        scp.write_text(scp.read_text().replace(str(digit_sets[1]), str(tokens)))
    return data, tokens


@pytest.fixture
def training(copied, digit_sets, vocabulary, tmp_path):
    """The arguments of a training on the copies that shows its first batch and ends."""
    return ["--config", vocabulary / "lm.yaml", "--vocabulary", vocabulary / "vocabulary", "--data_dir", copied[0],
            "--tokens", copied[1], "--dev_data_dir", digit_sets[2], "--dev_tokens", digit_sets[3], "--output",
            tmp_path / "lm", "--show_batch"]


def shown(capsys, arguments) -> str:
    call("train_lm", *arguments)
    return capsys.readouterr().out


def test_columns_are_those_of_the_table(tmp_path):
    path = tmp_path / "text"
    for content in ("", "\n\n", "a b\r\nb\tc d \n \t\n  \nc\n", "b 1\na 2", "a", "ä ü\nz  x  \n", "b\nc x\na \n"):
        path.write_bytes(content.encode())
        table, columns = read_table(path), read_columns(path, convert=lambda ids, values: [values])
        assert dict(zip(columns.ids.to_pylist(), columns.converted[0].to_pylist(), strict=True)) == table
        assert columns.ids.to_pylist() == list(TableFile(path)) == sorted(table, key=str.encode)
        assert dict(TableFile(path)) == table and "aa" not in TableFile(path)
    for content, message in ((b"a x\nb y\na z\n", "text:3: id 'a' appears twice"), (b"a \xff\n", "line 1: byte 0xff")):
        path.write_bytes(content)
        with pytest.raises(AudioPaLMError, match=message):
            read_columns(path)


def test_a_table_shares_the_ids_of_another_where_they_are_equal(tmp_path):
    lines = [f"{number:06d} w{number}" for number in range(24_000)]  # more than one block
    path = tmp_path / "text"
    path.write_text("\n".join(lines) + "\n")
    known = TableFile(path)
    again = TableFile(path, "", known.columns.ids)
    assert again.columns.ids is known.columns.ids and again.other_ids(known) == []
    for changed in (lines[:22_000] + ["022000x w"] + lines[22_001:], lines[:-1], [*lines, "024000 w"], lines[1:],
                    lines[20_000:] + lines[:20_000]):
        path.write_text("\n".join(changed) + "\n")
        table, read = TableFile(path, "", known.columns.ids), read_table(path)
        assert list(table) == sorted(read) and all(table[name] == read[name] for name in [*read][::500])
        assert table.other_ids(known) == known.other_ids(table) == sorted(set(read) ^ set(known))


def test_a_text_of_an_unknown_utterance_is_refused(copied):
    data, _ = copied
    for name in ("text", "text.en"):
        table = read_table(data / name)
        write_table(data / name, table | {"anna": "one"})
        with pytest.raises(AudioPaLMError, match=f"utt2lang has no line for 'anna', which {name} has"):
            ExampleSet(data)
        write_table(data / name, table)


def test_examples_have_the_values_of_the_tables(copied):
    data, tokens = copied
    texts, translations = read_table(data / "text"), read_table(data / "text.en")
    units, spoken = TokenArchive(tokens / "units.scp"), TokenArchive(tokens / "units.en.scp")
    for saved in (False, True):
        examples = ExampleSet(data, tokens, saved=saved)
        names = examples.utterances({"audio", "translated_audio"}, "es", "en")
        assert names == sorted(name for name in texts if "-es-" in name)
        for name in names[::30]:
            fields = examples.example(name, {"audio", "transcript", "translation", "translated_audio"}, "en").fields
            assert fields["transcript"] == texts[name] and fields["translation"] == translations[name]
            assert fields["audio"].tolist() == units[name].tolist()
            assert fields["translated_audio"].tolist() == spoken[name].tolist()
    with pytest.raises(AudioPaLMError, match="has no utterance 'anna'"):
        examples.example("anna", {"transcript"}, None)


def test_a_part_of_the_utterances_is_read_from_the_tokens_of_all(copied, tmp_path):
    data, tokens = copied
    for name in ("text", "utt2lang", "utt2spk"):
        write_table(tmp_path / "part" / name, dict(list(read_table(data / name).items())[5:90:3]))
    ExampleSet(data, tokens, saved=True)
    examples = ExampleSet(tmp_path / "part", tokens, saved=True)
    units = TokenArchive(tokens / "units.scp")
    names = examples.utterances({"audio"}, "en", None)
    assert len(names) == 29
    assert all(examples.example(name, {"audio"}, None).fields["audio"].tolist() == units[name].tolist()
               for name in names)


def test_an_index_is_made_once_and_by_one_of_several_processes(copied):
    data, tokens = copied
    script = data.parent / "open.py"
    script.write_text("from audiopalm.data.example_set import ExampleSet\n"
                      f"examples = ExampleSet({str(data)!r}, {str(tokens)!r}, saved=True)\n"
                      "print(len(examples.rows({'audio'}, 'en', None)))")
    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(lambda _: run_python(script), range(3)))
    assert [result.stdout.strip() for result in results] == ["150"] * 3, [result.stderr for result in results]
    before = os.stat(data / "data_index.arrow").st_ino, os.stat(tokens / "token_index.arrow").st_ino
    open_index(data, tokens)
    assert before == (os.stat(data / "data_index.arrow").st_ino, os.stat(tokens / "token_index.arrow").st_ino)
    assert not list(data.glob(".*")) and not list(tokens.glob(".*"))


def test_a_training_makes_a_missing_index_and_refuses_an_old_one(training, copied, vocabulary, monkeypatch, capsys):
    data, tokens = copied
    first = shown(capsys, training)
    assert {path.name.split(".")[0] for folder in copied for path in folder.glob("*.arrow")} == {
        "data_index", "token_index", "text_lengths"}
    os.utime(data / "text")  # as after a copy: the content decides
    assert shown(capsys, training) == first

    changed = read_table(data / "text")
    write_table(data / "text", changed | {min(changed): "uno"})
    line = said_in_one_line(monkeypatch, capsys, train_lm.main, *training)
    remedy = f"python -m audiopalm.bin.make_index --data_dir {data} --tokens {tokens}"
    assert f"data_index.arrow is older than {data / 'text'}; run `{remedy}`" in line
    check(run_python(*remedy.split()[1:]))
    assert not list(data.glob("text_lengths.*"))  # the lengths of the old texts are gone
    shown(capsys, training)

    (tokens / "units.en.scp").unlink()
    assert "other tables" in said_in_one_line(monkeypatch, capsys, train_lm.main, *training)


def test_lengths_of_other_texts_or_of_another_tokenizer_are_refused(training, copied, monkeypatch, capsys):
    data, _ = copied
    shown(capsys, training)
    (path,) = data.glob("text_lengths.*")
    other = data / "text_lengths.0123456789abcdef.arrow"  # of another vocabulary
    shutil.copy(path, other)
    shown(capsys, training)
    write_table(data / "text", dict.fromkeys(read_table(data / "text"), "uno"))
    old = path.read_bytes()
    call("make_index", "--data_dir", data, "--tokens", copied[1])
    assert not other.exists()
    path.write_bytes(old)
    assert "is of other texts or of another tokenizer" in said_in_one_line(monkeypatch, capsys, train_lm.main,
                                                                           *training)


@pytest.mark.parametrize("name", ["data_index", "token_index", "text_lengths"])
@pytest.mark.parametrize("damage", [lambda content: b"", lambda content: content[:len(content) // 2],
                                    lambda content: b"x" * len(content), lambda content: content[:-20] + b"y" * 20])
def test_a_damaged_index_is_one_line(training, copied, monkeypatch, capsys, name, damage):
    shown(capsys, training)
    (path,) = [path for folder in copied for path in folder.glob(f"{name}*.arrow")]
    path.write_bytes(damage(path.read_bytes()))
    line = said_in_one_line(monkeypatch, capsys, train_lm.main, *training)
    assert f"{path} is damaged" in line and "audiopalm.bin.make_index" in line


def test_an_index_of_moved_or_replaced_archives_is_refused(training, copied, monkeypatch, capsys):
    data, tokens = copied
    first = shown(capsys, training)
    (tokens / "units.ark").rename(tokens / "moved.ark")
    line = said_in_one_line(monkeypatch, capsys, train_lm.main, *training)
    assert f"token archive {tokens / 'units.ark'}, which {tokens} refers to, does not exist" in line
    scp = tokens / "units.scp"
    scp.write_text(scp.read_text().replace("/units.ark:", "/moved.ark:"))
    assert "is older than" in said_in_one_line(monkeypatch, capsys, train_lm.main, *training)
    call("make_index", "--data_dir", data, "--tokens", tokens)
    assert shown(capsys, training) == first
    with open(tokens / "moved.ark", "ab") as ark:
        ark.write(b"more")
    assert "moved.ark; run" in said_in_one_line(monkeypatch, capsys, train_lm.main, *training)


def test_an_archive_that_was_rewritten_in_place_is_refused_when_it_is_read(copied):
    data, tokens = copied
    examples = ExampleSet(data, tokens, saved=True)
    name = examples.utterances({"audio"}, "en", None)[0]
    content = (tokens / "units.ark").read_bytes()
    (tokens / "units.ark").write_bytes(content.replace(b"\0B\4", b"\0B\5"))
    with pytest.raises(AudioPaLMError, match=f"units.scp: {name}: token archive .* has no int32 vector"):
        examples.example(name, {"audio"}, None)


def test_the_order_of_batches_does_not_depend_on_the_number_of_workers(training, copied, monkeypatch):
    """Through the command, with several batches a step."""
    config = copied[0].parent / "mt.yaml"
    config.write_text(CONFIG.replace("{task: asr}, ", ""))
    orders: dict[int, list[list[str]]] = {}
    step = LMTraining.step
    for workers in (0, 2):
        used = orders[workers] = []
        monkeypatch.setattr(LMTraining, "step", lambda self, batch, number, used=used: (
            used.append(batch.utterances) or step(self, batch, number)))
        arguments = [*training[:-1], "training.steps=2", "training.micro_batches=2", f"training.workers={workers}"]
        arguments[arguments.index("--config") + 1] = config
        arguments[arguments.index("--output") + 1] = copied[0].parent / f"lm{workers}"
        call("train_lm", *arguments)
    assert len(orders[0]) == 4 and orders[0] == orders[2]


def test_lengths_of_recordings_are_read_from_their_headers_once(tmp_path, monkeypatch):
    data = write_recordings(tmp_path / "speech", 6)
    first = open_speech(data)
    assert [(item.path, item.text, item.samples) for item in first] == [
        (item.path, item.text, item.samples) for item in list_speech(data)]
    monkeypatch.setattr(speech, "count_samples", lambda path: 1 / 0)
    again = open_speech(data)
    assert again.samples.tolist() == first.samples.tolist() and again[2:4][1] == first[3]
    assert again.characters() == "ab"
    assert [item.text for item in again.where(again.samples < 15000)] == [
        item.text for item in first if item.samples < 15000]
    write_table(data / "text", dict.fromkeys(read_table(data / "text"), "a"))
    with pytest.raises(AudioPaLMError, match="audio_index.arrow is older than .*text; remove"):
        open_speech(data)
    remove_tables_by_language(data)  # as stage 2 does
    with pytest.raises(ZeroDivisionError):
        open_speech(data)


def test_acoustic_batches_read_no_more_than_they_hold(tmp_path):
    tokens = write_tokens(tmp_path, 1)
    corpus = Corpus(tokens, tokens)
    assert corpus.set.bytes_read == 0 and len(corpus) == 30 and len(corpus.speakers) == 3
    corpus.draw(np.random.default_rng(0), voices=1, targets=1, prompt=5, target=5)
    assert 0 < corpus.set.bytes_read < 2 * 40 * (5 + 5 * 6 + 14)  # of a prompt and of a target
    assert {path.name for path in tokens.glob("*.arrow")} == {"data_index.arrow", "token_index.arrow"}
