"""The domain of a model: a sentence about what it understands, and examples; YAML in a recipe, JSON in a pack."""

import textwrap
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from audiopalm.core.config import load_config
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import read_object

FILE = "domain.json"  # in a pack
RECIPE_FILE = Path("conf") / "domain.yaml"
MADE_BY = "stage 14 (pack)"


@dataclass
class Domain:
    """sentence: what the model understands. examples: sentences in a language that it understands."""

    sentence: str = ""
    examples: list[str] = field(default_factory=list)

    @classmethod
    def of_recipe(cls, path: str | Path) -> "Domain":
        """Read the YAML of a recipe. Raises AudioPaLMError for unknown keys and wrong types."""
        return load_config(cls, path)

    @classmethod
    def of_pack(cls, path: str | Path) -> "Domain":
        """Read domain.json. Raises AudioPaLMError for a damaged file."""
        values = read_object(path, MADE_BY, {"sentence": str, "examples": list})
        if not all(isinstance(example, str) for example in values["examples"]):
            raise AudioPaLMError(f"{path}: examples must be texts; run {MADE_BY} again")
        return cls(values["sentence"], values["examples"])

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def markdown(self) -> str:
        """The sentence and a list of the examples."""
        return "\n".join([textwrap.fill(self.sentence, 120), "", *(f'- "{example}"' for example in self.examples)])
