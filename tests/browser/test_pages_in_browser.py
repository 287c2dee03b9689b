"""Every page in a real browser: it can be used, by everybody, and asks nothing of anybody else."""

import gzip
from urllib.parse import parse_qs, quote, urlsplit

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import ENTRIES, Watched
from tests.reports.test_pages import Elements

# Of long tables some rows: axe-core looks at every cell, and a hundred rows are as twenty are.
LISTS = {
    "sites": "/?rows=20",
    "entries": "/entries?rows=20",
    "nodes": "/nodes?rows=20",
    "changes": "/changes",
    "drift": "/drift?rows=20",
    "images": "/images?rows=20",
    "pick": "/pick",
    "coverage": "/coverage?rows=20",
    "reasons": "/reasons?rows=20",
    "trends": "/trends",
    "collector": "/collector",
}
KINDS = [*LISTS, "site", "entry", "node", "image", "reason", "drift_of"]


def names(centre: str, path: str, column: str, **query: str) -> list[str]:
    found = httpx.get(f"{centre}{path}", params={"format": "json", **query}, timeout=60).json()
    return [row[column] for row in found["rows"]]


@pytest.fixture(scope="module")
def addresses(centre: str) -> dict[str, str]:
    """The address of every kind of page, for things that are there."""
    site = names(centre, "/", "site", sort="-nodes")[0]
    image = names(centre, "/images", "image")[0]
    entry = names(centre, "/drift", "entry", sort="-nodes")[0]
    return LISTS | {
        "drift_of": f"/drift/{entry}?confidence=low",
        "site": f"/sites/{quote(site, safe='')}",
        "entry": f"/entries/{names(centre, '/changes', 'entry')[0]}?why=singularity",
        "node": f"/nodes/{names(centre, '/nodes', 'machine_id')[0]}",
        "image": f"/images/{quote(image, safe='')}?rows=20",
        "reason": f"/reasons/{names(centre, '/reasons', 'code')[0]}?rows=20",
    }


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_is_for_everybody(tab: Watched, addresses: dict[str, str], kind: str):
    page = tab.open(addresses[kind])
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert page.locator("main h1").count() == 1
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    tab.shoot(kind)


@pytest.mark.parametrize("kind", ["sites", "entry", "trends"])
def test_a_page_can_be_read_in_the_dark_and_on_a_small_screen(
    browser: Browser, centre: str, addresses: dict[str, str], kind: str
):
    context = browser.new_context(color_scheme="dark", viewport={"width": 390, "height": 800})
    tab = Watched(context.new_page(), centre)
    found = Axe().run(tab.open(addresses[kind]))
    assert found.violations_count == 0, found.generate_report()
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= 390
    tab.shoot(f"{kind}-dark-narrow")
    context.close()
    assert tab.complaints == tab.outside == []


def column(page: Page, number: int) -> list[str]:
    return page.locator(f"#sites tbody tr > :nth-child({number})").all_inner_texts()


def test_a_filter_needs_one_choice_and_its_state_has_an_address(tab: Watched):
    page = tab.open("/")
    all_sites = page.locator("caption .count").inner_text()
    page.get_by_label("Answer").select_option("no")
    page.wait_for_url("**answer=no**")
    assert page.url == f"{tab.home}/?answer=no"
    assert int(page.locator("caption .count").inner_text()) < int(all_sites)
    assert set(column(page, 4)) == {"no"}
    page.get_by_label("Name contains").fill("a")
    page.get_by_role("button", name="Filter").click()
    page.wait_for_url("**q=a**")
    assert parse_qs(urlsplit(page.url).query) == {"answer": ["no"], "q": ["a"]}
    page.get_by_role("link", name="Reset").click()
    expect(page.locator("caption .count")).to_have_text(all_sites)


def test_sites_can_be_chosen_by_vo_and_region(tab: Watched):
    page = tab.open("/")
    page.get_by_label("Region").select_option("US")
    page.wait_for_url("**region=US**")
    in_region = int(page.locator("caption .count").inner_text())
    page.get_by_label("VO").select_option(index=1)
    page.wait_for_url("**vo=**")
    assert 0 < int(page.locator("caption .count").inner_text()) < in_region


def test_drift_leads_to_the_diff_to_apply(tab: Watched):
    page = tab.open("/drift?severity=error")
    page.locator("#drift tbody th a").first.click()
    page.get_by_label("Proposals of confidence").select_option("low")
    page.wait_for_url("**confidence=low**")
    expect(page.locator("pre ins", has_text="GLIDEIN_SINGULARITY_REQUIRE")).to_have_count(1)
    tab.shoot("diff")


def test_a_long_table_is_sorted_by_links(tab: Watched):
    page = tab.open("/")
    page.get_by_role("columnheader", name="Nodes").get_by_role("link").click()
    page.wait_for_url("**sort=-nodes")
    nodes = [int(text) for text in column(page, 3)]
    assert len(nodes) == 100
    assert nodes == sorted(nodes, reverse=True)
    assert page.locator("th[aria-sort=descending]").inner_text() == "Nodes"
    page.get_by_role("link", name="Next").click()
    page.wait_for_url("**page=2")
    assert int(column(page, 3)[0]) <= nodes[-1]


def test_a_whole_table_is_sorted_at_once_and_its_address_goes_along(tab: Watched):
    page = tab.open("/?rows=2000&sort=site")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if request.is_navigation_request() else None)
    header = page.get_by_role("columnheader", name="Nodes")
    header.get_by_role("link").click()
    expect(header).to_have_attribute("aria-sort", "descending")
    nodes = [int(text) for text in column(page, 3)]
    assert nodes == sorted(nodes, reverse=True)
    assert parse_qs(urlsplit(page.url).query)["sort"] == ["-nodes"]
    header.get_by_role("link").click()
    assert [int(text) for text in column(page, 3)] == sorted(nodes)
    assert asked == []


def test_the_links_of_pages_lead_somewhere(centre: str, addresses: dict[str, str]):
    links: dict[tuple[str, ...], str] = {}
    with httpx.Client(base_url=centre, timeout=60) as client:
        for kind in KINDS:
            here = client.get(addresses[kind])
            for name, value in Elements(here.text).attributes:
                if name in ("href", "src") and not value.startswith("#"):
                    address = urlsplit(str(here.url.join(value)))
                    # One of each kind of page, in one of each kind of state.
                    links.setdefault((kind, address.path.split("/")[1], *sorted(parse_qs(address.query))), address.geturl())
        wrong = {link: status for link in sorted(set(links.values())) if (status := client.get(link).status_code) != 200}
    assert wrong == {}
    assert len(links) > 100


def test_from_the_overview_to_a_remedy_by_the_keyboard(tab: Watched):
    page = tab.open("/?answer=no")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    page.locator("#sites tbody th a").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/sites/**")
    page.locator("#troubles .notice a").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/reasons/**")
    expect(page.locator("#meaning")).to_contain_text("can:")


def test_figures_stand_beside_every_plot(tab: Watched):
    page = tab.open("/trends")
    for figure in page.locator("figure:has(img)").all():
        picture = figure.locator("img")
        picture.scroll_into_view_if_needed()
        expect(picture).to_have_js_property("complete", True)
        assert picture.evaluate("image => image.naturalWidth") > 0
        figure.locator("summary").click()
        assert figure.locator("tbody tr").count() > 0


def test_pages_work_without_scripts_and_on_paper(browser: Browser, centre: str):
    context = browser.new_context(java_script_enabled=False)
    tab = Watched(context.new_page(), centre)
    page = tab.open("/")
    page.get_by_label("Answer").select_option("no")
    page.get_by_role("button", name="Filter").click()
    page.get_by_role("columnheader", name="Site").get_by_role("link").click()
    page.wait_for_url("**answer=no**sort=**")
    page.emulate_media(media="print")
    expect(page.locator("header")).to_be_hidden()
    expect(page.locator("form")).to_be_hidden()
    expect(page.locator("#sites")).to_be_visible()
    context.close()


@pytest.mark.parametrize("path", ["/", "/entries", "/entries?rows=2000"])
def test_the_first_page_of_a_large_fleet_is_small(centre: str, path: str):
    with httpx.stream("GET", f"{centre}{path}", headers={"Accept-Encoding": "gzip"}, timeout=60) as answer:
        raw = b"".join(answer.iter_raw())
    assert len(raw) < 100_000
    assert b"</html>" in gzip.decompress(raw)


def test_all_entries_of_the_fleet_are_there(centre: str):
    assert len(names(centre, "/entries", "entry")) > 0.95 * ENTRIES
