"""What a glidein binds into its containers.

Source: GlideinWMS, singularity_lib.sh: singularity_get_binds, with what singularity_exec_simple (its own test) and
singularity_prepare_and_invoke (jobs) ask it for. It looks at each source, and leaves out those that are not there.
"""

from typing import List

from probe.settings import Settings

DEFAULTS = ["/etc/hosts", "/etc/localtime"]
# For jobs alone, not for GlideinWMS's own test (glideinWMS issue 250).
STORAGE = ["/hadoop", "/ceph", "/hdfs", "/lizard", "/mnt/hadoop", "/mnt/hdfs"]


def requested(settings: Settings) -> List[str]:
    """The binds of the glidein's own test, duplicates left out. Of several on one place Singularity takes the first."""
    mount_dir = settings.cvmfs_mount_dir
    binds = []
    for name in ("GLIDEIN_SINGULARITY_BINDPATH", "GLIDEIN_SINGULARITY_BINDPATH_DEFAULT"):
        binds += (settings.configured(name) or "").split(",")
    binds += [mount_dir + ":/cvmfs" if mount_dir and mount_dir != "/cvmfs" else "/cvmfs", *DEFAULTS]
    return [bind for number, bind in enumerate(binds) if bind and bind not in binds[:number]]


def source_of(bind: str) -> str:
    """The host's side of a bind."""
    return bind.split(":", 1)[0]
