"""A hook of mkdocs: a link that leads out of docs/, good in the repository, becomes plain words on the built page."""

import re
from typing import Any

LINK = re.compile(r"\[([^\]]+)\]\((?:\.\./)+([^)#]+)[^)]*\)")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """`[Use an adapter](../README.md#use-an-adapter)` => `Use an adapter (README.md)`, on pages right below docs/."""
    if "/" in page.file.src_uri:
        return markdown
    return LINK.sub(lambda link: link[1] if link[2] in link[1] else f"{link[1]} ({link[2]})", markdown)
