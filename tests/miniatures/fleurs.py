"""FLEURS in the layouts of Google's archives and of the Hugging Face hub."""

from pathlib import Path

from miniatures.archives import lay_out, pack
from miniatures.sound import broken_wavs, wav

SENTENCES = {  # id -> set, French, English (None: en_us lacks it)
    1: ("train", '"Il dit "bonjour.', '"He says "hello.'), 2: ("train", "Deux\u200b mots\u00a0ici.", "Two words."),
    3: ("train", "Sans anglais.", None), 4: ("dev", "Trois.", "Three."), 5: ("test", "Quatre.", "Four."),
    6: ("train", "قال \u202bمرحبا", "Right to left."), 7: ("train", "Deux\u200b mots\u00a0ici.", "Two words."),
    8: ("train", "Anglais vide.", " "),
}
FLEURS_WAVS = (("FLOAT", "WAV"), ("PCM_16", "WAV"), ("FLOAT", "WAVEX"))  # of the first, second and third reader


def make_fleurs(downloads: Path, layout: str = "google") -> tuple[dict, dict]:
    """French and English, 1 to 3 readers a sentence; layout `google`, `folder`, `huggingface` or `parquet`."""
    texts: dict[str, dict[str, str]] = {"train": {}, "dev": {}, "test": {}}
    broken = {f"900{number}.wav": case for number, case in enumerate(broken_wavs(16000).items())}
    for code, column in (("fr_fr", 1), ("en_us", 2)):
        rows: dict[str, list[tuple]] = {name: [] for name in texts}
        files: dict[str, bytes] = {}
        for number, row in SENTENCES.items():
            for reader in range(1 + number % 3 if row[column] else 0):
                file = f"{1000 * number + reader + 100 * column}.wav"
                subtype, kind = FLEURS_WAVS[reader]
                rows[row[0]].append((number, file, row[column], 12800 + (number == 4), "" if reader else "FEMALE"))
                files[f"audio/{row[0]}/{file}"] = wav(16000, subtype, 0.8, kind)
                if row[column].strip():
                    texts[row[0]][f"{code}-{file}"] = row[column]
        if code == "fr_fr":
            rows["train"] += [(1, "8000.wav", "Pas de son.", 16000, "MALE"), (1, "8002.wav", " ", 16000, "MALE"),
                              (1, "1100.wav", "Encore.", 16000, "MALE"),
                              *((1, file, "Cassé.", 16000, "MALE") for file in broken)]
            files["audio/train/8002.wav"] = wav(16000, "FLOAT")
            files |= {f"audio/train/{file}": content for file, (_, content) in broken.items()}
        _write_fleurs(downloads, code, rows, files, layout)
    reasons = ["recording missing", "empty sentence", "file appears twice"]
    reasons += [f"recording {problem}" for problem, _ in broken.values()]
    reasons += [] if layout == "parquet" else ["row of 6 columns instead of 7", "id is no number"]
    return texts, {"train": dict.fromkeys(reasons, 1), "dev": {}, "test": {}}


def _write_fleurs(downloads: Path, code: str, rows: dict[str, list[tuple]], files: dict[str, bytes],
                  layout: str) -> None:
    if layout == "parquet":
        for name in rows:
            write_fleurs_parquet(downloads / "parquet-data" / code, name, rows[name], files)
        return
    for name, entries in rows.items():
        lines = [f"{number}\t{file}\t{text}\t{text.lower()}\tc |\t{samples}\t{gender}"
                 for number, file, text, samples, gender in entries]
        if (code, name) == ("fr_fr", "train"):  # the other layouts cannot have such rows
            lines += ["9\t9012.wav\tsix\tsix\tc |\t16000", "x\t9013.wav\tx\tx\tc |\t16000\tMALE"]
            files["audio/train/9014.wav"] = wav(16000, "FLOAT")  # no row
        files[f"{name}.tsv"] = ("\n".join(lines) + "\n").encode()
    if layout == "google":
        pack(downloads / f"{code}.tar.gz", {f"{code}/{name}": content for name, content in files.items()})
    elif layout == "folder":
        lay_out(downloads / code, files)
    else:
        for name in rows:
            start = f"audio/{name}/"
            pack(downloads / "data" / code / "audio" / f"{name}.tar.gz",
                 {key.removeprefix("audio/"): content for key, content in files.items() if key.startswith(start)})
        lay_out(downloads / "data" / code, {key: value for key, value in files.items() if key.endswith(".tsv")})


def write_fleurs_parquet(folder: Path, name: str, rows: list[tuple], files: dict[str, bytes], groups: int = 2) -> None:
    """A set in two files (in one where it has one row), each in row groups of `groups` rows."""
    import pyarrow
    from pyarrow import parquet

    folder.mkdir(parents=True, exist_ok=True)
    split = "validation" if name == "dev" else name
    audio = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    schema = pyarrow.schema([
        ("id", pyarrow.int32()), ("num_samples", pyarrow.int32()), ("path", pyarrow.string()), ("audio", audio),
        ("transcription", pyarrow.string()), ("raw_transcription", pyarrow.string()), ("gender", pyarrow.int64()),
        ("lang_id", pyarrow.int64()), ("language", pyarrow.string()), ("lang_group_id", pyarrow.int64())])
    table = [{"id": number, "num_samples": samples, "path": f"/root/.cache/{file}",
              "audio": {"bytes": files.get(f"audio/{name}/{file}"), "path": file}, "transcription": text.lower(),
              "raw_transcription": text, "gender": 1 if gender else 2, "lang_id": 26, "language": "French",
              "lang_group_id": 0} for number, file, text, samples, gender in rows]
    middle = (len(table) + 1) // 2
    parts = [part for part in (table[:middle], table[middle:]) if part]
    for index, part in enumerate(parts):
        parquet.write_table(pyarrow.Table.from_pylist(part, schema),
                            folder / f"{split}-{index:05d}-of-{len(parts):05d}.parquet", row_group_size=groups)
