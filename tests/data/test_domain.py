"""The domain of a recipe, which the READMEs and the pack repeat."""

from pathlib import Path

import pytest

from audiopalm.core.errors import AudioPaLMError
from audiopalm.data.domain import RECIPE_FILE, Domain

ROOT = Path(__file__).parents[2]


def test_the_readme_and_the_shipped_pack_have_the_domain_of_the_recipe():
    domain = Domain.of_recipe(ROOT / "egs" / "mini" / RECIPE_FILE)
    assert len(domain.examples) == 10 and domain.sentence.count(". ") == 0
    pack = ROOT / "egs" / "mini" / "pretrained" / "pack"
    assert Domain.of_pack(pack / "domain.json") == domain
    for file in (ROOT / "README.md", pack / "README.md"):
        assert f"\n{domain.markdown()}\n" in file.read_text(encoding="utf-8"), file


def test_a_damaged_file_is_one_line(tmp_path):
    for text, message in (("{", "domain.json"), ('{"sentence": "a"}', "lacks examples"),
                          ('{"sentence": "a", "examples": [1]}', "examples must be texts")):
        (tmp_path / "domain.json").write_text(text)
        with pytest.raises(AudioPaLMError, match=message):
            Domain.of_pack(tmp_path / "domain.json")
    (tmp_path / "domain.yaml").write_text("sentences: a")
    with pytest.raises(AudioPaLMError, match="sentences"):
        Domain.of_recipe(tmp_path / "domain.yaml")
