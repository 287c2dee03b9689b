"""URLs on their way into a report: no user name and no password goes with them."""

import re


def without_password(url: str) -> str:
    """A URL, or a text with URLs in it, without user and password."""
    return re.sub(r"//[^/@\s]*@", "//", url)
