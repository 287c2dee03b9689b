"""A stand-in for glidein_startup.sh and its periodic wrapper: what they do with a custom script and its files.

Made from what docs/glideins.md says of ten releases, not from their code. Two contracts: "old", where the list of scripts
is the scripts' stdin, there is no gconfig_add and no GLIDEIN_PERIODIC_SCRIPT; "new", where it is otherwise. Functions for
scripts are in a file that only bash can read.
"""

import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import classad2

BASE = [
    "# written by the start-up script",
    "ADD_CONFIG_LINE_SOURCE {work}/helpers.source",
    "CONDOR_VARS_FILE {work}/condor_vars.lst",
    "ERROR_GEN_PATH {work}/error_gen.sh",
    "GLIDEIN_WORK_DIR {work}/main",
    "GLIDEIN_Site Old Name",
    "GLIDEIN_Site A Site with blanks",
    "GLIDEIN_Site_Extra no site",
    "GLIDEIN_Entry_Name Entry_1",
    "WITH_CR a value\r",
    "UMLAUT caf\udce9 not UTF-8",
    "EMPTY ",
]
VARS = ["# name type default condor required publish env", "GLIDEIN_Site S - + N Y +", "X509_EXPIRE I - + N Y -"]

# A change as their functions make it: copy, take the old line out, append, rename. Bash only.
HELPERS = r"""
shopt -s extglob
add_config_line() {
    [[ -n "$glidein_config" ]] || exit 1
    local copy="$glidein_config.$$.copy" new="$glidein_config.$$.new"
    cp -p "$glidein_config" "$copy" || { rm -f "$copy"; return 1; }
    { grep -a -v "^$1 " "$copy"; echo "$@"; } >"$new" && mv "$new" "$glidein_config"
    rm -f "$copy" "$new"
}
add_condor_vars_line() {
    mv "$condor_vars_file" "$condor_vars_file.old"
    grep -v "^$1\b" "$condor_vars_file.old" >"$condor_vars_file"
    echo "$@" >>"$condor_vars_file"
    rm -f "$condor_vars_file.old"
}
"""
NEW_HELPERS = HELPERS + 'gconfig_add() { add_config_line "$@"; }\n'

STARTUP = r"""
cd "$1" || exit 9
run() {
    rm -f otrb_output.xml
    "$1" glidein_config "$2"
    code=$?
    echo "$1 $code" >>order
    [[ $code -eq 0 ]]
}
if [[ $2 == old ]]; then
    while read -r script id; do run "$script" "$id" || exit 1; done <scripts
else
    while read -r script id <&3; do run "$script" "$id" </dev/null || exit 1; done 3<scripts
fi
"""

PERIODIC = r"""
cd "$1" || exit 9
temporary=$(mktemp -d -p "$1") && cd "$temporary" || exit 9
[[ $2 == new ]] && export GLIDEIN_PERIODIC_SCRIPT=true
"$1/singularity-probe" "$1/glidein_config" main
code=$?
cp otrb_output.xml "$1/otrb_periodic.xml"
echo -
cd "$1" && rm -r "$temporary"
exit $code
"""

# Starts the payload of a folder, for a SIF that of the folder beside it; no container is made.
RUNTIME = r"""#!/bin/sh
case $1 in --version) echo apptainer version 1.4.5; exit ;; esac
while [ $# -gt 1 ]; do
    case $1 in
        */image) root=$1 program=$2 ;;
        *.sif) root=$(dirname "$1")/image program=$2 ;;
        *) shift; continue ;;
    esac
    shift 2
    exec "$root$program" "$@"
done
exit 255
"""


class Ended(NamedTuple):
    """How a part of the stand-in ended."""

    code: int
    stdout: str
    stderr: str


class Glidein:
    """A glidein's work folder."""

    def __init__(self, work: Path, program: Path, contract: str = "new", *, settings: Mapping[str, str] | None = None) -> None:
        self.work, self.contract = work, contract
        (work / "bin").mkdir(parents=True)
        (work / "main").mkdir()
        self.base = [line.format(work=work) for line in BASE]
        lines = self.base + [f"{name} {value}" for name, value in (settings or {}).items()]
        (work / "glidein_config").write_bytes("".join(line + "\n" for line in lines).encode(errors="surrogateescape"))
        (work / "condor_vars.lst").write_text("".join(line + "\n" for line in VARS))
        (work / "helpers.source").write_text(NEW_HELPERS if contract == "new" else HELPERS)
        shutil.copy(program, work / "singularity-probe")
        self.script("bin/apptainer", RUNTIME)
        script = '#!/bin/bash\n. "{work}/helpers.source"\nglidein_config=glidein_config\nadd_config_line {name} ran\n'
        for name in ("BEFORE", "AFTER", "LAST"):
            self.script(name.lower(), script.format(work=work, name=name))
        (work / "scripts").write_text("./before main\n./singularity-probe main\n./after main\n./last client\n")

    def script(self, name: str, text: str) -> None:
        """An executable file in the work folder."""
        (self.work / name).write_text(text)
        (self.work / name).chmod(0o755)

    def start(self, shell: str | None = None, **environment: str) -> Ended:
        """All scripts of the list, as at a glidein's start."""
        return self._bash(STARTUP, shell, environment)

    def run_periodically(self, shell: str | None = None, **environment: str) -> Ended:
        """One periodic run."""
        return self._bash(PERIODIC, shell, environment)

    def _bash(self, script: str, shell: str | None, environment: Mapping[str, str]) -> Ended:
        command = ["bash", "-c", script, "standin", str(self.work), self.contract]
        if shell:  # what /bin/sh is on this glidein's node
            bind = 'mount --bind "$0" "$(readlink -f /bin/sh)" && exec "$@"'
            command = ["unshare", "--mount", "bash", "-c", bind, shell, *command]
        path = f"{self.work}/bin:/usr/local/bin:/usr/bin:/bin"
        ended = subprocess.run(
            command,
            env={"PATH": path, "HOME": str(self.work), **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=90,
        )
        return Ended(ended.returncode, ended.stdout.decode(), ended.stderr.decode())

    def order(self) -> list[str]:
        """The scripts that ran, each with its exit code."""
        return (self.work / "order").read_text().splitlines()

    def config_lines(self) -> list[str]:
        """glidein_config's lines, bytes that are no UTF-8 as surrogates."""
        content = (self.work / "glidein_config").read_bytes().decode(errors="surrogateescape")
        assert content.endswith("\n")
        return content[:-1].split("\n")

    def config(self) -> dict[str, str]:
        """glidein_config as its readers take it: the last line of a name wins."""
        return dict(line.partition(" ")[::2] for line in self.config_lines() if not line.startswith("#"))

    def rows(self) -> list[list[str]]:
        """The rows of the condor vars file."""
        lines = (self.work / "condor_vars.lst").read_text().splitlines()
        return [line.split() for line in lines if not line.startswith("#")]

    def ad(self) -> classad2.ClassAd:
        """The machine ad, as condor_startup.sh and HTCondor make it of the two files."""
        config, lines = self.config(), []
        for name, kind, _default, _condor, _required, publish, _job in self.rows():
            if publish == "Y" and config.get(name):
                value = config[name].rstrip("\r")
                lines.append(f'{name} = "{value}"' if kind == "S" else f"{name} = {value}")
        return classad2.parseOne("\n".join(lines))

    def result(self, name: str = "otrb_output.xml") -> ElementTree.Element:
        """What the script left for the start-up script."""
        return ElementTree.parse(self.work / name).getroot()

    def leftovers(self) -> list[str]:
        """Files that no run should leave in the work folder."""
        names = [path.name for path in self.work.iterdir()]
        return [name for name in names if "singularity-probe." in name or name.startswith("tmp.")]


def ad_of(lines: str) -> classad2.ClassAd:
    """A periodic run's output as the startd reads it: an ad ends at a line that begins with a dash."""
    body, dash, rest = lines.rpartition("-\n")
    assert (dash, rest) == ("-\n", "")
    assert not any(line.startswith("-") for line in body.splitlines())
    return classad2.parseOne(body)
