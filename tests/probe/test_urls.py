"""What of a URL may stand in a report."""

import pytest

from probe import look, urls
from tests.probe.samples import settings

DIGEST = "sha256:" + "0f" * 32


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://user:s3cr3t@localhost:1/x.sif", "https://localhost:1/x.sif"),
        ("https://s3cr3t@host/x.sif", "https://host/x.sif"),
        ("https://host/x.sif?token=s3cr3t", "https://host/x.sif"),
        ("https://user:s3/c@r3t@host/x.sif", "https://host/x.sif"),
        ("https://it's:s3cr3t@host/x", "https://host/x"),
        (f"docker://user:s3cr3t@host/name@{DIGEST}", f"docker://host/name@{DIGEST}"),
        ("oras://user:s3,cr3t@host/name:tag", "oras://host/name:tag"),
        (f"docker://name@{DIGEST}", f"docker://name@{DIGEST}"),
        ("docker://host/name:tag", "docker://host/name:tag"),
        ("library://host/name?", "library://host/name?"),
        ("/a/folder@here/image?", "/a/folder@here/image?"),
    ],
)
def test_an_images_url_without_what_is_secret(text: str, shown: str):
    command = "exec '" + text.replace("'", "'\"'\"'") + "' cat"
    found = urls.hidden({text: [text, {"x": "failed: " + text + ": no"}, 1, None, command]}, urls.secrets([text]))
    assert found == {shown: [shown, {"x": "failed: " + shown + ": no"}, 1, None, "exec '" + shown + "' cat"]}


def test_findings_lose_what_is_secret_wherever_the_image_was_named():
    given = settings({"SINGULARITY_IMAGES_DICT": "a:/x,b:https://u:s3cr3t@h/y,c:docker://z"}, images=["https://t0ken@h/i"])
    findings = {"images": {"data": ["https://u:s3cr3t@h/y", "https://t0ken@h/i"], "checks": [{"id": "https://t0ken@h/i"}]}}
    found = look._without_secrets(given, findings)
    assert found == {"images": {"data": ["https://h/y", "https://h/i"], "checks": [{"id": "https://h/i"}]}}


def test_findings_of_a_run_without_urls_are_not_touched():
    findings = {"host": {"data": "user@host"}}
    assert look._without_secrets(settings({}, images=["/an/image"]), findings) is findings
