"""CoVoST 2 beside Common Voice 4."""

from pathlib import Path

from miniatures.archives import evil_members, lay_out, pack
from miniatures.sound import HTML, mp3, rotten, without_length

CLIENT = "{:016x}" + 112 * "0"
COLUMNS = ["client_id", "path", "sentence", "up_votes", "down_votes", "age", "gender", "accent"]


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
# Clips whose damage shows only in decoding: number -> reason of stage 2, empty for a readable clip.
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
    texts: dict[str, dict[str, str]] = {"train": {}, "dev": {}, "test": {}}
    for number, (sentence, _, split) in PLAIN.items():
        texts[split.removesuffix("_covost")][clip_name(language, number)] = sentence
    texts["train"] |= {clip_name(language, number): f"{number}." for number in DAMAGED}
    dropped = {"train": {"clip missing": 1, "clip of zero bytes": 1, "empty sentence": 1, "path appears twice": 1,
                         "unknown split 'dev_covost'": 1, "row of 4 columns instead of 3": 1,
                         "row of 9 columns instead of 8": 1, "not UTF-8": 2, "not in validated.tsv": 1,
                         "invalid id": 1},
               "dev": {"empty translation": 1}, "test": {"not in validated.tsv": 1}}
    return texts, dropped
