"""Configurations so small that all stages of a recipe run in a minute."""

from pathlib import Path

import yaml

OVERRIDES = {
    "units": {"model": {"dim": 32, "heads": 2, "encoder_blocks": 1, "size": 64, "code_dim": 8},
              "batch": {"seconds": 10}, "training": {"steps": 8, "micro_batches": 1, "save_every": 2},
              "quantise_from": 4, "short_steps": 2, "kmeans_batches": 2},
    "codec": {"model": {"bands": 40, "encoder_dim": 32, "encoder_blocks": 1, "latent_dim": 16,
                        "decoder": {"dim": 32, "blocks": 1}, "levels": 2, "size": 16},
              "batch": {"crops": 2}, "training": {"steps": 8}, "quantise_from": 4, "kmeans_crops": 16,
              "adversarial_from": 6},
    "vocabulary": {"text_size": 400},
    "textlm": {"model": {"dim": 32, "layers": 1, "heads": 2, "kv_heads": 1, "hidden_dim": 64},
               "batch": {"rows": 2, "row_length": 128, "validation_sequences": 8},
               "training": {"steps": 6, "micro_batches": 1, "validate_every": 3, "save_every": 3}},
    "lm": {"batch": {"rows": 2, "row_length": 512, "validation_sequences": 8},
           "training": {"steps": 6, "micro_batches": 1, "validate_every": 3, "save_every": 3}},
    "acoustic": {"model": {"dim": 32, "layers": 1, "heads": 2, "feedforward": 64, "levels": 0},
                 "batch": {"voices": 2, "dev_rows": 4}, "training": {"steps": 6, "micro_batches": 1, "save_every": 3}},
}


def shrink(conf: Path, **more: dict) -> None:
    """Apply OVERRIDES to the YAML files of a folder `conf`, and `more`: {name of a file: its further changes}.

    The folder may have the files of some stages only, as that of a recipe, or conf/small and conf/full.
    """
    for name, changes in {**OVERRIDES, **more}.items():
        path = conf / f"{name}.yaml"
        if path.exists() or name in more:
            values = yaml.safe_load(path.read_text(encoding="utf-8"))
            path.unlink()
            path.write_text(yaml.safe_dump(merge(values, changes)))


def merge(values, changes):
    return {**values, **{key: merge(values.get(key, {}), value) if isinstance(value, dict) else value
                         for key, value in changes.items()}}
