"""Miniature corpora in the official layouts, encodings and quirks, with what a right preparation keeps and drops.

Each maker fills a folder of downloads and returns the expectation: {set: {clip: text}} and {set: {reason: rows}}.
"""

import functools
import gzip
import io
import tarfile
from pathlib import Path

import numpy as np
import soundfile

CLIENT = "{:016x}" + 112 * "0"
COLUMNS = ["client_id", "path", "sentence", "up_votes", "down_votes", "age", "gender", "accent"]


HTML = b"<!DOCTYPE html>\n<html><body>403 Forbidden</body></html>\n"


@functools.cache
def mp3(seconds: float = 1.0, seed: int = 0) -> bytes:
    """Noise as Common Voice has speech: mp3, mono, 48 kHz, variable bit rate, with the Xing tag of its length."""
    buffer = io.BytesIO()
    noise = np.random.default_rng(seed).normal(0, 0.1, round(seconds * 48000))
    noise[:6000] *= 1e-4  # quiet: small frames at the beginning
    with soundfile.SoundFile(buffer, "w", 48000, 1, format="MP3", subtype="MPEG_LAYER_III", bitrate_mode="VARIABLE",
                             compression_level=0.6) as file:
        file.write(noise)
    return buffer.getvalue()


def without_length(clip: bytes) -> bytes:
    """The mp3 without its first frame, which holds the Xing tag: its length is guessed, here as too long."""
    second = clip.index(clip[:2], clip.index(b"Xing"))
    return clip[second:]


def rotten(clip: bytes) -> bytes:
    """The mp3 with random bytes in its middle."""
    rot = np.random.default_rng(3).integers(0, 256, len(clip) // 3, dtype=np.uint8).tobytes()
    return clip[:1500] + rot + clip[1500 + len(rot):]


def wav(rate: int, subtype: str, seconds: float = 1.0, kind: str = "WAV") -> bytes:
    """Noise; the kind `WAVEX` is the extensible format."""
    buffer = io.BytesIO()
    soundfile.write(buffer, np.random.default_rng(0).normal(0, 0.1, round(seconds * rate)), rate, format=kind,
                    subtype=subtype)
    return buffer.getvalue()


def pack(archive: Path, files: dict[str, bytes], members: list[tarfile.TarInfo] = ()) -> None:
    """Write a tar.gz of `files` in order; `members` are further ones, which a right unpacking leaves out."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive, "w:gz") as tar:
        for member in members:
            tar.addfile(member, io.BytesIO(b"evil") if member.isfile() else None)
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def lay_out(root: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def evil_members() -> list[tarfile.TarInfo]:
    """A way out of the folder, an absolute name, a link."""
    outside, absolute, link = tarfile.TarInfo("../evil.txt"), tarfile.TarInfo("/evil.txt"), tarfile.TarInfo("link")
    outside.size = absolute.size = 4
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    return [outside, absolute, link]


def clip_name(language: str, number: int) -> str:
    return f"common_voice_{language}_{number}.mp3"


# number -> sentence in Common Voice, English translation, split of CoVoST 2
PLAIN = {
    1: ("Bonjour à tous.", "Hello everyone.", "train"),
    2: ('"Elle a dit ""oui"" hier."', '"She said ""yes"" yesterday."', "train"),
    3: ('"Un guillemet ouvert', '"An open quote', "train"),
    4: ("C:\\temp est plein\\", "C:\\temp is full\\", "train_covost"),
    5: ("NA", "NA", "train"),
    6: ("deux\u2028lignes\u00a0ici\u0085là", "two\u2028lines\u00a0here", "train"),
    7: ("می‌خواهم \u202bسلام", "null", "train_covost"),
    8: ("x" * 140000, "A long one.", "train"),
    9: ("த\u0bbe\u0bafின் e\u0301te\u0301", "Combining marks 1 2.", "train"),
    10: ("Une autre voix.", "ANOTHER Voice.", "train"),  # its client_id begins as that of another speaker
    20: ("Un jour.", "One day.", "dev"),
    30: ("Une nuit.", "One night.", "test"),
    31: ("Deux nuits.", "Two nights.", "test"),
}
BAD = {
    40: ("Pas de clip.", "No clip.", "train", "clip missing"),
    41: ("Clip vide.", "Empty clip.", "train", "clip of zero bytes"),
    42: (" ", "No sentence.", "train", "empty sentence"),
    43: ("Pas de traduction.", " ", "dev", "empty translation"),
    44: (None, "Only in CoVoST.", "test", "not in validated.tsv"),
    45: ("Vieux.", "Old.", "dev_covost", "unknown split 'dev_covost'"),
    46: ("Octets.", "Bytes.", "train", "not UTF-8"),  # in validated.tsv: the row of CoVoST finds no sentence
}
# What only decoding shows: number -> what stage 2 says, empty for a sound one.
DAMAGED = {50: "is damaged", 51: "is damaged", 52: "cannot be decoded", 53: "", 54: "too short"}


def clip_bytes(number: int) -> bytes:
    whole = mp3(seed=number)
    return {50: whole[:700], 51: rotten(whole), 52: HTML, 53: without_length(whole), 54: mp3(0.02)}.get(number, whole)


def common_voice(language: str, later_release: bool = False) -> dict[str, bytes]:
    """Files of a language: `validated.tsv` and `clips/`, plus a clip that no table of CoVoST names.

    The table has a byte order mark, a name without `.mp3` and no newline at its end.
    """
    columns = [*COLUMNS, "locale", "segment"] if later_release else COLUMNS
    rows = ["\t".join(columns)]

    def add(number: int, sentence: str, client: str, name: str = "") -> None:
        cells = [client, name or clip_name(language, number), sentence, "2", "0", "", "", ""]
        rows.append("\t".join(cells + [""] * (len(columns) - len(cells))))

    for number, (sentence, *_) in {**PLAIN, **BAD}.items():
        if sentence is not None:
            add(number, sentence, CLIENT.format(number % 3))
    rows[10] = rows[10].replace(CLIENT.format(1), CLIENT.format(1)[:-1] + "f")
    rows[2] = rows[2].replace(".mp3", "")
    rows[-1] = rows[-1].replace("Octets", "Oct\udcffets")
    add(1, "The same clip again.", CLIENT.format(9))
    add(99, "Only in Common Voice.", CLIENT.format(9))
    add(55, "A space in the name.", CLIENT.format(9), "common voice.mp3")
    rows.append("\t".join([CLIENT.format(1), clip_name(language, 98), "A stray", "tab", *rows[1].split("\t")[3:]]))
    for number in DAMAGED:
        add(number, f"{number}.", CLIENT.format(number % 3))
    files = {"validated.tsv": b"\xef\xbb\xbf" + "\n".join(rows).encode(errors="surrogateescape"),
             "clips/common voice.mp3": mp3()}
    for number in [*PLAIN, 42, 43, 45, 46, 99, *DAMAGED]:
        files[f"clips/{clip_name(language, number)}"] = clip_bytes(number)
    files[f"clips/{clip_name(language, 41)}"] = b""
    return files


def covost2_table(language: str, crlf: bool = False) -> bytes:
    """The table: a byte order mark, a repeated path, a stray tab, bytes outside UTF-8, no newline at the end."""
    rows = ["path\ttranslation\tsplit"]
    rows += [f"{clip_name(language, number)}\t{row[1]}\t{row[2]}" for number, row in {**PLAIN, **BAD}.items()]
    rows.append(f"{clip_name(language, 1)}\tHello again.\ttrain")
    rows.append(f"{clip_name(language, 97)}\tA stray\ttab\ttrain")
    rows.append("common_voice_96.mp3\t\udcff\udcfe\ttrain")
    rows.append("common voice.mp3\tA space in the name.\ttrain")
    rows += [f"{clip_name(language, number)}\t{number}.\ttrain" for number in DAMAGED]
    return b"\xef\xbb\xbf" + ("\r\n" if crlf else "\n").join(rows).encode(errors="surrogateescape")


def make_covost2(downloads: Path, language: str = "fr", unpacked: bool = False) -> tuple[dict, dict]:
    """Common Voice's archive (with members that must not be unpacked) and CoVoST 2's; or both unpacked by hand."""
    clips, table = common_voice(language), covost2_table(language, crlf=language == "sv-SE")
    name = f"covost_v2.{language}_en.tsv"
    if unpacked:
        lay_out(downloads / "cv-corpus-4-2019-12-10" / language, clips)
        lay_out(downloads, {name: table})
    else:
        pack(downloads / f"{language}.tar.gz", clips, evil_members())
        pack(downloads / f"{name}.tar.gz", {name: table})
    kept: dict[str, dict[str, str]] = {"train": {}, "dev": {}, "test": {}}
    for number, (sentence, _, split) in PLAIN.items():
        kept[split.removesuffix("_covost")][clip_name(language, number)] = sentence
    kept["train"] |= {clip_name(language, number): f"{number}." for number in DAMAGED}
    dropped = {"train": {"clip missing": 1, "clip of zero bytes": 1, "empty sentence": 1, "path appears twice": 1,
                         "unknown split 'dev_covost'": 1, "4 columns instead of 3": 1, "9 columns instead of 8": 1,
                         "not UTF-8": 2, "not in validated.tsv": 1, "id holds a space or a slash": 1},
               "dev": {"empty translation": 1}, "test": {"not in validated.tsv": 1}}
    return kept, dropped


# What is wrong with a recording, and the reason that a reader of wav files gives for it.
def broken_wavs(rate: int) -> dict[str, bytes]:
    whole = wav(rate, "PCM_16")
    return {"of zero bytes": b"", "cannot be decoded": HTML, "without samples": wav(rate, "PCM_16", 0.0),
            "cut off": whole[:len(whole) // 2]}


def make_cvss(downloads: Path, language: str = "fr", version: str = "c") -> tuple[dict, dict]:
    """CVSS's archive beside Common Voice's; rows without recording, one recording without row, three kinds of wav."""
    short = language.partition("-")[0]
    pack(downloads / f"{language}.tar.gz", common_voice(language))
    files = {}
    tables: dict[str, list[str]] = {"train": [], "dev": [], "test": []}
    kept: dict[str, dict[str, str]] = {name: {} for name in tables}
    kinds = {20: wav(22050, "PCM_16"), 30: wav(24000, "FLOAT", kind="WAVEX"), 31: wav(24000, "PCM_16", kind="WAVEX")}
    for number, (_, translation, split) in PLAIN.items():
        name = split.removesuffix("_covost")
        clip = clip_name(language, number)
        tables[name].append(f"{clip}\t{translation}")
        files[f"{name}/{clip}.wav"] = kinds.get(number) or wav(24000, "PCM_16")
        kept[name][clip] = translation
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
                         "clip of zero bytes": 1, "empty translation": 1, "1 columns instead of 2": 1,
                         "9 columns instead of 8": 1, "not UTF-8": 1},
               "dev": {}, "test": {"translation's recording missing": 1, **{
                   f"translation's recording {problem}": 1 for problem, _ in broken.values()}}}
    return kept, dropped


SENTENCES = {  # id -> set, French, English (None: en_us lacks it)
    1: ("train", '"Il dit "bonjour.', '"He says "hello.'), 2: ("train", "Deux\u200b mots\u00a0ici.", "Two words."),
    3: ("train", "Sans anglais.", None), 4: ("dev", "Trois.", "Three."), 5: ("test", "Quatre.", "Four."),
    6: ("train", "قال \u202bمرحبا", "Right to left."), 7: ("train", "Deux\u200b mots\u00a0ici.", "Two words."),
    8: ("train", "Anglais vide.", " "),
}
FLEURS_WAVS = (("FLOAT", "WAV"), ("PCM_16", "WAV"), ("FLOAT", "WAVEX"))  # of the first, second and third reader


def make_fleurs(downloads: Path, layout: str = "google") -> tuple[dict, dict]:
    """French and English, 1 to 3 readers a sentence; layout `google`, `folder`, `huggingface` or `parquet`."""
    kept: dict[str, dict[str, str]] = {"train": {}, "dev": {}, "test": {}}
    broken = {f"900{number}.wav": case for number, case in enumerate(broken_wavs(16000).items())}
    for code, column in (("fr_fr", 1), ("en_us", 2)):
        rows: dict[str, list[tuple]] = {name: [] for name in kept}
        files: dict[str, bytes] = {}
        for number, row in SENTENCES.items():
            for reader in range(1 + number % 3 if row[column] else 0):
                file = f"{1000 * number + reader + 100 * column}.wav"
                subtype, kind = FLEURS_WAVS[reader]
                rows[row[0]].append((number, file, row[column], 12800 + (number == 4), "" if reader else "FEMALE"))
                files[f"audio/{row[0]}/{file}"] = wav(16000, subtype, 0.8, kind)
                if row[column].strip():
                    kept[row[0]][f"{code}-{file}"] = row[column]
        if code == "fr_fr":
            rows["train"] += [(1, "8000.wav", "Pas de son.", 16000, "MALE"), (1, "8002.wav", " ", 16000, "MALE"),
                              (1, "1100.wav", "Encore.", 16000, "MALE"),
                              *((1, file, "Cassé.", 16000, "MALE") for file in broken)]
            files["audio/train/8002.wav"] = wav(16000, "FLOAT")
            files |= {f"audio/train/{file}": content for file, (_, content) in broken.items()}
        _write_fleurs(downloads, code, rows, files, layout)
    reasons = ["recording missing", "empty sentence", "file appears twice"]
    reasons += [f"recording {problem}" for problem, _ in broken.values()]
    reasons += [] if layout == "parquet" else ["6 columns instead of 7", "id is no number"]
    return kept, {"train": dict.fromkeys(reasons, 1), "dev": {}, "test": {}}


def _write_fleurs(downloads: Path, code: str, rows: dict[str, list[tuple]], files: dict[str, bytes],
                  layout: str) -> None:
    if layout == "parquet":
        for name in rows:
            write_fleurs_parquet(downloads / "parquet-data" / code, name, rows[name], files)
        return
    for name, entries in rows.items():
        lines = [f"{number}\t{file}\t{text}\t{text.lower()}\tc |\t{samples}\t{gender}"
                 for number, file, text, samples, gender in entries]
        if (code, name) == ("fr_fr", "train"):  # what other layouts cannot have
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


SESSION = "{year}0114-0900-PLENARY-1"
ASR_COLUMNS = ["id_", "paragraph_id", "session_id", "speaker_id", "original_text", "normed_text", "decoded",
               "start_time", "end_time", "cer", "wer", "vad", "split", "gender"]
SEGMENTS = {  # number -> year, speaker, original text, normed text, vad, split; then the reason if it is dropped
    1: (2013, "1001", "Two pieces.", "two pieces", "[(0.5, 1.5), (2.25, 3.0)]", "train"),
    2: (2013, "None", "", "no original text", "[(3.0, 4.0)]", "train"),
    3: (2013, "1001", '"Open quote', '"open quote', "[(4.0, 5.0)]", "train"),
    4: (2013, "1002", "Past the end.", "past the end", "[(9.0, 99.0)]", "dev"),
    5: (2013, "1002", "Plain.", "plain", "[(1.0, 2.0)]", "test"),
    6: (2013, "1002", "x" * 140000, 'a "long" cell', "[(2.0, 3.0)]", "test"),
    14: (2013, "1002", "Long.", "more than a hundred seconds", str(11 * [(0.0, 9.9)]), "test"),
    15: (2016, "1004", "Second archive.", "in the second archive of a year", "[(1.0, 2.0)]", "train"),
}
BAD_SEGMENTS = {
    7: (2013, "1001", "Invalid.", "invalid", "[(1.0, 2.0)]", "invalid", None),
    8: (2013, "1001", "No normed text.", " ", "[(1.0, 2.0)]", "train", "empty normed_text"),
    9: (2013, "1001", "No vad.", "no vad", "[]", "train", "vad is no list of pieces"),
    10: (2013, "1001", "Code.", "code", "__import__('os').abort()", "train", "vad is no list of pieces"),
    11: (2013, "1001", "Behind the end.", "behind the end", "[(20.0, 22.0)]", "train",
         "no speech inside the recording"),
    12: (2014, "1003", "Another year.", "another year", "[(1.0, 2.0)]", "train", "recording of the session missing"),
    13: (2013, "1003", "Unknown split.", "unknown split", "[(1.0, 2.0)]", "extra", "unknown split 'extra'"),
    16: (2015, "1003", "No audio.", "no audio", "[(1.0, 2.0)]", "train",
         "recording of the session cannot be decoded"),
}


def segment_name(language: str, number: int, year: int = 0) -> str:
    year = year or {**SEGMENTS, **BAD_SEGMENTS}.get(number, (2013,))[0]
    return f"{SESSION.format(year=year)}-{language}_{year}0114-17:12:30_{number}"


def voxpopuli_speech(rate: int = 16000, seconds: float = 10.0) -> np.ndarray:
    return np.random.default_rng(1).normal(0, 0.1, round(rate * seconds))


def ogg(samples: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, 16000, format="OGG", subtype="VORBIS")
    return buffer.getvalue()


def make_voxpopuli(downloads: Path, layout: str = "raw", language: str = "en") -> tuple[dict, dict]:
    """Annotations, the floor of 2013 and its German interpretation; or the finished or the Hugging Face layout."""
    kept: dict[str, dict[str, str]] = {"train": {}, "dev": {}, "test": {}}
    for number, (_, _, _, text, _, split) in SEGMENTS.items():
        kept[split][segment_name(language, number).replace(":", "-")] = text
    if layout != "raw":
        return kept, _finished_voxpopuli(downloads, layout, language)
    rows = ["|".join(ASR_COLUMNS)]
    for number, (year, speaker, original, text, vad, split, *_) in {**SEGMENTS, **BAD_SEGMENTS}.items():
        segment = segment_name(language, number).removeprefix(f"{SESSION.format(year=year)}-")
        rows.append("|".join([segment, "1", SESSION.format(year=year), speaker, original, text, "decoded", "0", "1",
                              "0", "0", vad, split, "male"]))
    rows.append("too|few|columns")
    (downloads / "annotations/asr").mkdir(parents=True)
    (downloads / f"annotations/asr/asr_{language}.tsv.gz").write_bytes(gzip.compress("\n".join(rows).encode()))
    speech = ogg(voxpopuli_speech())
    for archive, year, content in (("original_2013", 2013, speech), ("de_2013", 2013, speech),
                                   ("original_2015", 2015, HTML), ("original_2016_2", 2016, speech)):
        channel = archive.partition("_")[0]
        with tarfile.open(downloads / f"{archive}.tar", "w") as tar:
            member = tarfile.TarInfo(f"{channel}/{year}/{SESSION.format(year=year)}_{channel}.ogg")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    targets = ["id\tstart_time\tend_time\ttgt_text",
               f"{segment_name(language, 1)}\t1.0\t3.0\tZwei Stücke.", f"{segment_name(language, 5)}\t4.0\t5.5\t",
               f"{segment_name(language, 77)}\t4.0\t5.5\tNiemand.", "one column",
               f"{segment_name('fr', 1)}\t4.0\t5.5\tAus einer anderen Sprache.",
               f"{segment_name(language, 15)}\t1.0\t2.0\tEin Jahr ohne Dolmetscher.",
               f"{segment_name(language, 2)}\t44.0\t45.5\tZu spät."]
    (downloads / "s2s_de_ref.tsv.gz").write_bytes(gzip.compress("\n".join(targets).encode()))
    reasons = [row[6] for row in BAD_SEGMENTS.values() if row[6]]
    dropped = {reason: reasons.count(reason) for reason in reasons} | {"3 columns instead of 14": 1}
    return kept, {"train": dropped, "dev": {}, "test": {}}


def _finished_voxpopuli(downloads: Path, layout: str, language: str) -> dict:
    folder = downloads / ("transcribed_data" if layout == "finished" else "data") / language
    tables = {name: ["id\traw_text\tnormalized_text\tspeaker_id\tsplit\tgender\tis_gold_transcript\taccent"]
              for name in ("train", "dev", "test")}
    speech = ogg(voxpopuli_speech(seconds=1.0)) if layout == "finished" else wav(16000, "PCM_16")
    broken = broken_wavs(16000)
    if layout == "finished":  # libsndfile cannot tell an ogg file that is cut off
        broken = {"of zero bytes": b"", "cannot be decoded": HTML, "without samples": ogg(np.zeros(0))}
    segments = {**SEGMENTS, **{60 + number: (2013, "1001", "Broken.", "broken", "", "train")
                               for number in range(len(broken))}}
    sounds = {60 + number: content for number, content in enumerate(broken.values())}
    parts: dict[str, dict[str, bytes]] = {name: {} for name in tables}
    for number, (year, speaker, original, text, _, split) in segments.items():
        key = segment_name(language, number)
        tables[split].append("\t".join([key, original, text, speaker, split, "male", "False", "None"]))
        name = key.replace(":", "_") if number == 1 else key  # copied by way of a file system that has no colons
        if layout == "finished":
            lay_out(folder, {f"{year}/{name}.ogg": sounds.get(number, speech)})
        else:
            parts[split][f"{split}_part_0/{name}.wav"] = sounds.get(number, speech)
    missing = segment_name(language, 50)
    tables["train"] += [f"{missing}\tText.\ttext\t1001\ttrain\tmale\tFalse\tNone",
                        f"{missing}0\tText.\t\t1001\ttrain\tmale\tFalse\tNone"]
    for name, rows in tables.items():
        lay_out(folder, {f"asr_{name}.tsv": ("\n".join(rows) + "\n").encode()})
        if layout == "hub":
            pack(folder / name / f"{name}_part_0.tar.gz", parts[name])
    reasons = ["recording missing", "empty normed_text", *(f"recording {problem}" for problem in broken)]
    return {"train": dict.fromkeys(reasons, 1), "dev": {}, "test": {}}
