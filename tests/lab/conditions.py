"""What can be wrong on a node, as data: each condition is made for real inside throw-away namespaces."""

from typing import Any

from tests.lab import installations, surroundings
from tests.lab.condition import (
    CONFIG_FILE,
    DROP,
    HANG,
    HUNG_DEADLINE_S,
    OWN_LIMITS,
    Condition,
    Mounted,
    binary,
    configured,
    environment,
    hung,
    limited,
    own_limits,
    refusing,
    seccomp,
    touching,
)

# The descriptor keeps the namespace alive, and counted, without a process.
HOLD_ONE_USERNS = f"""
echo 1 > /proc/sys/user/max_user_namespaces
unshare --user sleep 60 & holder=$!
until [ "$(readlink /proc/$holder/ns/user)" != "$(readlink /proc/self/ns/user)" ]; do :; done
exec 9< /proc/$holder/ns/user
kill $holder; wait $holder 2> /dev/null
{DROP} "$@" 9<&-
"""
VERSION_IS_FINE = '[ "$1" = --version ] && { echo apptainer version 1.4.5; exit 0; }'
MASKED_AS_BY_DOCKER = """
for path in /proc/kcore /proc/keys /proc/timer_list /proc/acpi /proc/scsi; do
    if [ -d $path ]; then mount -t tmpfs -o ro lab-mask $path
    elif [ -e $path ]; then mount --bind /dev/null $path
    fi
done
for path in /proc/bus /proc/fs /proc/irq /proc/sys /proc/sysrq-trigger; do
    if [ -e $path ]; then mount --bind $path $path; mount -o remount,bind,ro $path; fi
done
"""
NESTED = r"""
mkdir -p /lab/nested/usr /lab/nested/etc /lab/nested/var/lib /lab/nested/proc /lab/nested/sys /lab/nested/dev /lab/nested/tmp
for name in bin sbin lib lib64; do [ ! -L /$name ] || cp -P /$name /lab/nested/; done
mkdir "$GLIDEIN_HOME/.apptainer"; chown "$GLIDEIN:" "$GLIDEIN_HOME/.apptainer"
program /lab/nested-run <<END
#!/bin/sh
[ ! -e /cvmfs ] || cvmfs=,/cvmfs
exec "$APPTAINER" -q exec --bind /usr,/etc,/var/lib,/lab,/scratch,/reports,/var/tmp\$cvmfs /lab/nested \\
    env -u APPTAINER_BIND -u SINGULARITY_BIND "PATH=\$PATH" "\$@"
END
"""
OASIS, CMS = "oasis.opensciencegrid.org", "cms.cern.ch"
# GlideinWMS: singularity_locate_bin tests one program after the other with the start that is to be made.
SEARCH = """
for program in @ORDER@; do
    [ -e "$program" ] && map=$("$program" "$@") && [ "$map" ] && echo "$map" && exit 0
done
exit 1
"""
OSG_BIN = f"/cvmfs/{OASIS}/mis/singularity/bin"
ORDER = f"{OSG_BIN}/apptainer {OSG_BIN}/singularity $(command -v apptainer)".split(maxsplit=2)
SEARCHED = ("/bin/bash", "-c", SEARCH.replace("@ORDER@", " ".join(ORDER)), "glidein")
SEARCHED_LAST = ("/bin/bash", "-c", SEARCH.replace("@ORDER@", " ".join(ORDER[::-1])), "glidein")


def osg(about: str, prepare: str, search: tuple[str, ...] = SEARCHED, **fields: Any) -> Condition:  # noqa: ANN401  fields
    """OSG's folder of binaries, $osg, filled by `prepare`."""
    return Condition(
        about,
        touches=touching("cvmfs", "binary", "options"),
        prepare=f"osg={OSG_BIN}; mkdir -p $osg\n{prepare}",
        factory_binary=search,
        **fields,
    )


CONDITIONS: dict[str, Condition] = {
    "root": Condition(
        "the glidein runs as root, and apptainer.conf gives root no capabilities",
        touches=touching("user", "configuration"),
        user="root",
        prepare="configure 'root default capabilities' no",
    ),
    "no_singularity": Condition(
        "no Apptainer and no Singularity anywhere",
        touches=touching("binary", "path"),
        prepare='rm /lab/bin/apptainer; hide "$APPTAINER"',
    ),
    "userns-disabled": Condition(
        "user.max_user_namespaces is 0",
        touches=touching("userns"),
        wrapper=own_limits("max_user_namespaces 0"),
    ),
    "userns-few": Condition(
        "user.max_user_namespaces is 6: enough for one job, not for many at once",
        touches=touching("userns"),
        wrapper=own_limits("max_user_namespaces 6"),
    ),
    "userns-used_up": Condition(
        "user.max_user_namespaces is 1, and the one is taken",
        touches=touching("userns"),
        wrapper=(*OWN_LIMITS, HOLD_ONE_USERNS, "lab"),
    ),
    "proc_masked": Condition(
        "an outer container masks a part of /proc",
        touches=touching("proc"),
        prepare="mount --bind /dev/null /proc/keys",
    ),
    "fuse-denied": Condition(
        "/dev/fuse belongs to root alone (mode 0600)",
        touches=touching("fuse"),
        prepare="chmod 600 /dev/fuse",
    ),
    "user_unknown": Condition(
        "the user has no passwd entry",
        touches=touching("user", "home"),
        user="54321",
        prepare='chown 54321:54321 "$GLIDEIN_HOME" /scratch/factory /scratch/probe',
    ),
    "cvmfs": Condition(
        "two repositories of CVMFS are mounted and fine",
        touches=touching("cvmfs"),
        mounts=(Mounted(f"/cvmfs/{OASIS}"), Mounted(f"/cvmfs/{CMS}")),
    ),
    "cvmfs-one_hung": Condition(
        "one of two repositories does not answer",
        touches=touching("cvmfs"),
        mounts=(Mounted(f"/cvmfs/{OASIS}"), Mounted(f"/cvmfs/{CMS}", HANG)),
        deadline_s=12.0,
    ),
    "cvmfs-dead": Condition(
        "the client of a repository was killed: its mount answers ENOTCONN",
        touches=touching("cvmfs"),
        mounts=(Mounted(f"/cvmfs/{CMS}", dies=True),),
    ),
    "image-missing": Condition(
        "the image that jobs ask for is not there",
        touches=touching("image"),
        probe_arguments=("--image", "/scratch/no/such/image"),
    ),
    "fuse-missing": Condition("there is no /dev/fuse", touches=touching("fuse"), prepare="rm /dev/fuse"),
    "fusermount-missing": Condition(
        "fusermount is not installed", touches=touching("fusermount"), prepare="hide fusermount fusermount3"
    ),
    "squashfuse-missing": Condition(
        "squashfuse is not installed",
        touches=touching("squashfuse"),
        prepare="hide squashfuse squashfuse_ll",
    ),
    # --- scratch, home, identity ---
    "scratch-full": Condition(
        "the file system of the working folder is full",
        touches=touching("work"),
        prepare="fill /scratch",
    ),
    "scratch-out_of_inodes": Condition(
        "the file system of the working folder has no inodes left",
        touches=touching("work"),
        prepare="change nr_inodes=4 /scratch; touch /scratch/last",
    ),
    "scratch-read_only": Condition(
        "the file system of the working folder is read-only",
        touches=touching("work"),
        prepare="change ro /scratch",
    ),
    "scratch-all_full": Condition(
        "the disk is full: the working folder, /tmp and /var/tmp",
        touches=touching("work", "tmp"),
        prepare="fill /scratch /tmp /var/tmp",
    ),
    "scratch-and_memory_full": Condition(
        "the disk is full, and /dev/shm is, too: our own image has no place, and the glidein's decides",
        touches=touching("work", "tmp", "image"),
        probe_arguments=("--image", "/lab/image"),
        prepare="ln -s \"$IMAGE\" /lab/image; fill /scratch /tmp /var/tmp /dev/shm",
    ),
    "scratch-all_noexec": Condition(
        "programs can be started from no folder that a user may write to",
        touches=touching("work", "tmp"),
        prepare="change noexec /scratch /tmp /var/tmp /dev/shm",
    ),
    "tmpdir-noexec": Condition(
        "TMPDIR is mounted noexec",
        touches=touching("tmpdir"),
        prepare="mkdir /lab/tmpdir; mount -t tmpfs -o noexec,mode=1777 lab-tmpdir /lab/tmpdir",
        environment={"TMPDIR": "/lab/tmpdir"},
    ),
    "tmpdir-missing": environment("TMPDIR names a folder that is not there", "tmpdir", TMPDIR="/no/such/folder"),
    "tmpdir-hung": hung("TMPDIR does not answer", "/hung/tmp", "tmpdir", environment={"TMPDIR": "/hung/tmp"}),
    "home-missing": environment("HOME names a folder that is not there", "home", HOME="/no/such/home"),
    "home-unset": environment("HOME is not set", "home", HOME=None),
    "home-denied": Condition(
        "the user may not enter its own home",
        touches=touching("home"),
        prepare='chown root: "$GLIDEIN_HOME"; chmod 700 "$GLIDEIN_HOME"',
    ),
    "home-read_only": Condition(
        "the home is read-only",
        touches=touching("home"),
        prepare='mount -t tmpfs -o ro lab-home "$GLIDEIN_HOME"',
    ),
    "home-hung": hung("the home does not answer", "/hung/home", "home", environment={"HOME": "/hung/home"}),
    "cwd-hung": hung(
        "the working folder does not answer",
        "/hung/work",
        "work",
        folder="/hung/work",
        bars_wrappers=True,
        # A shell that is told PWD looks at it before it does anything: no program of ours would ever be started.
        probe_wrapper=("env", "-u", "PWD", "-u", "OLDPWD"),
        files={"factory/file": "text\n", "probe/file": "text\n"},
    ),
    "stdin-closed": Condition(
        "standard input is closed", touches=touching("stdin"), wrapper=("sh", "-c", 'exec "$@" <&-', "lab")
    ),
    "stdout-closed": Condition(
        "the probe's standard output is closed",
        touches=touching("stdout"),
        probe_wrapper=("sh", "-c", 'exec "$@" >&-', "lab"),
        probe_arguments=("--output", "/reports/report.json"),
    ),
    "locale-broken": environment("the locale does not exist", "locale", LANG="xx_YY.UTF-8", LC_ALL="no_such_locale"),
    "path-empty": Condition(
        "PATH is empty", touches=touching("path"), environment={"PATH": ""}, bars_wrappers=True
    ),
    "python-foreign": environment(
        "the environment is meant for another Python", "python", PYTHONHOME="/no/such/python", PYTHONPATH="/no/such"
    ),
    "nproc-64": limited("a user may have 64 processes", "--nproc=64"),
    "nproc-8": Condition(
        "a user may have 8 processes",
        touches=touching("limits", "userns", "container"),
        # Linux counts them by user namespace (5.14 and later): in one of its own only the node's processes count, not
        # those that the same user has elsewhere on the machine.
        wrapper=(*OWN_LIMITS, f'exec {DROP} prlimit --nproc=8 -- "$@"', "lab"),
    ),
    "nofile-64": limited("64 open files", "--nofile=64"),
    "fsize-64k": limited("files of 64 KiB at most", "--fsize=65536"),
    "address_space-2g": limited("2 GiB of address space", f"--as={2 << 30}"),
    "address_space-300m": limited("300 MiB of address space", f"--as={300 << 20}"),
    # --- namespaces and outer containers ---
    "mntns-disabled": Condition(
        "user.max_mnt_namespaces is 0", touches=touching("userns"), wrapper=own_limits("max_mnt_namespaces 0")
    ),
    "pidns-disabled": Condition(
        "user.max_pid_namespaces is 0", touches=touching("userns"), wrapper=own_limits("max_pid_namespaces 0")
    ),
    "ipcns-disabled": Condition(
        "user.max_ipc_namespaces is 0", touches=touching("userns"), wrapper=own_limits("max_ipc_namespaces 0")
    ),
    "netns-disabled": Condition(
        "user.max_net_namespaces is 0, as OSG advises", touches=touching("userns"), wrapper=own_limits("max_net_namespaces 0")
    ),
    "no_new_privs": Condition(
        "no_new_privs is set", touches=touching("privileges"), wrapper=("setpriv", "--no-new-privs")
    ),
    "seccomp-userns": Condition(
        "a seccomp filter forbids user namespaces",
        touches=touching("seccomp", "userns", "container"), before_user=seccomp("clone_newuser")
    ),
    "seccomp-unshare": Condition(
        "a seccomp filter forbids unshare",
        touches=touching("seccomp", "userns", "container"), before_user=seccomp("unshare")
    ),
    "seccomp-mount": Condition(
        "a seccomp filter forbids mount",
        touches=touching("seccomp", "userns", "container"), before_user=seccomp("mount")
    ),
    "docker": Condition(
        "inside Docker with its defaults: masked /proc, a seccomp filter",
        touches=touching("seccomp", "userns", "proc", "container"),
        prepare=MASKED_AS_BY_DOCKER + "touch /.dockerenv",
        before_user=seccomp("clone_new_any,mount"),
    ),
    "kubernetes": Condition(
        "inside a Kubernetes pod: masked /proc, no seccomp filter",
        touches=touching("proc", "container"),
        prepare=MASKED_AS_BY_DOCKER,
        environment={"KUBERNETES_SERVICE_HOST": "10.0.0.1"},
    ),
    "inside_apptainer": Condition(
        "inside another Apptainer container",
        # The outer container is a Go program too: limits that stop Apptainer stop it, and the node has nothing inside. It
        # reads the same configuration: what stops the inner one's binds stops those of the outer one.
        touches=touching("container", "userns", "limits", "configuration", "home"),
        prepare=NESTED,
        wrapper=("/lab/nested-run",),
    ),
    "rootless_container": Condition(
        "root of a user namespace, as in rootless Podman",
        touches=touching("container", "user", "userns"),
        wrapper=("unshare", "--user", "--map-root-user", "--mount"),
    ),
    "chroot": Condition(
        "inside a chroot: the kernel refuses user namespaces there",
        touches=touching("container", "userns"),
        prepare="mkdir /chroot; mount --rbind / /chroot",
        before_user=("sh", "-c", 'exec chroot /chroot sh -c "cd $PWD; exec \\"\\$@\\"" lab "$@"', "lab"),
    ),
    "proc-hidepid": Condition(
        "/proc is mounted with hidepid=2", touches=touching("proc"), prepare="mount -o remount,hidepid=2 /proc"
    ),
    "root-few_capabilities": Condition(
        "root without CAP_SYS_ADMIN, as in an ordinary container",
        touches=touching("user"),
        user="root",
        before_user=("setpriv", "--bounding-set=-sys_admin"),
        prepare="configure 'root default capabilities' no",
    ),
    "root-full_wanted": Condition(
        "apptainer.conf gives root all capabilities, and one is missing",
        touches=touching("user"),
        user="root",
        before_user=("setpriv", "--bounding-set=-sys_resource"),
    ),
    # --- the glidein's and the user's settings ---
    "bind-bad": environment("APPTAINER_BIND names a folder that is not there", "bind", APPTAINER_BIND="/no/such/folder"),
    "bind-bad-old_name": environment(
        "SINGULARITY_BIND names a folder that is not there", "bind", SINGULARITY_BIND="/no/such/folder"
    ),
    "overlay-bad": environment("APPTAINER_OVERLAY names a file that is not there", "bind", APPTAINER_OVERLAY="/no/such.img"),
    "debug": environment("APPTAINER_DEBUG is set", "debug", APPTAINER_DEBUG="1"),
    "opts-wrong": Condition(
        "GLIDEIN_SINGULARITY_OPTS holds an option that there is not",
        touches=touching("options"),
        prepare="glidein_config GLIDEIN_SINGULARITY_OPTS --no-such-option",
        factory_arguments=("--pid", "--no-such-option"),
        probe_arguments=CONFIG_FILE,
    ),
    "pid-off": Condition(
        "the entry says SINGULARITY_DISABLE_PID_NAMESPACES=1",
        touches=touching("options"),
        prepare="glidein_config SINGULARITY_DISABLE_PID_NAMESPACES 1",
        factory_arguments=(),
        probe_arguments=CONFIG_FILE,
    ),
    # --- apptainer.conf ---
    "config-no_sandbox": refusing("allow container dir", "no", "apptainer.conf forbids sandbox images"),
    "config-no_sif": configured("allow container sif", "no", "apptainer.conf forbids SIF images"),
    "config-no_binds": configured("user bind control", "no", "apptainer.conf forbids binds"),
    "config-no_proc": configured("mount proc", "no", "apptainer.conf mounts no /proc"),
    "config-no_pid_ns": configured("allow pid ns", "no", "apptainer.conf ignores --pid"),
    "config-no_user_ns": configured("allow user ns", "no", "apptainer.conf forbids user namespaces"),
    "config-no_loop": configured("max loop devices", "0", "apptainer.conf allows no loop device"),
    "config-no_setuid": configured("allow setuid", "no", "apptainer.conf forbids setuid"),
    "config-paths": refusing("limit container paths", "/usr", "images are allowed elsewhere only"),
    "config-no_layer": Condition(
        "apptainer.conf has neither overlay nor underlay",
        touches=touching("configuration"),
        prepare="configure 'enable overlay' no; configure 'enable underlay' no",
    ),
    "config-not_roots": Condition(
        "apptainer.conf does not belong to root",
        touches=touching("configuration"),
        prepare='chown "$GLIDEIN:" "$CONFIGURATION"',
    ),
    "config-garbled": configured("allow setuid", "perhaps", "apptainer.conf cannot be read"),
    # --- binaries that are none ---
    "binary-hangs": binary(
        "the binary never answers", "exec sleep 1000", deadline_s=20.0, least_deadline_s=20.0, factory_limit_s=2.0
    ),
    "binary-hangs-and-forks": binary(
        "the binary ignores SIGTERM, leaves its session and never answers",
        f"trap '' TERM; {VERSION_IS_FINE}; setsid sleep 1000 & sleep 1000 & wait",
        deadline_s=26.0,
        least_deadline_s=26.0,
        factory_limit_s=2.0,
    ),
    "binary-fatal-exit_0": binary(
        "the binary says FATAL and exits with 0",
        f"{VERSION_IS_FINE}; echo 'FATAL:   container creation failed' >&2; exit 0",
    ),
    "binary-silent": binary("the binary does nothing and exits with 0", "exit 0"),
    "binary-killed": binary("the binary is killed by a signal", f"{VERSION_IS_FINE}; kill -SEGV $$"),
    "binary-not_executable": Condition(
        "the binary is for another machine",
        touches=touching("binary"),
        prepare="rm /lab/bin/apptainer; printf '\\177ELF\\2\\1\\1' > /lab/bin/apptainer; chmod 755 /lab/bin/apptainer",
    ),
    "binary-hung": hung(
        "the binary lies on a file system that does not answer",
        "/hung/apptainer",
        "binary",
        prepare="ln -sf /hung/apptainer/apptainer /lab/bin/apptainer",
        files={"apptainer": "#!/bin/sh\n"},
    ),
    "path-hung": hung(
        "the first folder of PATH does not answer",
        "/hung/bin",
        "path",
        bars_wrappers=True,
        environment={"PATH": "/hung/bin:/lab/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"},
    ),
    "cvmfs_dir-hung": hung(
        "CVMFS_MOUNT_DIR lies on what does not answer, and the entry says SINGULARITY_BIN=PATH",
        "/hung/dist",
        "cvmfs",
        "options",
        prepare="glidein_config SINGULARITY_BIN PATH",
        factory_arguments=("--pid", "--bind", "/hung/dist/cvmfs:/cvmfs"),
        environment={"CVMFS_MOUNT_DIR": "/hung/dist/cvmfs"},
        probe_arguments=CONFIG_FILE,
        side_by_side=1,  # for the binary in it, and since every start binds it
    ),
    "path-end_hung": hung(
        "the last folder of PATH does not answer",
        "/hung/bin",
        "path",
        bars_wrappers=True,
        environment={"PATH": "/lab/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin:/hung/bin"},
    ),
    # --- images ---
    "image-hung": Condition(
        "the image lies in a repository that does not answer",
        touches=touching("cvmfs", "image"),
        mounts=(Mounted(f"/cvmfs/{CMS}", HANG),),
        probe_arguments=("--image", f"/cvmfs/{CMS}/images/el9"),
        deadline_s=HUNG_DEADLINE_S,
    ),
    "image-denied": Condition(
        "the image may not be read",
        touches=touching("image"),
        prepare="mkdir -m 700 /lab/image",
        probe_arguments=("--image", "/lab/image"),
    ),
    "image-broken": Condition(
        "the image is a file of rubbish",
        touches=touching("image"),
        prepare="head -c 4096 /dev/zero > /lab/image.sif",
        probe_arguments=("--image", "/lab/image.sif"),
    ),
    "image-foreign": Condition(
        "the image's programs are for another machine",
        touches=touching("image"),
        prepare="cp -a \"$IMAGE\" /lab/foreign; printf '\\177ELF\\2\\1\\1' > /lab/foreign/bin/busybox",
        probe_arguments=("--image", "/lab/foreign"),
    ),
    "images-only_there": Condition(
        "apptainer.conf allows images in the jobs' folder only",
        touches=touching("configuration", "image"),
        prepare="""
mkdir /lab/allowed; cp -a "$IMAGE" /lab/allowed/busybox
configure 'limit container paths' "$IMAGE,/lab/allowed"
""",
        probe_arguments=("--image", "/lab/allowed/busybox"),
    ),
    "images-only_there-by_dict": Condition(
        "apptainer.conf allows images in the jobs' folder only, and the glidein's configuration names one",
        touches=touching("configuration", "image"),
        prepare="""
mkdir /lab/allowed; cp -a "$IMAGE" /lab/allowed/busybox
configure 'limit container paths' "$IMAGE,/lab/allowed"
glidein_config SINGULARITY_IMAGES_DICT "rhel7:/no/such/image,default:/lab/allowed/busybox"
""",
        probe_arguments=CONFIG_FILE,
    ),
    # --- the search order: OSG's own binary on CVMFS beside that on PATH ---
    "osg-good": osg("OSG's own binary is there", 'ln -s "$APPTAINER" "$osg/singularity"'),
    "osg-good-last": osg(
        "OSG's own binary is there, and comes last, for the entry says SINGULARITY_BIN=PATH",
        'ln -s "$APPTAINER" "$osg/singularity"; glidein_config SINGULARITY_BIN PATH',
        SEARCHED_LAST,
        probe_arguments=CONFIG_FILE,
    ),
    "osg-fatal": osg(
        "OSG's own binary is there, and starts nothing",
        f"program \"$osg/apptainer\" <<'END'\n#!/bin/sh\n{VERSION_IS_FINE}; echo 'FATAL:   no' >&2; exit 255\nEND",
    ),
    "osg-hung": hung(
        "OSG's repository does not answer, and a glidein looks there first",
        f"/cvmfs/{OASIS}",
        "cvmfs",
        factory_binary=SEARCHED,
    ),
    **installations.CONDITIONS,
    **surroundings.CONDITIONS,
}
