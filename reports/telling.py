"""Telling of confirmed changes: a command or a webhook gets each of them once, as JSON."""

import shlex
import subprocess
from collections.abc import Callable
from datetime import datetime

import orjson
import requests

from site_db.changes_views import Change, mark_told, untold_changes
from site_db.errors import SiteDbError
from site_db.store import Store

_TIMEOUT_S = 60
Tell = Callable[[bytes], None]


class NotTold(SiteDbError):
    """A command or webhook did not take a change: it will be told again."""


def words_of(line: str) -> list[str]:
    """The program and its arguments, as a shell would part them. Raises ValueError for open quotes, or for nothing."""
    words = shlex.split(line)
    if not words:
        raise ValueError("no command")
    return words


def by_command(line: str) -> Tell:
    """Run a command with the change on its standard input; exit code 0 means that it took it. No shell is involved.

    Raises ValueError as words_of does.
    """
    words = words_of(line)

    def tell(body: bytes) -> None:
        try:
            subprocess.run(words, input=body, check=True, timeout=_TIMEOUT_S)
        except (OSError, subprocess.SubprocessError) as error:
            raise NotTold(f"{line}: {error}.", "Mend the command; the change is told again at the next run.") from error

    return tell


def by_webhook(url: str) -> Tell:
    """POST the change to a URL; any 2xx means that it took it."""

    def tell(body: bytes) -> None:
        try:
            headers = {"Content-Type": "application/json"}
            requests.post(url, data=body, headers=headers, timeout=_TIMEOUT_S).raise_for_status()
        except requests.RequestException as error:
            # Not its text: that has the URL, which is often the secret itself.
            status = f", HTTP {error.response.status_code}" if error.response is not None else ""
            what = f"The webhook failed: {type(error).__name__}{status}."
            raise NotTold(what, "The change is told again at the next run.") from None

    return tell


def tell_all(store: Store, tells: list[Tell], now: datetime) -> list[Change]:
    """Tell every confirmed change that was not told yet, and remember it after all took it. Raises NotTold."""
    told = []
    for change in untold_changes(store):
        body = orjson.dumps(change.to_dict())
        for tell in tells:
            tell(body)
        mark_told(store, change.id, now)
        told.append(change)
    return told
