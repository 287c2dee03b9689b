"""What pages say while there is nothing to show: the first step."""

from reports.pages.model import Cell, Group, Notice, Point


def first_report() -> Group:
    """How a first report comes in."""
    here = Notice(
        Cell(None, "Try it with this machine"),
        [
            Point("Look", "singularity-probe run > report.json", True),
            Point("Store", "site-db ingest report.json", True),
            Point("Then", "reload this page. Give site-db the --database that this collector has."),
        ],
    )
    factory = Notice(
        Cell(None, "Let worker nodes report"),
        [Point("Glideins", "run the probe and send what it says by themselves, once a factory lists it: docs/five-minutes.md")],
    )
    return Group("first", "No report is stored yet", [here, factory])


def first_configuration() -> Group:
    """How a first configuration comes in."""
    points = [
        Point("Import", "site-db entries import FILE... --factory NAME", True),
        Point("What", "the factory's own XML or YAML files, registries of sites, policy: docs/configuration.md"),
    ]
    return Group("first", "No configuration is imported yet", [Notice(Cell(None, "Compare with what factories have"), points)])


def first_image() -> Group:
    """How a first image comes in."""
    points = [
        Point("Import", "site-db images import FILE", True),
        Point("What", "a list of images, one reference a line, or a catalogue: docs/images.md"),
    ]
    return Group("first", "No image is known yet", [Notice(Cell(None, "Say which images matter"), points)])
