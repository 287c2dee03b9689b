"""Conditions of what is around a start: what is bound, the environment, a script of the site's around the binary."""

from tests.lab.condition import Condition, hung, touching

# What the script does first.
WRAPPED = """
ln -s "$(readlink -f /lab/bin/apptainer)" /lab/real; rm /lab/bin/apptainer
program /lab/bin/apptainer <<'END'
#!/bin/sh
@FIRST@
exec /lab/real "$@"
END
"""
JOBS_ENVIRONMENT = '[ "${LD_LIBRARY_PATH-none}$PATH" = none/usr/bin:/bin ]'


def wrapped(first: str) -> str:
    """The shell that puts a script around the binary."""
    return WRAPPED.replace("@FIRST@", f'[ "$1" = --version ] || {first}')


CONDITIONS: dict[str, Condition] = {
    "wrapper-banner": Condition(
        "a script of the site's around the binary prints a banner on standard output",
        touches=touching("binary"),
        prepare=wrapped("echo Welcome to the cluster"),
    ),
    "wrapper-libraries": Condition(
        "the site sets LD_LIBRARY_PATH, and nothing starts with it, nor with another PATH than the system's",
        touches=touching("binary", "libraries", "path"),  # the factory's command has a PATH of its own
        prepare=wrapped(JOBS_ENVIRONMENT + " || { echo FATAL: no >&2; exit 255; }"),
        environment={"LD_LIBRARY_PATH": "/opt/site/lib"},
        factory_binary=("env", "-u", "LD_LIBRARY_PATH", "PATH=/usr/bin:/bin", "/lab/bin/apptainer"),
    ),
    "bind-hung": hung(
        "a folder of GLIDEIN_SINGULARITY_BINDPATH does not answer",
        "/hung/bind",
        "options",
        prepare="glidein_config GLIDEIN_SINGULARITY_BINDPATH /hung/bind:/data",
        factory_arguments=("--pid", "--bind", "/hung/bind:/data"),
        probe_arguments=("--config", "/lab/glidein_config"),
    ),
    "folder-colon": Condition(
        "the name of the working folder has a colon",
        touches=touching("work"),
        folder="/scratch/a:b",
        prepare='for name in factory probe; do mkdir -p /scratch/a:b/$name; chown "$GLIDEIN:" /scratch/a:b/$name; done',
    ),
    "storage": Condition(
        "there is a storage folder, which jobs get", touches=touching("storage"), prepare="mkdir /hadoop"
    ),
    "storage-hung": hung("the storage folder that jobs get does not answer", "/hadoop", "storage"),
}
