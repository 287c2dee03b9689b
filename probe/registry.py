"""The table of detectors: one row each, those that others need first. A new detector is a file and a row here."""

from probe.detectors import (
    credentials,
    cvmfs,
    gpus,
    images,
    machine,
    namespaces,
    network,
    runtimes,
    scratch,
    singularity,
)
from probe.engine import Detector

DETECTORS = [
    Detector("runtimes", runtimes.detect, runtimes.unknown),
    Detector("scratch", scratch.detect, scratch.unknown),
    Detector("namespaces", namespaces.detect, namespaces.unknown),
    Detector("host", machine.detect, machine.unknown),
    Detector("cvmfs", cvmfs.detect, cvmfs.unknown),
    Detector("gpus", gpus.detect, gpus.unknown),
    Detector("network", network.detect, network.unknown),
    Detector("credentials", credentials.detect, credentials.unknown),
    Detector("singularity", singularity.detect, singularity.unknown, ("runtimes", "scratch", "namespaces")),
    Detector("images", images.detect, images.unknown, ("runtimes", "scratch", "singularity")),
]
