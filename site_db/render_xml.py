"""Proposals as a fragment of the factory's XML: an `<entry>` with the `<attr>` lines to put into the real one.

Lines look as the factories' own do: attributes of an element in the same order, elements sorted by name.
"""

import re
from xml.sax.saxutils import escape

from site_db.proposals import Proposals
from site_db.rules import Attribute, Rules, default_rules
from site_db.storable import storable

# Beside the control characters, which storable() takes: no character in XML 1.0, not even as a reference.
_NO_CHARACTER = re.compile("[\ufffe\uffff]")


def render_xml(proposals: Proposals, rules: Rules | None = None) -> str:
    """The fragment, one well-formed `<entry>` element, ending with a line feed."""
    rules = rules or default_rules()
    lines = [
        f"            {render_attr(rules.attributes[item.attribute], item.value)}"
        for item in sorted(proposals.proposals, key=lambda item: item.attribute)
    ]
    entry = f"      <entry name={quoted(proposals.entry)}>"
    return "\n".join([entry, "         <attrs>", *lines, "         </attrs>", "      </entry>", ""])


def quoted(text: str) -> str:
    """`text` as the value of an XML attribute, quotes around it."""
    return f'"{escape_attribute(text)}"'


def escape_attribute(text: str) -> str:
    """`text` escaped for an XML attribute in double quotes; what XML can't hold becomes U+FFFD."""
    return escape(xml_text(text), {'"': "&quot;"})


def xml_text(text: str) -> str:
    """`text` without the characters that XML 1.0 can't hold."""
    return _NO_CHARACTER.sub("\ufffd", storable(text))


def render_attr(attribute: Attribute, value: str) -> str:
    """One `<attr .../>` as the factories' files write it."""
    values = {
        "name": attribute.name,
        "const": attribute.const,
        "glidein_publish": attribute.glidein_publish,
        "job_publish": attribute.job_publish,
        "parameter": attribute.parameter,
        "publish": attribute.publish,
        "type": attribute.type,
        "value": value,
    }
    return "<attr " + " ".join(f"{name}={quoted(str(item))}" for name, item in values.items()) + "/>"
