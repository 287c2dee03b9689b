"""URLs on their way into a report: no user name and no password goes with them."""

import re
from typing import Any, Iterable, List


def without_password(url: str) -> str:
    """A URL, or a text with URLs in it, without user and password."""
    # Up to the last @ of a word: passwords stand there unescaped. ; | and , separate a list of proxies.
    return re.sub(r"((?:\w+://)?)[^\s;|,]*@", r"\1", url)


def secrets(texts: Iterable[str]) -> List[str]:
    """What is for no report of the URLs that texts end with: ``user:password@`` (up to the last @, as above), and of http
    URLs what follows the path, which may be a token or a signature. The longest come first."""
    found = set()
    for scheme, rest in re.findall(r"(\w[\w+.-]*)://(.*)", "\n".join(texts)):
        path, mark, query = rest.partition("?") if scheme in ("http", "https") else (rest, "", "")
        user = re.match(r".*@(?!\w+:[0-9a-f]{32,}$)", path)  # no digest: docker://NAME@sha256:...
        found |= {mark + query, user.group() if user else ""}
    quoted = {text.replace("'", "'\"'\"'") for text in found}  # as in a command line
    return sorted((found | quoted) - {""}, key=len, reverse=True)


def hidden(value: Any, words: List[str]) -> Any:
    """JSON data without some words."""
    if isinstance(value, str):
        for word in words:
            value = value.replace(word, "")
        return value
    if isinstance(value, dict):
        return {hidden(key, words): hidden(item, words) for key, item in value.items()}
    return [hidden(item, words) for item in value] if isinstance(value, (list, tuple)) else value
