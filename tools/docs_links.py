"""Hook of mkdocs: the Markdown of docs/ names files by their path in the repository, the site links them.

- `docs/finetune.md` in backticks becomes a link to that page. A page that does not exist is a warning, so that a strict
  build fails.
- A link to a file outside docs/, `[text](../conf/README.md)`, becomes the text and the path: the site does not hold it.
"""

import logging
import re
from pathlib import Path
from typing import Any

LOG = logging.getLogger("mkdocs.hooks.docs_links")
FENCED = re.compile(r"(^```.*?^```[ \t]*$)", re.MULTILINE | re.DOTALL)
PAGE = re.compile(r"(?<!\[)`docs/([\w/-]+\.md)`(?!\])")
OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./([^)#\s]+)[^)]*\)")


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """The page with links, fenced code untouched; called by mkdocs."""
    pages = {file.src_uri for file in files.documentation_pages()}

    def link(match: re.Match) -> str:
        if match[1] not in pages:
            LOG.warning("%s: docs/%s does not exist", page.file.src_uri, match[1])
            return match[0]
        return f"[`docs/{match[1]}`]({match[1]})"

    def outside(match: re.Match) -> str:
        if not (Path(config["docs_dir"]).parent / match[2]).exists():
            LOG.warning("%s: %s does not exist", page.file.src_uri, match[2])
        text = match[1].strip("`")
        return f"`{match[2]}`" if text == match[2] else f"{match[1]} (`{match[2]}`)"

    parts = FENCED.split(markdown)
    return "".join(part if part.startswith("```") else OUTSIDE.sub(outside, PAGE.sub(link, part)) for part in parts)
