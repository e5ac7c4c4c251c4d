"""Our files as ESPnet reads them: data directories, token archives, and a task by ESPnet's dataset and samplers."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from stage2 import format_set

from audiopalm.core.errors import AudioPaLMError
from audiopalm.data.archive import TokenArchive
from audiopalm.data.datadir import read_table, write_table
from audiopalm.data.example_set import ExampleSet
from audiopalm.lm.sequences import SequenceBuilder
from audiopalm.tasks import get_task
from audiopalm.vocabulary.joint import load_vocabulary, make_vocabulary
from audiopalm.vocabulary.text import train_tokenizer

if importlib.util.find_spec("espnet2") is None:
    pytest.skip("espnet is not installed", allow_module_level=True)

from audiopalm.espnet.data import MixtureIterFactory, TaskPreprocessor, collate_sequences
from audiopalm.espnet.task import AudioPaLMTask
from audiopalm.lm.mixture import Mixture, MixtureEntry

UTILS = Path(__file__).resolve().parents[2] / "utils"


@pytest.fixture(scope="module")
def builder(tmp_path_factory):
    """A builder with a vocabulary for the digit sets, in the folder `directory`."""
    directory = tmp_path_factory.mktemp("vocabulary")
    train_tokenizer(["uno dos tres cuatro", "one two three four", "[ASR AST Spanish English]"] * 20,
                    directory / "text.model", 300)
    make_vocabulary(directory, 12, "units of the test", ["en", "es"])
    made = SequenceBuilder(*load_vocabulary(directory))
    made.directory = directory
    return made


def triplets(data, tokens):
    return [(str(tokens / "units.scp"), "audio", "kaldi_ark"), (str(data / "text"), "transcript", "text"),
            (str(data / "utt2lang"), "utt2lang", "text")]


def test_audio_and_texts_of_stage_2_open_in_espnet(tmp_path):
    from espnet2.train.dataset import ESPnetDataset

    samples = {f"anna-{n}": np.sin(np.arange(8000 + 800 * n) / 9).astype(np.float32) / 3 for n in range(3)}
    for utterance, wave in samples.items():
        soundfile.write(tmp_path / f"{utterance}.wav", wave, 16000)
    data = tmp_path / "data" / "train"
    for name, value in (("text", "uno dos"), ("utt2lang", "es"), ("utt2spk", "anna")):
        write_table(data / name, dict.fromkeys(samples, value))
    write_table(data / "wav.scp", {utterance: str(tmp_path / f"{utterance}.wav") for utterance in samples})
    write_table(data / "spk2utt", {"anna": " ".join(samples)})
    raw = tmp_path / "raw" / "train"
    format_set(data, raw, tmp_path / "audio")
    done = subprocess.run([str(UTILS / "validate_data_dir.sh"), "--no-feats", str(raw)], capture_output=True, text=True,
                          env={**os.environ, "AUDIOPALM_PYTHON": sys.executable})
    assert done.returncode == 0, done.stderr

    dataset = ESPnetDataset([(str(raw / "wav.scp"), "speech", "sound"), (str(raw / "text"), "text", "text")],
                            preprocess=lambda uid, data: {**data, "text": np.array([len(data["text"])])})
    for utterance, wave in samples.items():
        values = dataset[utterance][1]
        assert np.abs(values["speech"] - wave).max() < 1e-4 and values["text"].tolist() == [len("uno dos")]


def test_token_archives_are_read_by_kaldiio_and_omniio(digit_sets):
    import kaldiio

    scp = digit_sets[1] / "units.scp"
    ours = TokenArchive(scp)
    readers = [kaldiio]
    if importlib.util.find_spec("omniio") is not None:
        from omniio import kaldi
        readers.append(kaldi)
    for reader in readers:
        theirs = reader.load_scp(str(scp))
        assert set(theirs) == set(ours) and len(ours) > 100
        assert all(theirs[name].dtype == np.int32 and (theirs[name] == ours[name]).all() for name in ours)


def test_the_dataset_of_espnet_gives_our_sequences(digit_sets, builder):
    from espnet2.train.dataset import ESPnetDataset

    data, tokens = digit_sets[:2]
    task, examples = get_task("asr"), ExampleSet(data, tokens)
    names = examples.utterances(task.fields(), "es", None)[:3]
    dataset = ESPnetDataset(triplets(data, tokens), preprocess=TaskPreprocessor(True, builder, task, None))
    utterances, batch = collate_sequences([dataset[name] for name in names])
    assert utterances == names
    for row, name in enumerate(names):
        sequence = builder.sequence(task, examples.example(name, task.fields(), None))
        length = int(batch["ids_lengths"][row])
        assert batch["ids"][row, :length].tolist() == sequence.ids.tolist()
        assert (batch["targets"][row, :length - 1] != -100).tolist() == sequence.is_output[1:].tolist()
        assert not batch["segments"][row, length:].any() and batch["segments"][row, :length].all()

    dataset = ESPnetDataset(triplets(data, tokens), preprocess=TaskPreprocessor(True, builder, get_task("ast"), "en"))
    with pytest.raises(AudioPaLMError, match="needs data of the name 'translation', there are audio, transcript"):
        dataset[names[0]]


def test_espnet_trains_a_task_with_its_own_samplers(digit_sets, builder, tmp_path):
    train, dev = triplets(*digit_sets[:2]), triplets(*digit_sets[2:])
    options = ["--vocabulary", builder.directory, "--task", "asr", "--iterator_type", "sequence", "--num_workers", 0,
               "--decoder_conf", "{dim: 32, layers: 1, hidden_dim: 32}", "--use_matplotlib", "false",
               "--use_tensorboard", "false"]
    for name, group in (("train", train), ("valid", dev)):
        for triplet in group:
            options += [f"--{name}_data_path_and_name_and_type", ",".join(triplet)]
    AudioPaLMTask.main(cmd=[str(option) for option in [*options, "--collect_stats", "true", "--output_dir",
                                                       tmp_path / "stats"]])
    shapes = {name: tmp_path / "stats" / name / "ids_shape" for name in ("train", "valid")}
    lengths = {name: int(value) for name, value in read_table(shapes["train"]).items()}
    task, examples = get_task("asr"), ExampleSet(*digit_sets[:2])
    assert len(lengths) == 300 and len(set(lengths.values())) > 4
    name = max(lengths, key=lengths.get)
    assert lengths[name] == len(builder.sequence(task, examples.example(name, task.fields(), None)).ids)

    for name, path in shapes.items():
        options += [f"--{name}_shape_file", path]
    AudioPaLMTask.main(cmd=[str(option) for option in [
        *options, "--batch_type", "numel", "--batch_bins", 512, "--max_epoch", 2, "--optim_conf", "lr=0.01",
        "--output_dir", tmp_path / "exp"]])
    # ESPnet 202511 puts objects of its own into this file; here it was written a moment ago.
    stats = torch.load(tmp_path / "exp" / "checkpoint.pth", weights_only=False)["reporter"]["stats"]
    assert stats[2]["valid"]["loss"] < 0.8 * stats[1]["train"]["loss"]
    config = yaml.safe_load((tmp_path / "exp" / "config.yaml").read_text())
    assert [(row["task"], row["source"]) for row in config["trained"]] == [("asr", "en"), ("asr", "es")]


def test_epochs_of_a_mixture_are_consecutive_parts_of_its_batches(digit_sets, builder):
    """Also after a resume, when the earlier ones were not drawn, and divided among processes."""
    def factory(rank=0, world_size=1, iterations=30):
        mixture = Mixture([MixtureEntry("asr")], ExampleSet(*digit_sets[:2]), builder, 64, 40, 0)
        return MixtureIterFactory(mixture, iterations, 0, rank, world_size)

    def names(batches):
        return [utterances for utterances, _ in batches]

    expected = [batch.utterances for batch, _ in zip(factory().mixture.batches(), range(90), strict=False)]
    iterators = factory()
    assert [name for epoch in (1, 2, 3) for name in names(iterators.build_iter(epoch))] == expected
    assert names(iterators.build_iter(1)) == expected[:30] and names(factory().build_iter(3)) == expected[60:]
    first, second = (names(factory(rank, 2, 15).build_iter(2)) for rank in (0, 1))
    assert [name for pair in zip(first, second, strict=True) for name in pair] == expected[30:60]
