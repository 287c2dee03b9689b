"""Site ads: what the real ClassAd parser reads in them, whatever the reports said."""

import re
from pathlib import Path
from typing import Any

import classad2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from site_db.rules import default_rules
from site_db.site_ads import ATTRIBUTES, ENTRY, PER_CAPABILITY, SITE, as_text, attribute_of, list_ads
from site_db.store import Store
from tests.sample_reports import sample_report
from tests.site_db.submissions import NOW, sample, submission

HOSTILE = 'E"; Requirements = true\n\nName = "evil'
DOCUMENTED = (Path(__file__).parents[2] / "docs/site-ads.md").read_text(encoding="utf-8")
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def read(text: str) -> list[Any]:
    """The ads as HTCondor's own parser reads the old form, which condor_advertise takes."""
    return list(classad2.parseAds(text))


def test_ads_say_what_is_known_with_types_and_leave_out_the_rest(store: Store) -> None:
    store.add([sample("healthy", node=1), sample("healthy", node=2), sample("pid_masked", node=3)])
    site, entry = read(as_text(list_ads(store, NOW)))
    assert (site["MyType"], site["Name"], entry["Name"]) == (SITE, "Example-T2", "Example_T2_CE1@factory.example.org")
    assert (entry["MyType"], entry["GLIDEIN_Entry_Name"], entry["GLIDEIN_Site"]) == (ENTRY, "Example_T2_CE1", "Example-T2")
    for ad in (site, entry):
        assert ad["CAN_SIF"] is True
        assert ad["CAN_PRIVILEGED"] is False
        assert ad["CAN_PRIVILEGED_REASON"] == "setuid_not_installed"
        assert "CAN_PID_NAMESPACE" not in ad  # on some
        assert (ad["CAN_PID_NAMESPACE_SHARE"], ad["CAN_PID_NAMESPACE_NODES"]) == (0.6667, 3)
        assert ad["PROBE_CVMFS_OK"] == "oasis.opensciencegrid.org,singularity.opensciencegrid.org"
        assert not [name for name in ad if name.startswith("CAN_GPU_CONTAINER")]
        assert classad2.ExprTree("CAN_FAKEROOT =?= undefined").eval(ad) is True
    assert [ad["MyType"] for ad in list_ads(store, NOW, [ENTRY])] == [ENTRY]


@on_sqlite
def test_runs_by_hand_and_old_reports_have_no_ads(store: Store) -> None:
    by_hand = sample_report(created_at="2026-11-20T10:00:00Z")
    by_hand["glidein"] = dict.fromkeys(by_hand["glidein"])
    store.add([submission(by_hand), sample(node=2, hours_ago=24 * 30)])
    assert list_ads(store, NOW) == []


@on_sqlite
def test_hostile_names_stay_within_their_strings(store: Store) -> None:
    report = sample_report(created_at="2026-11-20T10:00:00Z")
    report["glidein"].update(dict.fromkeys(("site", "entry", "factory", "resource"), HOSTILE))
    report["cvmfs"]["repositories"][0]["name"] = 'x",y'
    plain = sample_report(created_at="2026-11-20T10:00:00Z", host__machine_id="2" * 32)
    plain["glidein"].update(dict.fromkeys(("site", "entry"), HOSTILE.replace('"', "'")))
    store.add([submission(report), submission(plain)])
    ads = list_ads(store, NOW)
    parsed = read(as_text(ads))
    assert len(parsed) == len(ads) == 4
    assert len({ad["Name"] for ad in parsed}) == 4
    for ad, told in zip(ads, parsed, strict=True):
        assert dict(told) == ad
        assert "Requirements" not in told
        assert told["Name"] != "evil"


@given(st.text(min_size=1, max_size=50))
def test_any_text_is_one_string_to_the_parser(text: str) -> None:
    from site_db import site_ads

    ad = {"Name": site_ads._text(text), "After": 1}
    [found] = read(as_text([ad]))
    assert dict(found) == ad


def test_every_attribute_is_documented() -> None:
    for attribute in ATTRIBUTES:
        assert f"| `{attribute.name}` | {attribute.type} | {attribute.about} |" in DOCUMENTED
    for ending in PER_CAPABILITY:
        assert f"| `CAN_...{ending.name}` | {ending.type} | {ending.about} |" in DOCUMENTED
    singles = {attribute_of(row.name) for row in default_rules().capabilities if "*" not in row.name}
    assert singles == set(re.findall(r"^\| `(CAN_\w+)` \|", DOCUMENTED, re.MULTILINE))
