"""The model card of a pack: what the model is, its licence, and the figures of the run that trained it."""

from pathlib import Path

import audiopalm
from audiopalm.languages import language_name
from audiopalm.report.results_page import headline_table
from audiopalm.scoring.results import read_rows
from audiopalm.stages.pack import MANIFEST
from audiopalm.tasks import TASKS

CARD = """\
# AudioPaLM, recipe `{recipe}`

A decoder-only language model over text and audio tokens that recognises, translates and speaks, trained by the recipe
`{recipe}` of audiopalm {version}.

    from audiopalm.inference import AudioPaLM
    answer = AudioPaLM.from_pretrained("this folder")("x.wav", task="[S2ST Spanish English]")

- Languages: {languages}.
- Tags: {tags}, each followed by the name of the language, or of two for a translation.
- Parts: `lm/` the language model, `vocabulary/` text and audio ids, `units/` speech to audio tokens, `acoustic/` audio
  tokens to codec tokens in the voice of a prompt, `codec/` codec tokens to a waveform at 16 kHz.
- Limits: it knows the kind of sentences it was trained on, and no others.
- Licence: Apache-2.0 for the code. The weights were trained on the recordings of the recipe, whose licences and
  authors stand in its folder `corpus/`; attribute them when you pass the weights on.
- Files with their SHA-256: `{manifest}`.
{scores}"""


def card(recipe: str, results: Path, seed: int | None, languages: list[str]) -> str:
    """README.md of the pack: what it is, its licence, and the figures of the run that trained it."""
    scores = ""
    if results.exists():
        rows = [row for row in read_rows(results) if seed is None or row["seed"] == seed]
        if table := headline_table(rows, recipe, "test"):
            scores = f"\n## Scores on the set `test`\n\n{table}\n"
    tags = ", ".join(f"`[{task.tag} ...]`" for task in TASKS.values() if task.tag)
    return CARD.format(recipe=recipe, version=audiopalm.__version__, languages=", ".join(map(language_name, languages)),
                       tags=tags, manifest=MANIFEST, scores=scores)
