"""Proposals as a fragment of OSG's autoconf YAML: `ENTRY: attrs: NAME: {value: ...}`, to put under its gatekeeper.

Two quirks of what reads it. The factory's generator pastes values into XML as they are (its own files write `&quot;`),
so values are escaped for XML here. It reads YAML 1.1, where `NO`, `12:30` and `1_0` are no texts: every text is quoted.
"""

import io
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from site_db.proposals import Proposal, Proposals
from site_db.render_xml import escape_attribute, xml_text
from site_db.rules import Attribute, Rules, default_rules

# What the generator takes where nothing is said: an attribute's own defaults here are the same.
_FLAGS = ("const", "glidein_publish", "job_publish", "parameter", "publish")


def render_yaml(proposals: Proposals, rules: Rules | None = None) -> str:
    """The fragment: one mapping, from the entry's name to its attributes."""
    rules = rules or default_rules()
    attrs = {
        item.attribute: _fields(item, rules.attributes[item.attribute])
        for item in sorted(proposals.proposals, key=lambda item: item.attribute)
    }
    text = io.StringIO()
    yaml = YAML()
    yaml.width = 1 << 20  # no folding
    yaml.dump({DoubleQuotedScalarString(xml_text(proposals.entry)): {"attrs": attrs}}, text)
    return text.getvalue()


def _fields(proposal: Proposal, attribute: Attribute) -> dict[str, Any]:
    fields: dict[str, Any] = {"value": DoubleQuotedScalarString(escape_attribute(proposal.value))}
    if attribute.type != "string":
        fields["type"] = attribute.type
    usual = Attribute("", "", attribute.pattern)
    unusual = [flag for flag in _FLAGS if getattr(attribute, flag) != getattr(usual, flag)]
    return fields | {flag: getattr(attribute, flag) for flag in unusual}
