"""The table of images that were tried at a place."""

from reports.pages.told import images
from site_db.site_reports import ImageVerdict
from tests.site_db.submissions import NOW


def verdict(number: int, failing: int) -> ImageVerdict:
    answer = "no" if failing else "yes"
    return ImageVerdict(f"/image:{number:03}", answer, 5, failing, 0, NOW, ())


def test_of_hundreds_of_images_those_that_fail_most_are_shown():
    few = images([verdict(number, 0) for number in range(100)], NOW)[0]
    assert (len(few.rows), few.caption) == (100, "Images that were tried here")
    many = images([verdict(number, int(number == 600)) for number in range(650)], NOW)[0]
    assert len(many.rows) == 100
    assert many.rows[0][0].value == "/image:600"
    assert many.caption == "Images that were tried here (the 100 of 650 that fail most)"
