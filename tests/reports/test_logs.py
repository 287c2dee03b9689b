import logging
import sys

from reports.logs import OneLineFormatter


def test_a_stranger_cannot_forge_a_line_or_steer_the_terminal():
    try:
        raise ValueError("bad\x1b[2J\nERROR forged")
    except ValueError:
        record = logging.LogRecord("site_db", logging.ERROR, "", 0, "from %s", ("x\r\ny\u202e",), sys.exc_info())
    first, *rest = OneLineFormatter("%(levelname)s %(message)s").format(record).split("\n")
    assert first == "ERROR from x\\r"
    assert rest[0] == "    | y\\u202e"
    assert "    | ERROR forged" in rest
    assert all(line.startswith("    | ") and line.isprintable() for line in rest)
