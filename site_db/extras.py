"""How the library of an optional part (an extra of pyproject.toml) is installed."""

import shlex
import sys

# As pyproject.toml has them; a test holds both together.
LIBRARIES = {
    "htcondor": "htcondor>=24",
    "parquet": "pyarrow>=17",
    "postgresql": "psycopg[binary]>=3.1",
    "rabbitmq": "pika>=1.3",
}


def how_to_install(extra: str) -> str:
    """What to do where the library of this extra is missing: a command for the Python that runs.

    By the library's own name: this package may be a checkout, a wheel or a copy, and each is installed in another way.
    """
    return f"Install it: {shlex.join([sys.executable, '-m', 'pip', 'install', LIBRARIES[extra]])}"
