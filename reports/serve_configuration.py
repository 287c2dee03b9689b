"""The configuration file of `site-db serve`: TOML, described by schema/serve-1.json, wrong members named by line."""

import ipaddress
import json
import tomllib
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
from jsonschema.exceptions import ValidationError

from reports.safe_text import printable, shorten
from reports.session import data_folder
from reports.settings import Settings
from reports.tokens.authorizer import Readers, TokenAuthorizer
from reports.tokens.grants import Grant, Names
from reports.tokens.jwks import ALGORITHMS, Source, fetch_keys, is_safe_url
from reports.tokens.keys import HMAC_ALGORITHM, KeySet, read_key_folder
from reports.tokens.rules import Rule, Rules
from reports.tokens.sources import LOG, OF_FOLDER, OF_ISSUER, KeySource
from reports.tokens.verifying import LEEWAY_S, Verifier
from reports.toml_lines import line_of
from site_db.errors import SiteDbError

_FILES = ("tls_certificate", "tls_key", "keys", "ca_file", "password_file")


class WrongConfiguration(SiteDbError):
    """The file cannot be read, or says what cannot be."""


class Configuration(NamedTuple):
    """What the file says. `server` and `queue` have the members of their tables; `authorizer` is None for the open mode."""

    server: dict[str, Any]
    limits: Settings
    authorizer: TokenAuthorizer | None
    queue: dict[str, Any]


def default_keys() -> Path:
    """The folder of keys where none is given, beside the default database."""
    return data_folder() / "keys"


def read_configuration(path: Path) -> Configuration:
    """Read a file. Relative paths in it start at its folder. Raises WrongConfiguration, KeyProblem."""
    document = read_document(path)
    authorizer = make_authorizer(document) if "tokens" in document else None
    limits = Settings(**document.get("limits", {}))
    return Configuration(document.get("server", {}), limits, authorizer, document.get("queue", {}))


def read_document(path: Path) -> dict[str, Any]:
    """The tables of a file, checked, with whole paths. Raises WrongConfiguration."""
    try:
        text = path.read_text(encoding="utf-8")
        document = tomllib.loads(text)
    except OSError as error:
        raise WrongConfiguration(
            f"{_shown(path)}: {error.strerror}.", "Give --config a file that can be read."
        ) from error
    except ValueError as error:  # not UTF-8, or not TOML: then it names the line
        raise WrongConfiguration(f"{_shown(path)}: {printable(str(error))}.", "It has to be TOML.") from error
    _check(document, text, path)
    _make_paths_whole(document, path.absolute().parent)
    return document


def make_authorizer(document: dict[str, Any]) -> TokenAuthorizer:
    """Who may write and read, by the tables of a checked document with [tokens]. Raises KeyProblem."""
    tokens, issuers = document["tokens"], document.get("issuer", [])
    verifier = Verifier(
        _factories(Path(tokens.get("keys", default_keys()))),
        {row["url"]: _issuer(row) for row in issuers},
        tokens["audience"],
        {row["url"]: row["audience"] for row in issuers if "audience" in row},
        tokens.get("leeway_s", LEEWAY_S),
    )
    of_issuer = {row["url"]: [_rule(rule) for rule in row["rule"]] for row in issuers}
    rules = Rules(of_issuer, document.get("sites", {}), tokens.get("trust_reported_site", False))
    return TokenAuthorizer(verifier, rules, _readers(document.get("readers", {})))


def _factories(folder: Path) -> KeySource:
    first, problems = read_key_folder(folder)
    if problems:
        raise problems[0]

    def load() -> KeySet:
        # While it runs, one bad file does not lock out the factories whose keys are good.
        keys, problems = read_key_folder(folder)
        for problem in problems:
            LOG.error("%s", problem)
        return keys

    return KeySource("factories", load, frozenset((HMAC_ALGORITHM,)), OF_FOLDER, first)


def _issuer(row: dict[str, Any]) -> KeySource:
    source = Source(row["url"], row.get("jwks_url"), row.get("ca_file"), row.get("algorithms", ALGORITHMS))
    return KeySource(source.issuer, lambda: fetch_keys(source), frozenset(source.algorithms), OF_ISSUER)


def _rule(row: dict[str, Any]) -> Rule:
    grant = (
        Grant(*(Names.matching(row[name]) for name in ("factories", "entries", "sites"))) if "entries" in row else None
    )
    return Rule(row.get("subject"), row.get("scope"), row.get("group"), grant, row.get("read", False))


def _readers(table: dict[str, Any]) -> Readers:
    networks = [ipaddress.ip_network(text) for text in table.get("proxies", [])]
    return Readers(table.get("everybody", False), networks, table.get("proxy_header", Readers().header))


@cache
def schema() -> dict[str, Any]:
    """The JSON Schema of the file."""
    found: dict[str, Any] = json.loads(files("reports").joinpath("schema", "serve-1.json").read_bytes())
    return found


def _check(document: dict[str, Any], text: str, path: Path) -> None:
    problems = [_found(error) for error in jsonschema.Draft202012Validator(schema()).iter_errors(document)]
    problems = problems or _impossible(document)
    if not problems:
        return
    told = []
    for steps, detail in problems:
        line = line_of(text, steps)
        where = f"{_shown(path)}:{line}" if line else _shown(path)
        told.append(f"{where}: {'.'.join(map(str, steps)) or 'the file'}: {detail}")
    raise WrongConfiguration("; ".join(told[:5]), "docs/collector.md lists what there is.")


def _found(error: ValidationError) -> tuple[tuple[str | int, ...], str]:
    """Where an error is, the wrong member itself for one that is not known, and what it is."""
    steps = tuple(error.absolute_path)
    if (
        error.validator == "additionalProperties"
        and isinstance(error.schema, dict)
        and isinstance(error.instance, dict)
    ):
        known = error.schema["properties"]
        wrong = next(name for name in error.instance if name not in known)
        return (*steps, wrong), f"is not known here; known are {', '.join(known)}"
    return steps, shorten(error.message, 300)


def _impossible(document: dict[str, Any]) -> list[tuple[tuple[str | int, ...], str]]:
    """What the schema cannot say."""
    found: list[tuple[tuple[str | int, ...], str]] = []
    urls = [row["url"] for row in document.get("issuer", [])]
    for number, row in enumerate(document.get("issuer", [])):
        for name in ("url", "jwks_url"):
            if name in row and not is_safe_url(row[name]):
                found.append((("issuer", number, name), "must be an https address (http only on this machine)"))
        if row["url"] in urls[:number]:
            found.append((("issuer", number, "url"), "is given twice"))
    for number, network in enumerate(document.get("readers", {}).get("proxies", [])):
        try:
            ipaddress.ip_network(network)
        except ValueError as error:
            found.append((("readers", "proxies", number), str(error)))
    return found


def _make_paths_whole(document: dict[str, Any], folder: Path) -> None:
    tables = [*(document.get(name, {}) for name in ("server", "tokens", "queue")), *document.get("issuer", [])]
    for table in tables:
        for name in _FILES:
            if name in table:
                table[name] = str(folder / Path(table[name]).expanduser())


def _shown(path: Path) -> str:
    return printable(str(path))
