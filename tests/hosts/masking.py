"""Takes names out of a recorded host: whoever reads it learns what the machine can do, not whose it is.

Written for Python 3.6: scripts/capture-host runs it on the nodes that are captured.
"""

import ipaddress
import json
import re

UUID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", re.IGNORECASE)
IPV4 = re.compile(r"(?<![\w.-])\d{1,3}(?:\.\d{1,3}){3}(?![\w.-])")
IPV6 = re.compile(r"(?<![\w:.])[0-9a-f]{0,4}(?::[0-9a-f]{0,4}){2,7}(?![\w:.])", re.IGNORECASE)
MAC = re.compile(r"(?<![\w:])(?:[0-9a-f]{2}:){5}[0-9a-f]{2}(?![\w:])", re.IGNORECASE)
HOME = re.compile(r"(?<=/home/)[^/\s\"'\\:,]+")
# A name in a URL, and the server of an NFS mount.
SERVER = re.compile(r"(?<=://)[a-z0-9-]+(?:\.[a-z0-9-]+)+|(?<![\w./-])[a-z0-9-]+(?:\.[a-z0-9-]+)+(?=:/)", re.IGNORECASE)
# Public names that say nothing about a site.
PUBLIC = ("github.com", "docker.io")
SYSTEM_USERS = ("root", "nobody", "daemon")


class Masker:
    """Replaces what names a machine, a person or a place; the same name by the same word everywhere."""

    def __init__(self) -> None:
        self.masked = {}  # what was found: what stands for it
        self._words = []
        self._domains = []

    def word(self, found: str, instead: str) -> None:
        """Replace a word wherever it stands for itself."""
        if found and found != instead:
            self._words.append((re.compile(r"(?<![\w/.-])" + re.escape(found) + r"(?![\w-])"), instead))

    def path(self, found: str, instead: str) -> None:
        """Replace the beginning of paths."""
        if found and found not in ("/", instead):
            self._words.append((re.compile(r"(?<![\w/-])" + re.escape(found.rstrip("/")) + r"(?![\w.-])"), instead))

    def domain(self, name: str) -> None:
        """Replace the names of all machines of a domain."""
        if name:
            self._domains.append(
                re.compile(r"(?<![\w.-])(?:[\w-]+\.)*" + re.escape(name) + r"(?![\w-])", re.IGNORECASE)
            )

    def apply(self, text: str) -> str:
        """The text without names."""
        for pattern, instead in self._words:
            text = pattern.sub(lambda match, instead=instead: self._note(match.group(0), instead), text)
        for pattern in self._domains:
            text = pattern.sub(lambda match: self._numbered(match.group(0), "server{}.example"), text)
        text = UUID.sub(lambda match: self._numbered(match.group(0), "00000000-0000-4000-8000-{:012d}"), text)
        text = MAC.sub(lambda match: self._numbered(match.group(0), "02:00:00:00:00:{:02d}"), text)
        text = IPV4.sub(self._address, text)
        text = IPV6.sub(self._address, text)
        text = SERVER.sub(self._server, text)
        return HOME.sub(self._home, text)

    def _note(self, found: str, instead: str) -> str:
        if found != instead:
            self.masked[found] = instead
        return instead

    def _numbered(self, found: str, form: str) -> str:
        prefix = form.partition("{")[0]
        if found.startswith(prefix):
            return found  # masked already
        if found in self.masked:
            return str(self.masked[found])
        used = {instead for instead in self.masked.values() if instead.startswith(prefix)}
        return self._note(found, form.format(len(used) + 1))

    def _address(self, match: "object") -> str:
        found = match.group(0)
        try:
            address = ipaddress.ip_address(found)
        except ValueError:  # a version, a device number, a time
            return str(found)
        if address.is_loopback or address.is_unspecified:
            return str(found)
        return self._numbered(found, "192.0.2.{}" if address.version == 4 else "2001:db8::{}")

    def _server(self, match: "object") -> str:
        found = match.group(0)
        if found in PUBLIC or found.endswith(".example") or IPV4.match(found):
            return str(found)
        return self._numbered(found, "server{}.example")

    def _home(self, match: "object") -> str:
        found = match.group(0)
        return str(found) if re.match(r"user\d*$", found) else self._numbered(found, "user{}")


def masked_notes(notes: "dict", user: "object", home: "object", extra: "list") -> "tuple":
    """Notes without names, and what was masked. ``extra``: (found, instead) pairs of the one who captures."""
    masker = Masker()
    hostname = notes["facts"]["hostname"]
    for found, instead in extra:
        masker.word(found, instead)
    if home and str(home).count("/") > 1 and not str(home).startswith("/root"):
        masker.path(str(home), "/home/user")
    masker.word(hostname, "node")
    masker.word(hostname.partition(".")[0], "node")
    masker.domain(hostname.partition(".")[2])
    if user and user not in SYSTEM_USERS:
        masker.word(str(user), "user")
    for name in ("/etc/machine-id",):
        text = notes["reads"].get(name)
        if isinstance(text, str):
            masker.word(text.strip(), "0" * 32)
    return _walk(notes, masker), masker.masked


def _walk(value: "object", masker: Masker) -> "object":
    if isinstance(value, str):
        return masker.apply(value)
    if isinstance(value, dict):
        return {
            _key(key, masker): item if _is_version(key, item) else _walk(item, masker) for key, item in value.items()
        }
    return [_walk(item, masker) for item in value] if isinstance(value, (list, tuple)) else value


def _key(key: str, masker: Masker) -> str:
    """Names of attempts hold a path or an address after a topic: "network.10.0.0.1:80"."""
    topic = re.match(r"[a-z]+\.(?=\d|.*:\d+$)", key)
    return topic.group(0) + masker.apply(key[topic.end() :]) if topic else masker.apply(key)


def _is_version(key: str, value: "object") -> bool:
    # CVMFS's versions have four numbers, as an address has.
    return key == "version" and isinstance(value, str) and bool(re.match(r"[\d.]+$", value))


def to_text(document: "object") -> str:
    """JSON as the captured hosts are kept: one fact a line, so that changes can be read."""
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
