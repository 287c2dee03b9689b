"""The first thing that runs in the single file: turns away a Python that is too old, in words that it understands."""

import gc
import sys

if sys.version_info < (3, 6):  # noqa: UP036 - Python 2 gets here when someone gives it the file by hand
    sys.stderr.write("singularity-probe: needs Python 3.6 or later, this is %s\n" % sys.version.split()[0])  # noqa: UP031 - see above
    sys.exit(3)

gc.disable()  # a short life with little garbage; each child would copy what a collection touches

from probe.cli import run_program  # noqa: E402 - after the collector is off, which importing sets off many times

run_program()
