"""`site-db harvest ads`: ads as text in the forms of condor_status, and a pool by HTCondor's bindings."""

import gzip
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from probe import classad, packing
from reports import harvest_ads
from reports.cli import cli
from tests.sample_reports import sample_report
from tests.site_db.factory_files import ENTRY

classad2 = pytest.importorskip("classad2")
htcondor2 = pytest.importorskip("htcondor2")
Run = Callable[..., Result]
SLOTS = 3


def report() -> dict[str, Any]:
    return sample_report("healthy", created_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))


def ad(name: str, of: dict[str, Any], prefix: str = "", entry: str = ENTRY) -> Any:  # noqa: ANN401 - classad2 has no types
    """A slot's ad as a startd makes it of the probe's lines."""
    lines = [line for line in classad.render(of).splitlines() if line]
    attribute = packing.attribute(of)
    assert attribute is not None
    lines += [f'PROBE_REPORT = "{attribute}"']
    about = [f'Name = "{name}"', 'MyType = "Machine"', "SlotID = 1", f'GLIDEIN_Entry_Name = "{entry}"']
    about += ["DynamicSlot = true"] if "slot1_" in name else ["PartitionableSlot = true"]
    return classad2.parseOne("\n".join([*about, *(prefix + line for line in lines)]))


def machine(number: int, prefix: str = "", entry: str = ENTRY) -> list[Any]:
    of = report()
    slots = ["slot1", *(f"slot1_{slot}" for slot in range(1, SLOTS))]
    return [ad(f"{slot}@glidein{number}@wn.example.org", of, prefix, entry) for slot in slots]


def as_long(ads: Iterable[Any]) -> str:
    """As condor_status -long prints it: an attribute a line, a blank line behind each ad."""
    return "\n".join("".join(f"{name} = {one.lookup(name)}\n" for name in sorted(one)) for one in ads) + "\n"


def as_json(ads: Iterable[Any]) -> str:
    """As condor_status -json prints it."""
    return json.dumps([{name: str(one[name]) for name in one} for one in ads], indent=2)


def as_xml(ads: Iterable[Any]) -> str:
    """As condor_status -xml prints it."""
    return "<classads>\n" + "".join(
        "<c>\n" + "".join(f'    <a n="{name}"><s>{one[name]}</s></a>\n' for name in one) + "</c>\n" for one in ads
    )


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("SITE_DB_DATABASE", f"sqlite:///{tmp_path / 'site.db'}")

    def invoke(*arguments: object, stdin: bytes = b"") -> Result:
        given = ["harvest", "ads", *map(str, arguments), "--format", "json"]
        result = CliRunner().invoke(cli, given, input=stdin, prog_name="site-db")
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return invoke


def data_of(result: Result) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(result.stdout)["data"]
    return data


@pytest.mark.parametrize("form", [as_long, as_json, as_xml])
@pytest.mark.parametrize("prefix", ["", "GLIDEIN_PS_", "Other_"])
def test_ads_as_text_are_read_in_each_form_of_condor_status(
    run: Run, tmp_path: Path, form: Callable[[Iterable[Any]], str], prefix: str
):
    ads = [one for number in range(2) for one in machine(number, prefix)]
    (tmp_path / "ads").write_text(form(ads))
    result = run(tmp_path / "ads")
    assert (result.exit_code, data_of(result)["new"], data_of(result)["known"]) == (0, 2, 0)


def test_ads_come_from_standard_input_also_compressed(run: Run):
    text = as_long(machine(1)).encode()
    assert data_of(run("-", stdin=text))["new"] == 1
    assert data_of(run("-", stdin=gzip.compress(text)))["known"] == 1


def test_ads_without_a_report_are_none(run: Run):
    result = run("-", stdin=b'Name = "slot1@a"\nPROBE_REPORT_ID = "1:abc"\n\nName = "slot1@b"\n')
    assert (result.exit_code, data_of(result)["new"]) == (0, 0)


@pytest.mark.parametrize("value", ["1:AAAA", "nonsense", "1:" + "A" * 5000])
def test_an_attribute_that_is_no_report_is_named_with_its_line(run: Run, tmp_path: Path, value: str):
    (tmp_path / "ads").write_text(f'Name = "x"\nPROBE_REPORT = "{value}"\n' + as_long(machine(1)))
    result = run(tmp_path / "ads")
    assert result.exit_code == 1
    assert data_of(result)["new"] == 1
    [rejected] = data_of(result)["rejected"]
    assert rejected["place"] == f"{tmp_path / 'ads'}:2"
    assert "no report" in rejected["problems"][0]["detail"]


# --- a pool ---


class Pool:
    """Stands in for htcondor2.Collector: evaluates the constraint with HTCondor's own ClassAds."""

    asked: list[str] = []
    given = 0
    entry = ENTRY

    def __init__(self, address: str) -> None:
        self.ads = [*machine(1, entry=self.entry), *machine(2, "GLIDEIN_PS_", self.entry), classad2.parseOne('Name = "plain"')]
        self.asked.append(address)

    def query(self, ad_type: Any, *, constraint: str, projection: list[str]) -> Iterator[Any]:  # noqa: ANN401 - no types
        assert ad_type == htcondor2.AdTypes.Startd
        self.asked.append(constraint)
        wanted = classad2.ExprTree(constraint)
        for one in self.ads:
            if wanted.eval(one) is True:
                Pool.given += 1
                yield classad2.ClassAd({name: one[name] for name in projection if name in one})


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> type[Pool]:
    stand_in = SimpleNamespace(Collector=Pool, AdTypes=htcondor2.AdTypes, HTCondorException=htcondor2.HTCondorException)
    monkeypatch.setattr(harvest_ads, "_bindings", lambda: stand_in)
    monkeypatch.setattr(Pool, "asked", [])
    monkeypatch.setattr(Pool, "given", 0)
    return Pool


def test_a_pool_is_asked_for_ads_that_have_a_report(run: Run, pool: type[Pool]):
    result = run("cm.example.org:9618")
    assert (result.exit_code, data_of(result)["new"]) == (0, 2)
    has_one = "(isString(PROBE_REPORT) || isString(GLIDEIN_PS_PROBE_REPORT))"
    assert pool.asked == ["cm.example.org:9618", f"{has_one} && (SlotID =?= 1 && DynamicSlot =!= true)"]
    assert pool.given == 2


def test_a_pool_is_asked_for_every_slot_on_request(run: Run, pool: type[Pool]):
    assert data_of(run("cm.example.org:9618", "--all-slots"))["new"] == 2
    assert pool.given == 2 * SLOTS


@pytest.mark.usefixtures("pool")
def test_a_report_of_another_entry_than_its_ad_is_refused(run: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Pool, "entry", "Evil")
    result = run("cm.example.org:9618")
    assert (result.exit_code, data_of(result)["new"], len(data_of(result)["rejected"])) == (1, 0, 2)


@pytest.mark.parametrize("form", [as_long, as_json, as_xml])
def test_so_it_is_in_text(run: Run, tmp_path: Path, form: Callable[[Iterable[Any]], str]):
    (tmp_path / "ads").write_text(form([*machine(1, entry="Evil"), *machine(2)]))
    result = run(tmp_path / "ads")
    assert (data_of(result)["new"], len(data_of(result)["rejected"])) == (1, 1)
    assert f"says entry '{ENTRY}', but is from 'Evil'" in data_of(result)["rejected"][0]["problems"][0]["detail"]


def test_a_constraint_and_a_prefix_narrow_the_question(run: Run, pool: type[Pool]):
    result = run("cm", "--constraint", 'regexp("glidein2", Name)', "--prefix", "MINE_")
    assert data_of(result)["new"] == 1
    assert pool.asked[1].startswith("(isString(PROBE_REPORT) || isString(GLIDEIN_PS_PROBE_REPORT) || isString(MINE_")
    assert pool.asked[1].endswith(') && (regexp("glidein2", Name))')


def test_a_pool_that_does_not_answer_is_told_in_words():
    """The real bindings, against a port where nothing listens."""
    with pytest.raises(harvest_ads.PoolSilent) as silent:
        list(harvest_ads.ads_of_pool("127.0.0.1:1", None, None))
    assert "127.0.0.1:1" in str(silent.value)
    assert "condor_status -pool 127.0.0.1:1" in silent.value.remedy


def test_without_the_bindings_the_way_without_them_is_told(run: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "htcondor2", None)
    result = run("cm.example.org")
    assert result.exit_code == 1
    assert "condor_status -long | site-db harvest ads -" in result.stderr


def test_options_for_a_pool_with_text_are_wrong_use(run: Run):
    assert run("-", "--constraint", "true").exit_code == 2
    assert run("-", "--all-slots").exit_code == 2
