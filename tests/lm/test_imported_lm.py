"""A text LM of someone else through stages 6, 7, 8 and out again, by the real commands."""

import json
import subprocess

import pytest
import torch
from commands import call
from prestarted import run_python
from tokenizer_json import byte_level

from audiopalm.core.errors import AudioPaLMError
from audiopalm.lm.generation.config import DecodingConfig
from audiopalm.lm.generation.sampling import generate
from audiopalm.lm.huggingface.pretrained import write_pretrained
from audiopalm.lm.model import Decoder, ModelConfig
from audiopalm.lm.storage import load_model
from audiopalm.tasks import get_task
from audiopalm.vocabulary.joint import load_vocabulary

ROWS, EOS = 340, 1
CONFIG = """
mixture: [{task: asr}]
batch: {rows: 2, row_length: 128, validation_sequences: 2}
training: {steps: 6, log_every: 2, validate_every: 6, save_every: 6}
optimizer: {learning_rate: 1.0e-3, warmup_steps: 1}
audio_rows: normal
"""


def command(name: str, *args) -> subprocess.CompletedProcess:
    return run_python("-m", f"audiopalm.bin.{name}", *args)


def check(result: subprocess.CompletedProcess) -> None:
    assert result.returncode == 0, result.stderr


def failure(result: subprocess.CompletedProcess) -> str:
    """The one line of a command that fails."""
    lines = [line for line in result.stderr.splitlines() if "error:" in line]
    assert result.returncode == 1 and len(lines) == 1 and "Traceback" not in result.stderr, result.stderr
    return lines[0]


@pytest.fixture
def someones_lm(tmp_path):
    """A Gemma 2: window, soft caps and scaled embeddings have to survive the whole way."""
    torch.manual_seed(0)
    model = Decoder(ModelConfig(
        ROWS, dim=32, layers=2, heads=4, kv_heads=2, hidden_dim=48, head_dim=12, activation="gelu_tanh",
        scale_embedding=True, post_norms=True, attention_divisor=20, attention_cap=5.0, logit_cap=4.0, window=9,
        local_layers=[0], family="gemma2"))
    write_pretrained(model, tmp_path / "lm", EOS)
    byte_level(tmp_path / "lm" / "tokenizer.json")
    return tmp_path / "lm"


def test_from_stage_6_to_the_export(tmp_path, digit_sets, someones_lm):
    data, tokens, dev_data, dev_tokens = digit_sets
    layout = tmp_path / "vocabulary"
    make = ["make_vocabulary", "--data_dir", data, "--tokens", tokens, "--output", layout]
    check(command(*make))
    check(command(*make, "--init_lm", someones_lm))
    assert sorted(path.name for path in layout.iterdir()) == ["tokenizer.json", "vocabulary.json"]
    check(command("import_lm", "--init_lm", someones_lm, "--vocabulary", layout, "--output", tmp_path / "textlm"))
    (tmp_path / "lm.yaml").write_text(CONFIG)
    check(command("train_lm", "--config", tmp_path / "lm.yaml", "--vocabulary", layout,
                  "--init_lm", tmp_path / "textlm", "--data_dir", data, "--tokens", tokens,
                  "--dev_data_dir", dev_data, "--dev_tokens", dev_tokens,
                  "--output", tmp_path / "finetuned"))
    export = ["export", "--lm", tmp_path / "finetuned", "--vocabulary", layout, "--output", tmp_path / "export"]
    check(command(*export))
    check(command(*export))  # an earlier export is replaced
    assert "is not an export" in failure(command(*export[:-1], tmp_path / "textlm"))

    vocabulary, tokenizer = load_vocabulary(layout)
    model = load_model(tmp_path / "finetuned", vocabulary, "stage 8")
    assert vocabulary.size == ROWS + 12 and model.config.family == "gemma2"
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "export").eval()
    prompt = [*tokenizer.encode("[ASR Spanish]"), ROWS, ROWS + 5, ROWS + 11, vocabulary.newline]
    ours = generate(model, [torch.tensor(prompt).numpy()], get_task("asr"), vocabulary,
                    DecodingConfig(text_tokens=15))[0].parts[0]
    forbidden = [vocabulary.newline, *range(ROWS, ROWS + 12)]  # the grammar of the task
    answer = theirs.generate(torch.tensor([prompt]), max_new_tokens=15, suppress_tokens=forbidden)[0, len(prompt):]
    assert [token for token in answer.tolist() if token != EOS] == ours.tolist() and len(ours) > 0
    assert theirs.generation_config.eos_token_id == EOS
    mapped = transformers.AutoTokenizer.from_pretrained(tmp_path / "export")
    assert mapped.encode("[ASR Spanish]<audio_0><audio_5><audio_11>\n") == prompt


def test_another_lm_than_that_of_stage_6_is_refused(tmp_path, digit_sets, someones_lm):
    data, tokens, _, _ = digit_sets
    layout = tmp_path / "vocabulary"
    check(command("make_vocabulary", "--data_dir", data, "--tokens", tokens, "--output", layout))
    message = failure(command("import_lm", "--init_lm", someones_lm, "--vocabulary", layout, "--output",
                              tmp_path / "textlm"))
    assert "run stage 6 (vocabulary) with the same --init_lm" in message and not (tmp_path / "textlm").exists()


def test_only_the_first_layers_or_only_the_shape_are_imported(tmp_path, digit_sets, someones_lm):
    data, tokens, _, _ = digit_sets
    layout = tmp_path / "vocabulary"
    call("make_vocabulary", "--data_dir", data, "--tokens", tokens, "--output", layout, "--init_lm", someones_lm)
    models = {}
    for name, options in (("whole", ()), ("one", ("--layers", 1)), ("drawn", ("--random",)),
                          ("other", ("--random", "--seed", 1)), ("small", ("--layers", 1, "--random"))):
        call("import_lm", "--init_lm", someones_lm, "--vocabulary", layout, "--output", tmp_path / name, *options)
        models[name] = load_model(tmp_path / name, load_vocabulary(layout)[0], "stage 7")
    weights = {name: model.state_dict() for name, model in models.items()}
    assert models["one"].config.layers == 1 and models["one"].config.local_layers == [0]
    assert weights["one"].keys() < weights["whole"].keys() == weights["drawn"].keys()
    assert all(torch.equal(weight, weights["whole"][key]) for key, weight in weights["one"].items())
    assert weights["small"].keys() == weights["one"].keys()
    for name in ("whole", "other"):
        assert not torch.equal(weights["drawn"]["embedding.weight"], weights[name]["embedding.weight"])
    with pytest.raises(AudioPaLMError, match="the text LM has 2 layers; cannot take 3"):
        call("import_lm", "--init_lm", someones_lm, "--vocabulary", layout, "--output", tmp_path / "x", "--layers", 3)


@pytest.mark.parametrize("settings, message", [
    ({"model_type": "gemma"}, "model_type 'gemma' cannot be read; did you mean 'gemma2'?"),
    ({"eos_token_id": None}, "has no eos_token_id"),
])
def test_stage_6_refuses_what_stage_7_could_not_read(tmp_path, digit_sets, someones_lm, settings, message):
    data, tokens, _, _ = digit_sets
    file = someones_lm / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))
    assert message in failure(command("make_vocabulary", "--data_dir", data, "--tokens", tokens, "--output",
                                      tmp_path / "vocabulary", "--init_lm", someones_lm))
