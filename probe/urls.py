"""URLs on their way into a report: no user name and no password goes with them."""

import re


def without_password(url: str) -> str:
    """A URL, or a text with URLs in it, without user and password."""
    # Up to the last @ of a word: passwords stand there unescaped. ; | and , separate a list of proxies.
    return re.sub(r"((?:\w+://)?)[^\s;|,]*@", r"\1", url)
