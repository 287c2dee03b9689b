"""Small factory files, made for tests."""

from collections.abc import Mapping
from pathlib import Path
from xml.sax.saxutils import quoteattr

from tests.sample_reports import sample_report

ENTRY = sample_report()["glidein"]["entry"]
SITE, RESOURCE = "Example-T2", "Example-T2-CE1"


def factory_xml(entries: Mapping[str, Mapping[str, str]], enabled: str = "True") -> str:
    """A factory's file with these entries; GLIDEIN_Site and GLIDEIN_ResourceName are put in where they are missing."""
    lines = ["<glidein>", "   <entries>"]
    for name, given in entries.items():
        attrs = {"GLIDEIN_Site": SITE, "GLIDEIN_ResourceName": RESOURCE, **given}
        lines.append(f'      <entry name="{name}" enabled="{enabled}" gatekeeper="ce1.example.org ce1.example.org:9619">')
        lines.append("         <attrs>")
        lines += [
            f'            <attr name="{key}" const="True" publish="True" type="string" value={quoteattr(value)}/>'
            for key, value in sorted(attrs.items())
        ]
        lines += ["         </attrs>", "      </entry>"]
    return "\n".join([*lines, "   </entries>", "</glidein>", ""])


def write_factory(folder: Path, entries: Mapping[str, Mapping[str, str]], name: str = "10.xml", **more: str) -> Path:
    path = folder / name
    path.write_text(factory_xml(entries, **more), encoding="utf-8")
    return path


POLICY = """
[[policy]]
action = "{action}"
target = "{target}"
author = "operator@example.org"
reason = "ticket 4711"
dated = 2026-11-01
expires = {expires}
"""


def write_policy(folder: Path, action: str, target: str, expires: str = "2027-01-31") -> Path:
    path = folder / f"{action}.toml"
    path.write_text(POLICY.format(action=action, target=target, expires=expires), encoding="utf-8")
    return path
