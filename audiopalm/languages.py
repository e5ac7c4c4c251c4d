"""The languages: ISO 639 codes, and the word that names each language in a tag.

A new language is one more entry, `"eu": "Basque"`; no other code changes. A name differs from all other names, and is a
single word, because a tag such as `[AST Basque English]` is split at spaces.
"""

from audiopalm.core.errors import AudioPaLMError, nearest

LANGUAGES = {
    # the embedded corpus
    "en": "English", "es": "Spanish", "fr": "French", "it": "Italian", "ru": "Russian",
    # CoVoST 2, CVSS, VoxPopuli
    "ar": "Arabic", "ca": "Catalan", "cs": "Czech", "cy": "Welsh", "de": "German", "et": "Estonian", "fa": "Persian",
    "fi": "Finnish", "hr": "Croatian", "hu": "Hungarian", "id": "Indonesian", "ja": "Japanese", "lt": "Lithuanian",
    "lv": "Latvian", "mn": "Mongolian", "nl": "Dutch", "pl": "Polish", "pt": "Portuguese", "ro": "Romanian",
    "sk": "Slovak", "sl": "Slovenian", "sv": "Swedish", "ta": "Tamil", "tr": "Turkish", "zh": "Chinese",
    # FLEURS
    "af": "Afrikaans", "am": "Amharic", "as": "Assamese", "ast": "Asturian", "az": "Azerbaijani", "be": "Belarusian",
    "bg": "Bulgarian", "bn": "Bengali", "bs": "Bosnian", "ceb": "Cebuano", "ckb": "Sorani", "da": "Danish",
    "el": "Greek", "ff": "Fula", "fil": "Filipino", "ga": "Irish", "gl": "Galician", "gu": "Gujarati", "ha": "Hausa",
    "he": "Hebrew", "hi": "Hindi", "hy": "Armenian", "ig": "Igbo", "is": "Icelandic", "jv": "Javanese",
    "ka": "Georgian", "kam": "Kamba", "kea": "Kabuverdianu", "kk": "Kazakh", "km": "Khmer", "kn": "Kannada",
    "ko": "Korean", "ky": "Kyrgyz", "lb": "Luxembourgish", "lg": "Ganda", "ln": "Lingala", "lo": "Lao", "luo": "Luo",
    "mi": "Maori", "mk": "Macedonian", "ml": "Malayalam", "mr": "Marathi", "ms": "Malay", "mt": "Maltese",
    "my": "Burmese", "nb": "Norwegian", "ne": "Nepali", "nso": "Sepedi", "ny": "Nyanja", "oc": "Occitan",
    "om": "Oromo", "or": "Oriya", "pa": "Punjabi", "ps": "Pashto", "sd": "Sindhi", "sn": "Shona", "so": "Somali",
    "sr": "Serbian", "sw": "Swahili", "te": "Telugu", "tg": "Tajik", "th": "Thai", "uk": "Ukrainian",
    "umb": "Umbundu", "ur": "Urdu", "uz": "Uzbek", "vi": "Vietnamese", "wo": "Wolof", "xh": "Xhosa", "yo": "Yoruba",
    "yue": "Cantonese", "zu": "Zulu",
}


def language_name(code: str) -> str:
    """The word for a language in a tag. Raises AudioPaLMError for an unknown code."""
    if code not in LANGUAGES:
        raise AudioPaLMError(f"unknown language {code!r}; {nearest(code, LANGUAGES)}")
    return LANGUAGES[code]


def in_order(codes: set[str]) -> list[str]:
    """The codes in the order of LANGUAGES. Raises AudioPaLMError for an unknown code."""
    for code in sorted(codes):
        language_name(code)
    return [code for code in LANGUAGES if code in codes]
