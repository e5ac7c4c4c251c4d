"""FLEURS (Conneau et al., arXiv 2205.12446): the same sentences read in 102 languages; for evaluation.

A table `{train,dev,test}.tsv` has no header and seven columns; `id` is the sentence, which one to three people read, so
the utterance is named by its file. The translation into English is the sentence of `en_us` with the same id in the
same set. No speakers are given: each utterance is its own.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from audiopalm.corpora.archives import unpack
from audiopalm.corpora.data_set import DataSet, Utterance, write_sets
from audiopalm.corpora.tables import Account, read_rows
from audiopalm.errors import AudioPaLMError, nearest

SETS = ("train", "dev", "test")
COLUMNS = ("id", "file_name", "raw_transcription", "transcription", "characters", "num_samples", "gender")
ENGLISH = "en_us"
CODES = tuple("""
    af_za am_et ar_eg as_in ast_es az_az be_by bg_bg bn_in bs_ba ca_es ceb_ph ckb_iq cmn_hans_cn cs_cz cy_gb da_dk de_de
    el_gr en_us es_419 et_ee fa_ir ff_sn fi_fi fil_ph fr_fr ga_ie gl_es gu_in ha_ng he_il hi_in hr_hr hu_hu hy_am id_id
    ig_ng is_is it_it ja_jp jv_id ka_ge kam_ke kea_cv kk_kz km_kh kn_in ko_kr ky_kg lb_lu lg_ug ln_cd lo_la lt_lt luo_ke
    lv_lv mi_nz mk_mk ml_in mn_mn mr_in ms_my mt_mt my_mm nb_no ne_np nl_nl nso_za ny_mw oc_fr om_et or_in pa_in pl_pl
    ps_af pt_br ro_ro ru_ru sd_in sk_sk sl_si sn_zw so_so sr_rs sv_se sw_ke ta_in te_in tg_tj th_th tr_tr uk_ua umb_ao
    ur_pk uz_uz vi_vn wo_sn xh_za yo_ng yue_hant_hk zu_za""".split())


@dataclass(frozen=True)
class Reading:
    sentence: str  # its id
    text: str


def short_code(code: str) -> str:
    """`fr_fr` -> `fr`, `cmn_hans_cn` -> `zh`: the code used in our data directories."""
    language = code.partition("_")[0]
    return "zh" if language == "cmn" else language


def prepare(downloads: str | Path, output: str | Path, languages: list[str], unpacked: str | Path,
            max_drop: float = 0.05) -> dict:
    """Write <output>/{train,dev,test} for the `languages` (FLEURS' codes) and return the report.

    Raises AudioPaLMError when a language is unknown or missing, English's tables included, or when more than `max_drop`
    of the rows of a set are dropped.
    """
    for code in languages:
        if code not in CODES:
            raise AudioPaLMError(f"FLEURS has no language {code!r}; {nearest(code, CODES)}")
    downloads, unpacked = Path(downloads), Path(unpacked)
    sets = {name: DataSet() for name in SETS}
    english = {}
    for name in SETS:
        readings = _read_table(_table(downloads, ENGLISH, name, unpacked), Account()).values()
        english[name] = {reading.sentence: reading.text for reading in readings}
    for code in languages or CODES:
        for name, data in sets.items():
            _read_set(downloads, code, name, unpacked, english[name], data)
    return write_sets(Path(output), sets, max_drop)


def _read_set(downloads: Path, code: str, name: str, unpacked: Path, english: dict[str, str], data: DataSet) -> None:
    readings = _read_table(_table(downloads, code, name, unpacked), data.account)
    folder = _audio(downloads, code, name, unpacked)
    data.account.rows += len(readings)
    without_row = {path.name for path in folder.glob("*.wav")} - set(readings)
    if without_row:
        logging.warning("FLEURS, %s %s: %d recordings have no row, for example %s", code, name, len(without_row),
                        min(without_row))
    language = short_code(code)
    for file, reading in readings.items():
        identifier = f"{code}-{file.removesuffix('.wav')}"
        if not reading.text.strip():
            data.account.drop(identifier, "empty sentence")
        elif not (folder / file).is_file():
            data.account.drop(identifier, "recording missing")
        elif (folder / file).stat().st_size == 0:
            data.account.drop(identifier, "recording of zero bytes")
        else:
            translations = {}
            if code != ENGLISH and reading.sentence in english:
                translations["en"] = english[reading.sentence]
            elif code != ENGLISH:
                data.account.lacking["sentence in English"] += 1
            data.utterances.append(Utterance(id=identifier, speaker=identifier, language=language, audio=folder / file,
                                             text=reading.text, translations=translations))


def _read_table(table: Path, account: Account) -> dict[str, Reading]:
    """{file name: Reading}; the first of equal names counts."""
    readings: dict[str, Reading] = {}
    for sentence, file, raw in read_rows(table, ["id", "file_name", "raw_transcription"], account, header=COLUMNS):
        problem = None if sentence.isdigit() else "id is no number"
        if file in readings:
            problem = "file appears twice"
        if problem:
            account.rows += 1
            account.drop(f"{table.name}:{file}", problem)
        else:
            readings[file] = Reading(sentence, raw)
    return readings


def _folder(downloads: Path, code: str, unpacked: Path) -> Path:
    """The folder of a language: unpacked, or the Hugging Face repository's, or Google's archive unpacked."""
    for folder in (downloads / code, downloads / "data" / code, downloads / "fleurs" / code):
        if (folder / "test.tsv").is_file():
            return folder
    for archive in (downloads / f"{code}.tar.gz", downloads / "fleurs" / f"{code}.tar.gz"):
        if archive.is_file():
            root = unpack(archive, unpacked / "fleurs")
            return root / code if (root / code).is_dir() else root
    raise AudioPaLMError(f"FLEURS, {code}: neither {code}.tar.gz nor a folder {code} in {downloads}; the recipe's "
                         "README.md says how to obtain it")


def _table(downloads: Path, code: str, name: str, unpacked: Path) -> Path:
    return _folder(downloads, code, unpacked) / f"{name}.tsv"


def _audio(downloads: Path, code: str, name: str, unpacked: Path) -> Path:
    """The folder of a set's recordings; the Hugging Face repository packs each set on its own."""
    folder = _folder(downloads, code, unpacked) / "audio"
    if (folder / name).is_dir():
        return folder / name
    archive = folder / f"{name}.tar.gz"
    if archive.is_file():
        root = unpack(archive, unpacked / "fleurs" / f"{code}-audio")
        return root / name if (root / name).is_dir() else root
    raise AudioPaLMError(f"FLEURS, {code}: neither {folder / name}/ nor {archive} exists; fetch the language again")
