"""The file of `site-db serve`: what it may say, and how wrong ones are told."""

import dataclasses
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from reports.cli import cli
from reports.serve_configuration import WrongConfiguration, read_configuration, schema
from reports.settings import Settings
from reports.toml_lines import line_of

ROOT = Path(__file__).parents[2]


def test_every_limit_can_be_set():
    names = {field.name for field in dataclasses.fields(Settings)}
    assert set(schema()["properties"]["limits"]["properties"]) == names


def test_every_member_is_documented():
    pages = ("collector", "tokens", "growing")
    text = "".join((ROOT / f"docs/{name}.md").read_text(encoding="utf-8") for name in pages)
    for table in ("server", "limits", "tokens", "readers", "queue"):
        assert f"[{table}]" in text
        for name in schema()["properties"][table]["properties"]:
            assert f"`{name}`" in text, name
    for name in (*schema()["properties"]["issuer"]["items"]["properties"], *schema()["$defs"]["rule"]["properties"]):
        assert f"`{name}`" in text, name


def test_the_example_is_valid(tmp_path: Path):
    example = (ROOT / "deploy/collector/serve.toml").read_text(encoding="utf-8")
    path = tmp_path / "serve.toml"
    path.write_text(example)
    given = read_configuration(path)
    assert given.authorizer is not None
    # What it shows as comments is valid, too.
    path.write_text(re.sub(r"(?m)^#(?=[\[a-z])", "", example))
    assert read_configuration(path).authorizer is not None


def test_paths_start_at_the_folder_of_the_file(tmp_path: Path):
    (tmp_path / "serve.toml").write_text('[server]\ntls_certificate = "cert.pem"\ntls_key = "/abs/key.pem"\n')
    given = read_configuration(tmp_path / "serve.toml")
    assert given.server == {"tls_certificate": str(tmp_path / "cert.pem"), "tls_key": "/abs/key.pem"}
    assert (given.limits, given.authorizer) == (Settings(), None)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[server]\nprot = 1\n", ":2: server.prot: is not known here; known are host, port"),
        ("[limit]\n", ":1: limit: is not known here"),
        ("\n\n[limits]\nrate_per_s = -1\n", ":4: limits.rate_per_s: -1 is less than the minimum"),
        ('[limits]\nconnections = "many"\n', ":2: limits.connections: 'many' is not of type 'integer'"),
        ("[tokens]\nleeway_s = 1\n", ":1: tokens: 'audience' is a required property"),
        ('[tokens]\naudience = ["x"]\nleeway_s = 3600\n', ":3: tokens.leeway_s: 3600 is greater"),
        ('[server]\ntls_key = "x"\n', ":1: server: 'tls_certificate' is a dependency"),
        ("[readers]\neverybody = true\n", "'tokens' is a dependency of 'readers'"),
        (
            '[tokens]\naudience = ["x"]\n[readers]\nproxies = ["10.0.0.1/8"]\n',
            ":4: readers.proxies.0: 10.0.0.1/8 has host",
        ),
        ("[server\n", "line 1"),
        ("\xff", "invalid start byte"),
        (
            '[tokens]\naudience = ["x"]\n[[issuer]]\nurl = "http://x.org"\n[[issuer.rule]]\nscope = "a"\nread = true\n',
            ":4: issuer.0.url: must be an https address",
        ),
        (
            '[tokens]\naudience = ["x"]\n[[issuer]]\nurl = "https://x"\n[[issuer.rule]]\nscope = "a"\nsites = ["*"]\n',
            ":5: issuer.0.rule.0: 'factories' is a dependency of 'sites'",
        ),
        (
            '[tokens]\naudience = ["x"]\n[[issuer]]\nurl = "https://x"\n[[issuer.rule]]\nread = true\n',
            ":5: issuer.0.rule.0:",
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, text: str, words: str):
    path = tmp_path / "serve.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(WrongConfiguration) as caught:
        read_configuration(path)
    assert words in str(caught.value)
    assert str(caught.value).isprintable()


def test_lines_are_found_in_nested_tables():
    text = '[[a]]\nx = 1\n\n[[a]]\n[a."b c"]\ny.z = 2\n[[a.d]]\n[[a.d]]\nx = 3\n'
    paths = [("a", 0, "x"), ("a", 1), ("a", 1, "b c"), ("a", 1, "b c", "y", "z"), ("a", 1, "d", 1, "x"), ("a", 1, "q")]
    assert [line_of(text, path) for path in paths] == [2, 4, 5, 6, 9, 4]
    assert line_of(text, ()) is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--config", "none.toml"], "none.toml: No such file"),
        (["--config", "tokens.toml", "--open"], "leave one out"),
        (["--host", "0.0.0.0"], "nothing says who may send"),
        (["--tls-cert", "x.pem"], "belong together"),
        (["--tls-cert", "x.pem", "--tls-key", "x.pem"], "cannot be used: No such file"),
    ],
)
def test_what_cannot_be_served_is_said_before_anything_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    Path("tokens.toml").write_text('[tokens]\naudience = ["https://x"]\n')
    result = CliRunner().invoke(cli, ["serve", "--port", "0", *arguments], prog_name="site-db")
    assert result.exit_code in (1, 2)
    assert words in result.stderr
