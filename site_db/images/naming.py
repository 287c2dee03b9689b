"""Names of images: what a catalogue calls them, and the reference by which a node is given them.

A reference is what the probe reports as `images[].ref`: a path on CVMFS, another path, or a URL. Pure.
"""

import re
from typing import NamedTuple

CVMFS = "/cvmfs/"
OSG_REPOSITORY = "singularity.opensciencegrid.org"
OSPOOL_FOLDER = "osdf:///ospool/uc-shared/public/OSG-Staff/images/v2"
DEFAULT_TAG = "latest"

# The grammar of registries (distribution's reference package); a tag may also be a glob here: both syncs take them.
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?(?::[0-9]{1,5})?")
_COMPONENT = re.compile(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*")
_TAG = re.compile(r"[A-Za-z0-9_*?\[][A-Za-z0-9_.*?\[\]!-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_GLOB = re.compile(r"[*?\[]")
_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,254}")
_NAME_LIMIT = 512


class WrongName(ValueError):
    """No image can be called so: `str(error)` says what is wrong, in words for who wrote the line."""


class ImageName(NamedTuple):
    """The name of an image in a registry. `registry` empty: the default one; `tag` may be a glob."""

    registry: str
    repository: str
    tag: str
    digest: str = ""

    @property
    def is_pattern(self) -> bool:
        """Whether it stands for every tag that matches."""
        return bool(_GLOB.search(self.tag))


def parse_image_name(text: str, *, with_digest: bool) -> ImageName:
    """`[REGISTRY/]NAMESPACE/REPOSITORY[:TAG][@DIGEST]`. Raises WrongName.

    With three or more steps the first is the registry, as cvmfs-singularity-sync's parse_image has it; with two it is the
    registry only if it looks like a host (a dot or a port in it), which is Docker's own rule.
    """
    if len(text) > _NAME_LIMIT:
        raise WrongName(f"longer than {_NAME_LIMIT} characters")
    name, at, digest = text.partition("@")
    if at and not with_digest:
        raise WrongName("a digest cannot be synchronised: name a tag")
    if at and not _DIGEST.fullmatch(digest):
        raise WrongName("what follows @ is no sha256 digest")
    head, colon, tag = name.rpartition(":") if ":" in name.rpartition("/")[2] else (name, "", "")
    if colon and not _TAG.fullmatch(tag):
        raise WrongName("the tag has characters that no tag can have")
    registry, repository = _split_registry(head)
    return ImageName(registry, _checked(registry, repository), tag or ("" if digest else DEFAULT_TAG), digest)


def _split_registry(text: str) -> tuple[str, str]:
    steps = text.split("/")
    if not steps[0]:
        raise WrongName("it begins with a slash, or is empty")
    if len(steps) > 2 or (len(steps) == 2 and re.search(r"[.:]", steps[0])):
        return steps[0], "/".join(steps[1:])
    return "", text


def _checked(registry: str, repository: str) -> str:
    if registry and not _HOST.fullmatch(registry):
        raise WrongName("the registry is no host name")
    for step in repository.split("/"):
        if not _COMPONENT.fullmatch(step):
            raise WrongName(f"{'an empty step' if not step else 'a step'} between slashes is no name")
    return repository


def osg_reference(name: ImageName) -> str:
    """Where cvmfs-singularity-sync puts an image (make_final_symlink): without the registry, "library" by default."""
    repository = name.repository if "/" in name.repository else f"library/{name.repository}"
    return f"{CVMFS}{OSG_REPOSITORY}/{repository}:{name.tag}"


def ducc_reference(name: ImageName, cvmfs_repository: str) -> str:
    """Where DUCC puts an image (GetPublicSymlinkPath): registry and all, by its tag, else by its digest."""
    return f"{CVMFS}{cvmfs_repository}/{name.registry}/{name.repository}:{name.tag or name.digest}"


def ospool_reference(name: str, arch: str) -> str:
    """The folder in which ospool-apptainer-sync publishes an image's SIF files (update-repo)."""
    return f"{OSPOOL_FOLDER}/{arch}/{name}"


def is_repository_name(text: str) -> bool:
    """Whether a CVMFS repository can be called so."""
    return bool(_REPOSITORY.fullmatch(text)) and ".." not in text


def cvmfs_repository_of(reference: str) -> str | None:
    """The repository that an image lies in; None for one that is not on CVMFS."""
    if not reference.startswith(CVMFS):
        return None
    return reference[len(CVMFS) :].partition("/")[0] or None


def kind_of(reference: str) -> str | None:
    """sandbox, sif or oci, as far as the reference tells: the two syncs to CVMFS make folders. None: not known."""
    if reference.endswith(".sif") or reference.startswith(OSPOOL_FOLDER):
        return "sif"
    if re.match(r"(?:docker|oras|library|shub)://", reference):
        return "oci"
    on_synced = cvmfs_repository_of(reference) in (OSG_REPOSITORY, "unpacked.cern.ch")
    return "sandbox" if on_synced else None
