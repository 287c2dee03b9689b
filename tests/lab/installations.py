"""How Apptainer is installed on a node: with a setuid starter, or behind environment modules.

Debian's build leaves out the starter that is to be setuid; it is a copy of the other one that root owns and that has the
bit (apptainer, mlocal/frags/build_runtime_suid.mk). With it Apptainer is not relocatable any more, so the lab's own is laid
over the node's /usr, /etc and /var/lib, where packages have theirs.
"""

from typing import Any

from tests.lab.condition import Condition, configured, refusing, touching

SETUID = r"""
layer() {  # FOLDER LAYERS: their files are seen in the folder, too
    mount -t overlay lab-layer -o "lowerdir=$2:$1" "$1"
}
prefix=${APPTAINER%/bin/apptainer}  # .../usr
starter=$(ls -d "$prefix"/lib*/apptainer/bin/starter "$prefix"/lib/*/apptainer/bin/starter 2> /dev/null | head -n 1)
libraries=${starter%/apptainer/bin/starter}
place=/usr${libraries#"$prefix"}
SETUID_STARTER=$place/apptainer/bin/starter-suid
mkdir -p /lab/setuid/apptainer/bin
cp "$starter" /lab/setuid/apptainer/bin/starter-suid
chmod 4755 /lab/setuid/apptainer/bin/starter-suid
@CHANGE@
if [ "$prefix" = /usr ]; then
    layer "$place" /lab/setuid
else
    layer "$place" "/lab/setuid:$libraries"
    layer /usr/bin "$prefix/bin"
    layer /etc "${prefix%/usr}/etc"
    layer /var/lib "${prefix%/usr}/var/lib"
    mount --bind /lab/apptainer.conf /etc/apptainer/apptainer.conf
    ln -sf /usr/bin/apptainer /lab/bin/apptainer
fi
"""


def setuid(about: str, change: str = "", then: str = "", **fields: Any) -> Condition:  # noqa: ANN401  fields of Condition
    """A setuid installation; `change` is shell that spoils the starter, `then` shell that spoils where it is."""
    return Condition(about, touches=touching("binary"), prepare=SETUID.replace("@CHANGE@", change) + then, **fields)


# Nothing on PATH, and the system's environment modules, one of which may give a singularity.
MODULES = r"""
rm /lab/bin/apptainer
mkdir -p /lab/module/bin /lab/modulefiles
case $APPTAINER in
    /usr/bin/*) cp "$APPTAINER" /lab/module/bin/singularity; hide "$APPTAINER" ;;
    *) ln -s "$APPTAINER" /lab/module/bin/singularity ;;
esac
modulefile() {  # NAME COMMAND: a module of one command
    printf '#%%Module\n%s\n' "$2" > "/lab/modulefiles/$1"
}
"""
INIT = '. /usr/share/modules/init/bash; module use /lab/modulefiles; exec "$@"'
# GlideinWMS: singularity_test_bin with "module,singularitypro" and "module,singularity". The shell between, dash, has
# dropped the function.
LOADED = """
. /usr/share/modules/init/bash
for name in singularitypro singularity; do
    path=$(module load $name > /dev/null 2>&1; which singularity) && exec "$path" "$@"
done
"""


def module(about: str, prepare: str, **fields: Any) -> Condition:  # noqa: ANN401  fields of Condition
    """Apptainer is to be had by `module load` at best; `prepare` is shell that makes modulefiles."""
    return Condition(
        about,
        touches=touching("binary", "path", "options"),
        prepare=MODULES + prepare,
        wrapper=("/bin/bash", "-c", INIT, "glidein"),
        factory_binary=("/bin/bash", "-c", LOADED, "glidein"),
        **fields,
    )


def subuid(about: str, rows: str, then: str = "") -> Condition:
    """What --fakeroot goes by: the user's subordinate ids."""
    table = f"printf '{rows}' > /lab/subuid; for file in /etc/subuid /etc/subgid; do mount --bind /lab/subuid $file; done"
    return Condition(about, touches=touching("fakeroot"), prepare=f"{table}\n{then}")


# A file system that its owner alone may look into: root's programs, a setuid starter among them, are refused.
PRIVATE_IMAGE = r"""
mkdir /lab/private /lab/private-image
cp "$(command -v squashfuse)" /lab/private/
mksquashfs "$IMAGE" /lab/private/image.squashfs -quiet -no-progress > /dev/null
chown "$GLIDEIN:" /lab/private-image
runuser -u "$GLIDEIN" -- /lab/private/squashfuse /lab/private/image.squashfs /lab/private-image
"""


CONDITIONS: dict[str, Condition] = {
    "setuid": setuid("Apptainer is installed with a setuid starter"),
    "setuid-bit_missing": setuid("the starter has lost its setuid bit", "chmod 755 /lab/setuid/apptainer/bin/starter-suid"),
    "setuid-owner_wrong": setuid(
        "the setuid starter does not belong to root",
        'chown "$GLIDEIN:" /lab/setuid/apptainer/bin/starter-suid; chmod 4755 /lab/setuid/apptainer/bin/starter-suid',
    ),
    "setuid-group_only": setuid(
        "the setuid starter is for a group that the user is not in", "chmod 4750 /lab/setuid/apptainer/bin/starter-suid"
    ),
    "setuid-nosuid": setuid(
        "the setuid starter lies on a file system that is mounted nosuid", then='mount -o remount,bind,nosuid "$place"'
    ),
    "bounding-no_sys_admin": Condition(
        "CAP_SYS_ADMIN is out of reach even for setuid programs, as in an ordinary container",
        touches=touching("privileges", "user"),
        before_user=("setpriv", "--bounding-set=-sys_admin"),
    ),
    "config-owners": refusing("limit container owners", "nobody", "images have to belong to a certain user"),
    "config-groups": refusing("limit container groups", "nogroup", "images have to belong to a certain group"),
    "config-kernel_squashfs": configured("allow setuid-mount squashfs", "yes", "SIF images are mounted by the kernel"),
    "module-singularity": module(
        "Apptainer is behind the module singularity", "modulefile singularity 'prepend-path PATH /lab/module/bin'"
    ),
    "module-singularitypro": module(
        "Apptainer is behind the module singularitypro", "modulefile singularitypro 'prepend-path PATH /lab/module/bin'"
    ),
    "module-none": module("there are environment modules, but none for Singularity", ""),
    "module-other_name": module(
        "the module singularity has no program of this name",
        """
mv /lab/module/bin/singularity /lab/module/bin/apptainer
modulefile singularity 'prepend-path PATH /lab/module/bin'
""",
    ),
    "module-hangs": module(
        "the module never loads", "modulefile singularitypro 'exec sleep 1000'", deadline_s=20.0, least_deadline_s=20.0,
        factory_limit_s=1.0,
    ),
    "newuidmap-missing": subuid(
        "the user has subordinate ids, and newuidmap is not installed",
        "glidein:165536:65536\\n",
        "hide newuidmap newgidmap",
    ),
    "subuid-none": subuid("the user has no subordinate ids: --fakeroot maps root alone", ""),
    "image-private": Condition(
        "the image lies on the user's own FUSE mount, as cvmfsexec makes them",
        touches=touching("image", "fuse", "squashfuse"),
        prepare=PRIVATE_IMAGE,
        probe_arguments=("--image", "/lab/private-image"),
    ),
}
