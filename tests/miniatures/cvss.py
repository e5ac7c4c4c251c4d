"""CVSS beside Common Voice 4."""

from pathlib import Path

from miniatures.archives import pack
from miniatures.covost2 import DAMAGED, PLAIN, clip_name, common_voice
from miniatures.sound import broken_wavs, wav


def make_cvss(downloads: Path, language: str = "fr", version: str = "c") -> tuple[dict, dict]:
    """CVSS's archive beside Common Voice's: rows without recording, a recording without row, three kinds of wav."""
    short = language.partition("-")[0]
    pack(downloads / f"{language}.tar.gz", common_voice(language))
    files = {}
    tables: dict[str, list[str]] = {"train": [], "dev": [], "test": []}
    texts: dict[str, dict[str, str]] = {name: {} for name in tables}
    kinds = {20: wav(22050, "PCM_16"), 30: wav(24000, "FLOAT", kind="WAVEX"), 31: wav(24000, "PCM_16", kind="WAVEX")}
    for number, (_, translation, split) in PLAIN.items():
        name = split.removesuffix("_covost")
        clip = clip_name(language, number)
        tables[name].append(f"{clip}\t{translation}")
        files[f"{name}/{clip}.wav"] = kinds.get(number) or wav(24000, "PCM_16")
        texts[name][clip] = translation
    broken = dict(zip(DAMAGED, broken_wavs(24000).items(), strict=False))
    for number, (_, content) in broken.items():
        tables["test"].append(f"{clip_name(language, number)}\tbroken")
        files[f"test/{clip_name(language, number)}.wav"] = content
    for number in (40, 41, 42, 44, 54):
        files[f"train/{clip_name(language, number)}.wav"] = wav(24000, "PCM_16")
    tables["train"] += [f"{clip_name(language, 1)}\tagain", f"{clip_name(language, 42)}\tno sentence",
                        f"{clip_name(language, 44)}\tnot in common voice", "no tab", f"{clip_name(language, 40)}\tx",
                        f"{clip_name(language, 41)}\tx", f"{clip_name(language, 54)}\t ...!"]
    tables["test"] += [f"{clip_name(language, 45)}\tthis one has no recording"]
    files[f"test/{clip_name(language, 43)}.wav"] = wav(24000, "PCM_16")  # no row
    for name, rows in tables.items():
        files[f"{name}.tsv"] = ("\n".join(rows) + "\n").encode()
    pack(downloads / f"cvss_{version}_{short}_en_v1.0.tar.gz", files)
    dropped = {"train": {"clip appears twice": 1, "empty sentence": 1, "not in validated.tsv": 1, "clip missing": 1,
                         "clip of zero bytes": 1, "empty translation": 1, "row of 1 columns instead of 2": 1,
                         "row of 9 columns instead of 8": 1, "not UTF-8": 1},
               "dev": {}, "test": {"translation's recording missing": 1, **{
                   f"translation's recording {problem}": 1 for problem, _ in broken.values()}}}
    return texts, dropped
