"""Settings come in a known order, and a wrong one is refused by name, value and reason."""

from __future__ import annotations

import dataclasses
import stat
from pathlib import Path
from typing import Any

import pytest

from pds_lite import config
from pds_lite.errors import ConfigError
from tests.web_client import make_certificates


def load(folder: Path, text: str = "", environ: dict[str, str] | None = None, **overrides: Any) -> config.Config:
    if text:
        (folder / config.FILE_NAME).write_text(text)
    return config.load(folder, environ or {}, overrides)


def test_the_order_is_file_environment_command_line(tmp_path: Path) -> None:
    file = 'hostname = "pds.example.com"\nblob_limit = 1\naccess_ttl_s = 1\ndid_cache_s = 1\n'
    environ = {"PDS_LITE_BLOB_LIMIT": "2", "PDS_LITE_ACCESS_TTL_S": "2"}
    made = load(tmp_path, file, environ, blob_limit=3, port=None)
    assert (made.blob_limit, made.access_ttl, made.did_cache_s, made.port) == (3, 2, 1, 2583)


def test_every_setting_of_the_contract_has_its_variable(tmp_path: Path) -> None:
    ca_file, _chain = make_certificates(tmp_path, "pds.example.com")
    values = {
        "PLC_URL": "http://localhost:2582",
        "APPVIEW_URL": "https://view.example.com/",
        "APPVIEW_DID": "did:web:view.example.com",
        "REPORT_URL": "https://mod.example.com",
        "REPORT_DID": "did:plc:ewvi7nxzyoun6zhxrhs64oiz",
        "CHAT_URL": "https://chat.example.com",
        "CHAT_DID": "did:web:chat.example.com",
        "RELAYS": "bsky.network, https://relay.example.com",
        "MDNS": "off",
        "ADMIN_PASSWORD": "hunter2",
        "SMTP_URL": "smtps://me:secret@mail.example.com",
        "SMTP_FROM": "pds@example.com",
        "CONTACT_EMAIL": "owner@example.com",
        "PRIVACY_POLICY_URL": "https://example.com/privacy",
        "TERMS_OF_SERVICE_URL": "https://example.com/terms",
        "BLOB_LIMIT": "1000000",
        "FIREHOSE_WINDOW_S": "0.5",
        "DID_CACHE_S": "0",
        "ACCESS_TTL_S": "60",
        "DNS_SERVER": "192.0.2.53",
        "CA_FILE": str(ca_file),
        "PLC_WATCH_S": "60",
        "RATE_LIMITS": "off",
    }
    environ = {f"PDS_LITE_{name}": value for name, value in values.items()}
    made = load(tmp_path, environ=environ, hostname="localhost:2583", dev=True)
    assert made.relays == ("https://bsky.network", "https://relay.example.com")
    assert made.appview_url == "https://view.example.com"
    assert (made.mdns, made.rate_limits, made.firehose_window_s, made.ca_file) == (
        False,
        False,
        0.5,
        ca_file,
    )
    unset = load(tmp_path, hostname="localhost:2583", dev=True)
    assert all(getattr(made, name.lower()) != getattr(unset, name.lower()) for name in values)


@pytest.mark.parametrize(
    ("hostname", "dev", "url", "did"),
    [
        ("pds.example.com", False, "https://pds.example.com", "did:web:pds.example.com"),
        ("PDS.Example.com", False, "https://pds.example.com", "did:web:pds.example.com"),
        ("pds.example.com", True, "https://pds.example.com", "did:web:pds.example.com"),
        ("localhost:2583", True, "http://localhost:2583", "did:web:localhost%3A2583"),
        ("localhost", True, "http://localhost", "did:web:localhost"),
        ("pds.test", True, "http://pds.test", "did:web:pds.test"),
    ],
)
def test_url_and_service_did_follow_from_the_host_name(
    tmp_path: Path, hostname: str, dev: bool, url: str, did: str
) -> None:
    made = load(tmp_path, hostname=hostname, dev=dev)
    assert (made.public_url, made.service_did) == (url, did)


@pytest.mark.parametrize(
    "hostname",
    [
        *("pds-lite.local", "x.onion", "a.internal", "a.alt", "a.example", "a.invalid", "1.168.192.in-addr.arpa"),
        *("localhost", "localhost:2583", "pds.test", "pds", "pds.example.com:8443", "192.0.2.1", "[::1]", "::1"),
        *("https://pds.example.com", "pds.example.com/", "pds_lite.example.com", "-a.example.com", "a..b", "", "é.com"),
        *("pds.example.com.", "0x7f.1", "a" * 64 + ".com", "a b.com", "user@pds.example.com"),
    ],
)
def test_a_name_the_internet_cannot_know_is_refused(tmp_path: Path, hostname: str) -> None:
    with pytest.raises(ConfigError, match="hostname"):
        load(tmp_path, hostname=hostname)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('blob_limt = 5\nhostname = "pds.example.com"', r'unknown setting "blob_limt" \(did you mean "blob_limit"\?\)'),
        ('blob_limit = "many"', r"blob_limit = 'many': must be a number"),
        ("blob_limit = -1", "blob_limit = '-1': must lie between"),
        ("blob_limit = true", "must lie between"),
        ("blob_limit = 1.5", "blob_limit = '1.5': must be a whole number"),
        ("blob_limit = inf", "blob_limit = 'inf': must be a number"),
        ('dns_server = "localhost"', "dns_server = 'localhost': must be an IP address"),
        ('ca_file = "/nowhere/ca.pem"', "ca_file = '/nowhere/ca.pem': cannot be read: No such file or directory"),
        (f"ca_file = '{__file__}'", "holds no certificates"),
        ("did_cache_s = nan", "must lie between"),
        ("port = 70000", "port"),
        ('mdns = "perhaps"', "mdns = 'perhaps': must be on or off"),
        ('plc_url = "plc.directory"', "plc_url = 'plc.directory': must be a URL"),
        ('plc_url = "https://user:pw@plc.directory"', "must be a URL"),
        ('appview_did = "api.bsky.app"', "must be a DID"),
        ("relays = [1]", "must be a list"),
        ("trusted_proxies = 1", "must be a list"),
        ("hostname = 5", "must be text"),
        ('data_dir = "/x"', "unknown setting"),
        ("not toml", "pds-lite.toml"),
    ],
)
def test_a_wrong_setting_is_named_with_value_and_reason(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        load(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1.1.1.1", ("1.1.1.1", 53)),
        ("127.0.0.1:5353", ("127.0.0.1", 5353)),
        ("::1", ("::1", 53)),
        ("[::1]:5353", ("::1", 5353)),
        ("[::1]", ("::1", 53)),
    ],
)
def test_an_address_may_come_with_a_port(text: str, expected: tuple[str, int]) -> None:
    assert config.parse_address(text, 53) == expected


@pytest.mark.parametrize(
    "text", ["", "localhost", "1.1.1.1:", "1.1.1.1:0", "1.1.1.1:65536", "1.1.1.1:x", "[::1", "::1:x"]
)
def test_anything_else_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="IP address"):
        config.parse_address(text, 53)


def test_a_secret_is_in_no_message_and_no_repr(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, environ={"PDS_LITE_SMTP_URL": "hunter2"}, hostname="pds.example.com")
    assert "hunter2" not in str(caught.value)
    environ = {"PDS_LITE_ADMIN_PASSWORD": "hunter2", "PDS_LITE_SMTP_URL": "smtp://me:hunter2@mail.example.com"}
    assert "hunter2" not in repr(load(tmp_path, environ=environ, hostname="pds.example.com"))


def test_rate_limits_can_be_off_only_in_development(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="rate_limits"):
        load(tmp_path, environ={"PDS_LITE_RATE_LIMITS": "off"}, hostname="pds.example.com")


def test_development_asks_no_relay_unless_told(tmp_path: Path) -> None:
    assert load(tmp_path, hostname="localhost:1", dev=True).relays == ()
    assert load(tmp_path, hostname="pds.example.com").relays == ("https://bsky.network",)
    environ = {"PDS_LITE_RELAYS": "relay.example.com"}
    assert load(tmp_path, environ=environ, hostname="localhost:1", dev=True).relays == ("https://relay.example.com",)


def test_without_a_host_name_the_hint_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path)
    assert "pds-lite init" in caught.value.hint


def test_a_misspelt_variable_is_named_but_stops_nothing(tmp_path: Path) -> None:
    environ = {"PDS_LITE_BLOB_LIMT": "5", "PDS_LITE_DATA_DIR": "/x", "PDS_LITE_MDNS": "off", "HOME": "/"}
    assert config.misspelt(environ) == ['PDS_LITE_BLOB_LIMT is no setting (did you mean "blob_limit"?)']
    assert load(tmp_path, environ=environ, hostname="pds.example.com").blob_limit == 300 << 20


def test_what_is_written_first_is_what_is_loaded(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    path = config.write_initial(
        folder,
        hostname="localhost:2583",
        dev=True,
        plc_url=None,
        smtp_from='"A \\ B" <a@b.c>',
        relays=["r.example.com"],
    )
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    made = config.load(folder, {})
    assert (made.hostname, made.dev, made.smtp_from) == ("localhost:2583", True, '"A \\ B" <a@b.c>')
    assert made.plc_url == config.Config(data_dir=folder).plc_url


def test_a_public_box_trusts_the_proxy_on_its_own_machine(tmp_path: Path) -> None:
    config.write_initial(tmp_path, hostname="pds.example.com")
    assert config.load(tmp_path, {}).trusted_proxies == ("127.0.0.1", "::1", "unix")


def test_a_first_file_is_never_overwritten_and_a_wrong_one_never_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="hostname"):
        config.write_initial(tmp_path / "a", hostname="192.0.2.1")
    assert not (tmp_path / "a").exists()
    config.write_initial(tmp_path, hostname="pds.example.com")
    with pytest.raises(ConfigError, match="exists"):
        config.write_initial(tmp_path, hostname="other.example.com")
    assert config.load(tmp_path, {}).hostname == "pds.example.com"


def test_a_config_does_not_change(tmp_path: Path) -> None:
    made = load(tmp_path, hostname="pds.example.com")
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.port = 1  # type: ignore[misc]
