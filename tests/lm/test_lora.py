"""`lora:` of stage 8: only adapters and audio rows are trained, and the result is an ordinary model."""

import json
import sys

import pytest
import torch
from commands import call, check
from lm_commands import Prepared
from prestarted import run_python
from safetensors.torch import load_file
from trainings import write_killed

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.optional import load_peft
from audiopalm.core.tensors import in_memory
from audiopalm.lm.initial import InitialModel, text_lm
from audiopalm.lm.loading import load_decoder
from audiopalm.lm.lora import LAYERS, AdapterConfig, adapted, merged
from audiopalm.lm.model import Decoder, ModelConfig
from audiopalm.lm.storage import extended
from audiopalm.vocabulary.joint import load_vocabulary

SETTINGS = ["lora.rank=4", "lora.dropout=0.1", "optimizer.learning_rate=1e-2", "training.steps=6",
            "training.save_every=2", "training.validate_every=6", "training.log_every=1", "training.micro_batches=2"]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, digit_sets):
    return Prepared(tmp_path_factory.mktemp("prepared"), digit_sets)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, prepared):
    """The folder of `lm`, a training in one process without interruption."""
    folder = tmp_path_factory.mktemp("whole")
    call(*prepared.train_lm, "--output", folder / "lm", *SETTINGS)
    return folder


def train(prepared, output, *overrides, program=("-m", "audiopalm.bin.train_lm"), processes: int = 1):
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    return run_python(*(launcher if processes > 1 else []), *program, *prepared.train_lm[1:], "--output", output,
                      *SETTINGS, *overrides, OMP_NUM_THREADS="1")


def losses(output) -> list[float]:
    return [json.loads(line)["loss"] for line in (output / "log.jsonl").read_text().splitlines()]


def test_text_rows_and_norms_stay_bit_for_bit(prepared, whole):
    vocabulary, _ = load_vocabulary(prepared.path / "vocabulary")
    before, after = (load_file(folder / "model.safetensors") for folder in (prepared.path / "textlm", whole / "lm"))
    assert before.keys() == after.keys()
    for name, value in before.items():
        if name == "embedding.weight":
            assert torch.equal(after[name][:vocabulary.text_size], value)
            assert after[name][vocabulary.text_size:].any(dim=1).sum() > 5 and len(after[name]) == vocabulary.size
        else:
            assert torch.equal(after[name], value) == ("norm" in name), name


@pytest.mark.usefixtures("prestarted_jobs")
def test_the_model_is_read_by_the_command_that_decodes(prepared, whole):
    vocabulary, _ = load_vocabulary(prepared.path / "vocabulary")
    assert type(load_decoder(whole / "lm", vocabulary, "")) is Decoder
    call(*prepared.decode(whole))
    assert list((whole / "decode").rglob("text"))


def test_a_killed_training_goes_on_exactly_from_a_small_checkpoint(tmp_path, prepared, whole, caplog):
    output = tmp_path / "lm"
    assert train(prepared, output, program=[write_killed(tmp_path, "train_lm", 5)]).returncode != 0
    shard, = (output / "checkpoint").glob("*.safetensors")
    tensors = load_file(shard)
    names = {name for name in tensors if name.startswith("model/")}
    assert "model/embedding.audio" in names
    assert all(".lora_" in name for name in names - {"model/embedding.audio"}) and len(names) == 2 * 2 * len(LAYERS) + 1
    weights = sum(tensors[name].numel() for name in names)
    assert 12 * weights < shard.stat().st_size < 12 * weights + 40_000  # with two moments each, and the header
    caplog.set_level("INFO")
    call(*prepared.train_lm, "--output", output, *SETTINGS)
    assert "going on from step 4" in caplog.text
    assert losses(output) == losses(whole / "lm")
    assert (output / "model.safetensors").read_bytes() == (whole / "lm/model.safetensors").read_bytes()


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_have_the_losses_of_one(tmp_path, prepared, whole, strategy):
    check(train(prepared, tmp_path / "lm", f"training.strategy={strategy}", processes=2))
    assert losses(tmp_path / "lm") == pytest.approx(losses(whole / "lm"), rel=2e-5)
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (whole / "lm", tmp_path / "lm"))
    assert ours.keys() == theirs.keys()
    vocabulary, _ = load_vocabulary(prepared.path / "vocabulary")
    text = slice(vocabulary.text_size)
    assert torch.equal(ours["embedding.weight"][text], theirs["embedding.weight"][text])


@pytest.mark.parametrize("tied", [True, False])
def test_adapters_change_nothing_at_first_and_merge_as_peft_merges(tied):
    """Before training text ids have the same logits bit for bit. Afterwards merged and adapted model agree."""
    config = ModelConfig(30, dim=32, layers=2, heads=4, kv_heads=2, hidden_dim=64, tied=tied, qkv_bias=True)
    first = text_lm(config).make()
    for name, parameter in first.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter)
    stored = {name: in_memory(value) for name, value in first.state_dict().items()}
    longer, stored = extended(config, stored, 12)
    with torch.device("meta"):
        base = InitialModel(Decoder(longer), stored)
    lora = AdapterConfig(rank=4, alpha=6.0)
    model = adapted(base, lora, 30).make().eval()
    ids = torch.randint(0, 30, (2, 9))
    inputs = torch.arange(9).expand(2, -1), torch.ones(9, 9, dtype=torch.bool).tril().expand(2, 1, -1, -1)
    with torch.no_grad():
        assert torch.equal(model.logits(model.hidden(ids, *inputs))[..., :30], first.logits(first.hidden(ids, *inputs)))
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.1)
        trained = {name: in_memory(parameter) for name, parameter in model.named_parameters()
                   if parameter.requires_grad}
        ordinary = Decoder(longer).eval()
        ordinary.load_state_dict({name: tensor.whole() for name, tensor in merged(stored, trained, lora).items()})
        ids = torch.randint(0, 42, (2, 9))
        expected = model.logits(model.hidden(ids, *inputs))
        torch.testing.assert_close(ordinary.logits(ordinary.hidden(ids, *inputs)), expected, rtol=1e-4, atol=1e-4)
        for block, adapter in zip(ordinary.blocks, model.blocks, strict=True):
            adapter.mlp.down.merge()
            torch.testing.assert_close(block.mlp.down.weight, adapter.mlp.down.base_layer.weight)


def test_the_loss_of_adapters_falls_in_bfloat16(tmp_path, prepared):
    call(*prepared.train_lm, "--output", tmp_path / "lm", *SETTINGS, "training.precision=bf16-mixed", "recompute=true",
         "lora.target=[query, value]")
    first, *_, last = losses(tmp_path / "lm")
    assert last < first


@pytest.mark.parametrize("settings, message", [
    (["lora.ranks=4"], "lora: unknown key 'ranks'; did you mean 'rank'?"),
    (["lora.target=[querry]"], "lora: target.*unknown value 'querry'; did you mean 'query'?"),
    (["lora.target=[]"], "lora: target: no layer is given; they are query, "),
    (["lora={}", "optimizer.name=muon"], "lora: optimizer.name muon .*; give adamw or adafactor")])
def test_wrong_settings_are_one_line(tmp_path, prepared, settings, message):
    with pytest.raises(AudioPaLMError, match=message):
        call(*prepared.train_lm, "--output", tmp_path / "lm", *settings)
    assert not (tmp_path / "lm").exists()


def test_a_model_from_nothing_is_refused(tmp_path, prepared):
    with pytest.raises(AudioPaLMError, match="lora: adapters need an LM .*; give --init_lm"):
        call(*prepared.train_text, "--output", tmp_path / "lm", "lora={}")
    assert not (tmp_path / "lm").exists()


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(AudioPaLMError, match="lora: adapters need the package peft, which is not installed: pip "):
        load_peft()
