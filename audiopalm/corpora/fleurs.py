"""FLEURS (Conneau et al., arXiv 2205.12446): the same sentences read in 102 languages; for evaluation.

A table `{train,dev,test}.tsv` has no header and seven columns. Its `id` names the sentence, which one to three
people read, so an utterance is named by its file. The translation into English is the sentence of `en_us` with the same
id in the same set. The speakers are not published: each utterance counts as a speaker.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audiopalm.core.errors import AudioPaLMError, nearest
from audiopalm.corpora.archives import unpack
from audiopalm.corpora.data_set import DataSet, ReaderOptions, Utterance, compare, write_sets
from audiopalm.corpora.parquet import find_parquet, unpack_parquet
from audiopalm.corpora.recordings import look_at
from audiopalm.corpora.tables import Account, read_rows

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
ROWS = {  # rows of train, dev and test, for the languages for which they are published (TensorFlow Datasets)
    code: tuple(map(int, rows.split("/"))) for code, rows in (entry.split(":") for entry in """
    af_za:1032/198/264 am_et:3163/223/516 ar_eg:2104/295/428 as_in:2812/418/984 ast_es:2511/398/946
    az_az:2665/400/923 be_by:2433/408/967 ca_es:2300/404/940 ckb_iq:3040/386/922 cmn_hans_cn:3246/409/945
    cs_cz:2811/305/723 cy_gb:3427/447/1021 da_dk:2465/395/930 el_gr:3215/271/650 en_us:2602/394/647
    es_419:2796/408/908 et_ee:2501/387/893 fa_ir:3101/369/871 fr_fr:3193/289/676 ga_ie:2845/369/842
    gl_es:2175/395/927 gu_in:3145/432/1000 ha_ng:3259/296/621 he_il:3242/328/792 hi_in:2120/239/418
    hr_hr:3461/377/914 hu_hu:3095/407/905 hy_am:3053/395/932 id_id:2579/350/687 is_is:926/36/46 it_it:3030/391/865
    ja_jp:2292/266/650 jv_id:3051/295/728 ka_ge:1491/409/979 kea_cv:2715/366/864 kk_kz:3200/369/856
    km_kh:1675/326/771 ko_kr:2307/226/382 ky_kg:2818/422/977 lb_lu:2502/408/934 lg_ug:2478/306/723 ln_cd:3350/209/478
    lt_lt:2937/416/986 luo_ke:2384/102/256 lv_lv:2110/356/851 mk_mk:2337/415/973 ml_in:3043/418/958
    mn_mn:3074/405/949 mt_mt:2895/404/926 ne_np:3332/305/726 nso_za:1990/363/790 ny_mw:2694/311/761
    oc_fr:3379/427/998 om_et:1701/19/41 or_in:1081/392/883 pa_in:1923/251/574 pl_pl:2841/338/758 ps_af:2513/217/512
    pt_br:2793/386/919 ro_ro:2891/387/883 ru_ru:2562/356/775 sd_in:3443/426/980 so_so:3149/432/1019
    sr_rs:2944/290/700 sv_se:2385/330/759 sw_ke:3070/211/487 ta_in:2367/377/591 te_in:2302/311/472 tg_tj:2298/240/600
    tr_tr:2526/338/743 uk_ua:2810/325/750 umb_ao:1597/135/379 ur_pk:2109/267/299 vi_vn:2994/361/857
    zu_za:2858/354/854""".split())}


@dataclass(frozen=True)
class Reading:
    """A row of a table: one reading of a sentence."""

    sentence: str  # the id of the sentence
    text: str
    samples: str  # the number of samples that the table states


def short_code(code: str) -> str:
    """`fr_fr` -> `fr`, `cmn_hans_cn` -> `zh`: the code that data directories use."""
    language = code.partition("_")[0]
    return "zh" if language == "cmn" else language


def prepare(options: ReaderOptions) -> dict[str, Any]:
    """Write <output>/{train,dev,test} for the languages (FLEURS' codes) and return the report.

    Raises AudioPaLMError when a language is unknown or missing, when the tables of English are missing, or when more
    than `options.max_drop` of the rows of a set are dropped.
    """
    for code in options.languages:
        if code not in CODES:
            raise AudioPaLMError(f"FLEURS has no language {code!r}; {nearest(code, CODES)}")
    downloads, unpacked = options.downloads, options.unpacked
    sets = {name: DataSet() for name in SETS}
    english = {}
    for name in SETS:
        readings = _read_table(_folder(downloads, ENGLISH, unpacked) / f"{name}.tsv", Account()).values()
        english[name] = {reading.sentence: reading.text for reading in readings if reading.text.strip()}
    for code in options.languages or CODES:
        folder = _folder(downloads, code, unpacked)
        rows = [_read_set(folder, code, name, unpacked, english[name], data) for name, data in sets.items()]
        if code in ROWS:
            compare(f"FLEURS, {code}", "rows of train, dev, test", rows, ROWS[code])
    return write_sets(options.output, sets, options.max_drop)


def _read_set(language_folder: Path, code: str, name: str, unpacked: Path, english: dict[str, str],
              data: DataSet) -> int:
    """Add a set of one language to `data`; return the number of rows in its table."""
    before = data.account.rows
    data.account.begin(code)
    readings = _read_table(language_folder / f"{name}.tsv", data.account)
    folder = _audio(language_folder, code, name, unpacked)
    data.account.rows += len(readings)
    without_row = {path.name for path in folder.glob("*.wav")} - set(readings)
    if without_row:
        logging.warning("FLEURS, %s %s: %d recordings have no row, for example %s", code, name, len(without_row),
                        min(without_row))
    language = short_code(code)
    other_lengths = []
    for file, reading in readings.items():
        identifier = f"{code}-{file.removesuffix('.wav')}"
        recording = look_at(folder / file)
        if not reading.text.strip():
            data.account.drop(identifier, "empty sentence")
        elif recording.problem:
            data.account.drop(identifier, f"recording {recording.problem}")
        else:
            translations = {}
            if code != ENGLISH and reading.sentence in english:
                translations["en"] = english[reading.sentence]
            elif code != ENGLISH:
                data.account.lack(identifier, "sentence in English")
            if str(recording.frames) != reading.samples:
                other_lengths.append(f"{file} has {recording.frames} instead of {reading.samples}")
            data.utterances.append(Utterance(id=identifier, speaker=identifier, language=language, audio=folder / file,
                                             text=reading.text, translations=translations, seconds=recording.seconds))
    if other_lengths:
        logging.warning("FLEURS, %s %s: %d recordings have another number of samples than their row states, for "
                        "example %s", code, name, len(other_lengths), other_lengths[0])
    return data.account.rows - before


def _read_table(table: Path, account: Account) -> dict[str, Reading]:
    """{file name: Reading}; the first of equal names counts."""
    readings: dict[str, Reading] = {}
    columns = ["id", "file_name", "raw_transcription", "num_samples"]
    for sentence, file, raw, samples in read_rows(table, columns, account, header=COLUMNS):
        problem = None if sentence.isdigit() else "id is no number"
        if file in readings:
            problem = "file appears twice"
        if problem:
            account.rows += 1
            account.drop(f"{table.name}:{file}", problem)
        else:
            readings[file] = Reading(sentence, raw, samples)
    return readings


def _folder(downloads: Path, code: str, unpacked: Path) -> Path:
    """The folder of a language with its tables; where there are only archives or parquet files, they are unpacked."""
    for folder in (downloads / code, downloads / "data" / code, downloads / "fleurs" / code):
        if (folder / "test.tsv").is_file():
            return folder
    for archive in (downloads / f"{code}.tar.gz", downloads / "fleurs" / f"{code}.tar.gz"):
        if archive.is_file():
            root = unpack(archive, unpacked / "fleurs")
            return root / code if (root / code).is_dir() else root
    for place in ("parquet-data", "", "data", "fleurs"):
        files = find_parquet(downloads / place / code)
        if files:
            target = unpacked / "fleurs" / f"{code}-parquet"
            unpack_parquet(files, target)
            return target
    raise AudioPaLMError(f"FLEURS, {code}: neither {code}.tar.gz nor a folder {code} with tables or parquet files in "
                         f"{downloads}; the recipe's README.md says how to obtain it")


def _audio(language_folder: Path, code: str, name: str, unpacked: Path) -> Path:
    """The folder of a set's recordings. The Hugging Face repository has an archive for each set, which is unpacked."""
    folder = language_folder / "audio"
    if (folder / name).is_dir():
        return folder / name
    archive = folder / f"{name}.tar.gz"
    if archive.is_file():
        root = unpack(archive, unpacked / "fleurs" / f"{code}-audio")
        return root / name if (root / name).is_dir() else root
    raise AudioPaLMError(f"FLEURS, {code}: neither {folder / name}/ nor {archive} exists; fetch the language again")
