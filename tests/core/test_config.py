"""Configuration files and overrides: values are read with their types, and every mistake is one line with its place."""

from dataclasses import dataclass, field

import pytest

from audiopalm.core.config import chosen, load_config, load_kind_config, ranged
from audiopalm.core.errors import AudioPaLMError


@dataclass
class Training:
    steps: int = ranged(10, low=1, high=1000)
    rate: float = ranged(1e-3, above=0)
    schedule: str = chosen("cosine", ("cosine", "linear"))
    layers: list[int] = ranged([1, 2], low=0)
    betas: tuple[float, float] = ranged((0.9, 0.99), low=0, high=1)
    weights: dict[str, float] = ranged({}, low=0)
    window: int | None = ranged(None, low=1)
    free: float = 0.0


@dataclass
class Config:
    kind: str = "one"
    training: Training = field(default_factory=Training)


@dataclass
class Other:
    kind: str = "two"
    size: int = 3


KINDS = {"one": Config, "two": Other}


def test_overrides_replace_values_of_the_file(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("training:\n  rate: 1e-4\n  layers: [3]\n  weights: {en: 2}\n")
    config = load_config(Config, path, ["training.steps=3", "training.betas=[0, 1]", "training.window=7"])
    assert config.training == Training(3, 1e-4, "cosine", [3], (0.0, 1.0), {"en": 2.0}, 7)


@pytest.mark.parametrize("text", ["", "# nothing\n", "training:\n", "training:\n  # steps: 3\n"])
def test_a_key_without_a_value_has_its_default(tmp_path, text):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    assert load_config(Config, path) == Config()
    assert load_config(Config, path, ["training.steps=3"]).training.steps == 3


@pytest.mark.parametrize("overrides, kind", [([], "one"), (["kind=two", "size=4"], "two"), (["kind=one"], "one")])
def test_an_override_chooses_the_kind(tmp_path, overrides, kind):
    assert load_kind_config(None, overrides, KINDS, "one").kind == kind
    path = tmp_path / "a.yaml"
    path.write_text("kind: two\n")
    config = load_kind_config(path, overrides, KINDS, "one")
    assert isinstance(config, Config if overrides == ["kind=one"] else Other)


@pytest.mark.parametrize("content, message", [
    (b"a: [1, 2\n", "a.yaml, line 2: "),
    (b"training:\n\tsteps: 3\n", "line 2: .*spaces instead of tabs"),
    ("training:\n  schedule: caf\u00e9\n".encode("latin1"), "line 2: byte 0xe9 is not UTF-8"),
    (b"- 1\n- 2\n", r"line 1: expected `key: value` lines, found \[1, 2\]"),
    (b"just words\n", "expected `key: value` lines, found 'just words'"),
    (b"training:\n  weights:\n    1: 2\n", "line 3: key 1 is no text; put it into quotes"),
    (b"training: {weights: {no: 2}}\n", "line 1: key False is no text"),
    (b"training: {}\nkind: one\ntraining: {}\n", "line 3: key 'training' occurs twice"),
    (b"training: !!python/object/apply:os.system [ls]\n", "line 1: could not determine a constructor"),
    (b"a: &a [*a]\n", "nested too deeply"),
    (b"a: " + b"[" * 3000 + b"]" * 3000, "nested too deeply"),
    (b"a: &a [1,1,1,1,1,1,1,1,1,1]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"
     b"d: &d [*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\n", "too many"),
    (b"a: 2026-13-45\n", "month must be in"),
    (b"a: b\n\x00", "special characters"),
    (b"trainin: {}\n", "unknown key 'trainin'; did you mean 'training'"),
    (b"training: 5\n", r"training: expected keys \(steps, .*\), found 5"),
])
def test_a_mistake_in_a_file_is_one_line_with_its_place(tmp_path, content, message):
    path = tmp_path / "a.yaml"
    path.write_bytes(content)
    with pytest.raises(AudioPaLMError, match=message) as error:
        load_config(Config, path)
    assert str(path) in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) < 400


def test_a_folder_and_an_absent_file_are_named(tmp_path):
    for path, message in ((tmp_path, "cannot be read: Is a directory"), (tmp_path / "x", "does not exist")):
        with pytest.raises(AudioPaLMError, match=message):
            load_config(Config, path)


@pytest.mark.parametrize("overrides, message", [
    (["training=5", "training.steps=3"], "override 'training.steps=3': training is 5, which has no keys"),
    (["steps"], "override 'steps' is not key=value"),
    (["=3"], "override '=3' is not key=value"),
    (["training.steps=[1"], r"override 'training.steps=\[1': "),
    (["training.steps=0"], "training: steps: 0 is too small; it must be at least 1"),
    (["training.steps=1001"], "must be at most 1000"),
    (["training.steps=1.5"], "steps: expected int, found 1.5"),
    (["training.steps=true"], "steps: expected int, found True"),
    (["training.steps="], "steps: no value is given"),
    (["training.steps=1" + "0" * 30], "is too large"),
    (["training.rate=0"], "rate: 0.0 is too small; it must be greater than 0"),
    (["training.rate=.nan"], "rate: nan is not a finite number"),
    (["training.rate=nan"], "rate: nan is not a finite number"),
    (["training.free=.inf"], "free: inf is not a finite number"),
    (["training.rate=fast"], "rate: expected a number, found 'fast'"),
    (["training.layers=[1, -1]"], r"layers\[1\]: -1 is too small"),
    (["training.layers=[1, x]"], r"layers\[1\]: expected int, found 'x'"),
    (["training.layers=3"], "layers: expected list, found 3"),
    (["training.betas=[0.5]"], r"betas: expected 2 values, found \(0.5,\)"),
    (["training.betas=[0.5, 2]"], r"betas\[1\]: 2.0 is too large"),
    (["training.weights={en: -1}"], "weights.en: -1.0 is too small"),
    (["training.weights={1: 1}"], "key 1 is no text"),
    (["training.window=0"], "window: 0 is too small"),
    (["training.schedule=cosin"], "schedule: unknown value 'cosin'; did you mean 'cosine'"),
    (["training.schedule=1"], "schedule: expected str, found 1"),
    (["kind=three"], "unknown kind 'three'; known: one, two"),
    (["kind="], "unknown kind None"),
])
def test_a_mistake_in_an_override_is_one_line(overrides, message):
    with pytest.raises(AudioPaLMError, match=message) as error:
        load_kind_config(None, overrides, KINDS, "one")
    assert "\n" not in str(error.value)
