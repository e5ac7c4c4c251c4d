"""VoxPopuli in its three layouts, with interpretation into German."""

import gzip
import io
import tarfile
from pathlib import Path

import numpy as np

from miniatures.archives import lay_out, pack
from miniatures.sound import HTML, broken_wavs, ogg, wav

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


def make_voxpopuli(downloads: Path, layout: str = "raw", language: str = "en") -> tuple[dict, dict]:
    """Annotations, the floor of 2013 and its German interpretation; or the finished or the Hugging Face layout."""
    texts: dict[str, dict[str, str]] = {"train": {}, "dev": {}, "test": {}}
    for number, (_, _, _, text, _, split) in SEGMENTS.items():
        texts[split][segment_name(language, number).replace(":", "-")] = text
    if layout != "raw":
        return texts, _finished_voxpopuli(downloads, layout, language)
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
               f"{segment_name(language, 4)}\t5.0\t6.5\tHinter dem Ende.",
               f"{segment_name(language, 6)}\t6.0\t7.5\tEine lange Zelle.",
               f"{segment_name(language, 77)}\t4.0\t5.5\tNiemand.", "one column",
               f"{segment_name('fr', 1)}\t4.0\t5.5\tAus einer anderen Sprache.",
               f"{segment_name(language, 15)}\t1.0\t2.0\tEin Jahr ohne Dolmetscher.",
               f"{segment_name(language, 2)}\t44.0\t45.5\tZu spät."]
    (downloads / "s2s_de_ref.tsv.gz").write_bytes(gzip.compress("\n".join(targets).encode()))
    reasons = [row[6] for row in BAD_SEGMENTS.values() if row[6]]
    dropped = {reason: reasons.count(reason) for reason in reasons} | {"row of 3 columns instead of 14": 1}
    return texts, {"train": dropped, "dev": {}, "test": {}}


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
