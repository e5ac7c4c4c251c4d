"""The form of all texts of the embedded corpus: letters and apostrophes, single spaces."""

import re

WORD = r"[^\W\d_]+(?:'[^\W\d_]+)*'?"
NORMAL_FORM = re.compile(f"{WORD}(?: {WORD})*")
