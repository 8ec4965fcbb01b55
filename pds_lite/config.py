"""Config: every setting, read once at start.

Order: defaults, then `pds-lite.toml` in the data directory, then the environment (PDS_LITE_<NAME>), then the command
line. The file's keys are the field names below; an unknown key stops the start, because a misspelt setting is a
setting not in force.

Rules that hold here
- A wrong value is a ConfigError that names the setting, the value (unless it is a secret) and what would be right.
- What follows from other settings (public_url, service_did) is computed here and nowhere else: clients compare them
  with each other and with the DID document.
- Frozen: whoever needs another value makes another Config.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pds_lite.errors import ConfigError

FILE_NAME = "pds-lite.toml"
PREFIX = "PDS_LITE_"

_MIB = 1 << 20
_DAY = 86400
_SECRETS = frozenset({"admin_password", "smtp_url"})
_RESERVED = ("alt", "arpa", "example", "internal", "invalid", "local", "localhost", "onion")
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_DID = re.compile(r"did:[a-z]+:[A-Za-z0-9._:%-]+", re.ASCII)
_TRUTH = {"on": True, "true": True, "yes": True, "1": True, "off": False, "false": False, "no": False, "0": False}

Parser = Callable[[Any], Any]


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("must be text")
    return value


def _optional_text(value: Any) -> str | None:
    return _text(value) or None


def _secret(value: Any) -> str | None:
    return _optional_text(value)


def _truth(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    found = _TRUTH.get(str(value).lower())
    if found is None:
        raise ValueError("must be on or off")
    return found


def _number(lowest: float, highest: float, kind: type[int] | type[float] = int) -> Parser:
    def parse(value: Any) -> int | float:
        try:
            number = kind(value)
        except (TypeError, ValueError, OverflowError):
            raise ValueError("must be a number") from None
        if kind is int and isinstance(value, float) and number != value:
            raise ValueError("must be a whole number")
        if isinstance(value, bool) or not lowest <= number <= highest:
            raise ValueError(f"must lie between {lowest:g} and {highest:g}")
        return number

    return parse


def _url(value: Any) -> str:
    text = _text(value)
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.query or parts.fragment or parts.username is not None or not text.isascii():
        raise ValueError("must be a URL such as https://name.example.com")
    return text.rstrip("/")


def _optional_url(value: Any) -> str | None:
    return _url(value) if value else None


def _mail_url(value: Any) -> str | None:
    text = _text(value)
    if text and urlsplit(text).scheme not in ("smtp", "smtps"):
        raise ValueError("must begin with smtp:// or smtps://")
    return text or None


def _did(value: Any) -> str:
    if not _DID.fullmatch(_text(value)):
        raise ValueError("must be a DID")
    return str(value)


def _path(value: Any) -> Path | None:
    return Path(_text(value)).expanduser() if value else None


def _ca_file(value: Any) -> Path | None:
    path = _path(value)
    if path is not None:
        import ssl

        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
        except ssl.SSLError:
            raise ValueError("holds no certificates in PEM form") from None
        except OSError as problem:
            raise ValueError(f"cannot be read: {problem.strerror}") from None
    return path


def _dns_server(value: Any) -> str | None:
    text = _optional_text(value)
    if text is not None:
        parse_address(text, 53)
    return text


def parse_address(text: str, default_port: int) -> tuple[str, int]:
    """(address, port) of `1.1.1.1`, `127.0.0.1:5353`, `::1` or `[::1]:5353`. Raises ValueError."""
    host, port = text, str(default_port)
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        port = rest.removeprefix(":") or port if bracket else ""
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    if not (_is_address(host) and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError("must be an IP address with an optional port, such as 1.1.1.1 or [::1]:5353")
    return host, int(port)


def _list(value: Any) -> tuple[str, ...]:
    entries = value.split(",") if isinstance(value, str) else value
    if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
        raise ValueError("must be a list of texts (comma separated in the environment)")
    return tuple(entry.strip() for entry in entries if entry.strip())


def _relays(value: Any) -> tuple[str, ...]:
    return tuple(_url(entry if "://" in entry else f"https://{entry}") for entry in _list(value))


def _hostname(value: Any) -> str:
    name, colon, port = _text(value).lower().partition(":")
    if colon and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError("must be a host name, or localhost:PORT in development")
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        raise ValueError("must be a host name such as pds.example.com, without https:// or a path")
    if name.rpartition(".")[2].isdigit() or _is_address(name):
        raise ValueError("must be a name, not an IP address: DIDs and certificates are bound to it")
    return f"{name}{colon}{port}"


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _setting(parse: Parser, default: Any) -> Any:
    # Not shown in repr, so that a Config in a log gives nothing away.
    return field(default=default, metadata={"parse": parse}, repr=parse is not _secret and parse is not _mail_url)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All settings. Durations are seconds, sizes bytes. `load` makes one."""

    data_dir: Path
    """Where everything of this box lives; given by the caller, never in the file."""
    hostname: str = _setting(_hostname, "")
    """Public host name: `pds.example.com`; `localhost:PORT` only in development."""
    dev: bool = _setting(_truth, False)
    """Development: plain http, loopback peers, `.test` handles, no rate limits if asked."""
    host: str = _setting(_text, "127.0.0.1")
    port: int = _setting(_number(0, 65535), 2583)
    unix_socket: Path | None = field(default=None, metadata={"parse": _path})
    """Listen there instead of on host and port."""
    trusted_proxies: tuple[str, ...] = _setting(_list, ())
    """Addresses, networks or "unix": whose X-Forwarded-For and X-Forwarded-Proto are believed."""
    max_connections: int = _setting(_number(16, 65536), 256)

    plc_url: str = _setting(_url, "https://plc.directory")
    plc_watch_s: float = _setting(_number(1, 30 * _DAY, float), 900.0)
    """How often the directory is asked whether our DID's document changed."""
    appview_url: str = _setting(_url, "https://api.bsky.app")
    appview_did: str = _setting(_did, "did:web:api.bsky.app")
    report_url: str = _setting(_url, "https://mod.bsky.app")
    report_did: str = _setting(_did, "did:plc:ar7c4by46qjdydhdevvrndac")
    chat_url: str = _setting(_url, "https://api.bsky.chat")
    chat_did: str = _setting(_did, "did:web:api.bsky.chat")
    relays: tuple[str, ...] = _setting(_relays, ("https://bsky.network",))
    """Asked to crawl this box; none in development unless set."""
    mdns: bool = _setting(_truth, True)
    admin_password: str | None = _setting(_secret, None)
    """For Basic authentication of administration methods; without it they are closed."""
    smtp_url: str | None = _setting(_mail_url, None)
    smtp_from: str | None = _setting(_optional_text, None)
    contact_email: str | None = _setting(_optional_text, None)
    """Of whoever runs this box; shown to everybody (describeServer), as are the two below."""
    privacy_policy_url: str | None = _setting(_optional_url, None)
    terms_of_service_url: str | None = _setting(_optional_url, None)
    blob_limit: int = _setting(_number(1, 1 << 40), 300 * _MIB)
    import_limit: int = _setting(_number(_MIB, 1 << 40), 4096 * _MIB)
    """Bytes of one CAR that importRepo takes: ten times the largest repositories known."""
    firehose_window_s: float = _setting(_number(0, 365 * _DAY, float), 3.0 * _DAY)
    """How long events can be read again."""
    firehose_bytes: int = _setting(_number(_MIB, 1 << 40), 256 * _MIB)
    """Of stored events, whatever their age."""
    did_cache_s: float = _setting(_number(0, _DAY, float), 3600.0)
    access_ttl_s: int = _setting(_number(1, _DAY), 7200)
    """Life of an access token."""
    dns_server: str | None = _setting(_dns_server, None)
    """ADDRESS or ADDRESS:PORT for TXT look-ups instead of the system's."""
    ca_file: Path | None = field(default=None, metadata={"parse": _ca_file})
    """Certificates (PEM) trusted besides the system's."""
    rate_limits: bool = _setting(_truth, True)
    """Off only in development; also stops login throttling."""

    @property
    def public_url(self) -> str:
        """The origin clients use: `https://pds.example.com`, or `http://localhost:PORT` in development."""
        return f"{'http' if _is_local(self.hostname) else 'https'}://{self.hostname}"

    @property
    def lan_port(self) -> int:
        """Where the LAN finds this box: its own port, or 80 when only the proxy in front can reach that."""
        behind_proxy = self.unix_socket is not None or self.host in ("127.0.0.1", "::1", "localhost")
        return 80 if behind_proxy and not self.dev else self.port

    @property
    def service_did(self) -> str:
        """did:web of the public host name; a port's colon is percent-encoded."""
        return "did:web:" + self.hostname.replace(":", "%3A")

    @property
    def access_ttl(self) -> int:
        """Seconds; short for access_ttl_s."""
        return self.access_ttl_s


_SETTINGS: dict[str, Field[Any]] = {item.name: item for item in fields(Config) if item.name != "data_dir"}
_NO_SETTINGS = frozenset({"data_dir", "board_configs", "failpoint"})
"""Variables with our prefix that are read elsewhere."""


def load(
    data_dir: Path,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Config:
    """The settings of the box in `data_dir`. `overrides` (command line) with value None count as not given.

    Raises ConfigError for the first setting that is wrong, unknown, or does not go with the others.
    """
    environ = os.environ if environ is None else environ
    values: dict[str, Any] = {}
    for name, value in _read_file(data_dir / FILE_NAME).items():
        if name not in _SETTINGS:
            raise ConfigError(f'{FILE_NAME}: unknown setting "{name}"{_nearest(name)}')
        values[name] = _parse(name, value, f"{FILE_NAME}: {name}")
    for name in _SETTINGS:
        variable = PREFIX + environment_name(name)
        if variable in environ:
            values[name] = _parse(name, environ[variable], variable)
    for name, value in (overrides or {}).items():
        if value is not None:
            values[name] = _parse(name, value, name)
    if values.get("dev") and "relays" not in values:
        values["relays"] = ()
    config = Config(data_dir=data_dir, **values)
    _check_together(config)
    return config


def misspelt(environ: Mapping[str, str]) -> list[str]:
    """A sentence for each variable that looks like a setting and is none. No error: others may use the prefix, too."""
    names = {variable.removeprefix(PREFIX): variable for variable in environ if variable.startswith(PREFIX)}
    unknown = {name.lower(): names[name] for name in sorted(names) if name.lower() not in (*_SETTINGS, *_NO_SETTINGS)}
    return [f"{variable} is no setting{_nearest(name)}" for name, variable in unknown.items()]


def write_initial(data_dir: Path, **settings: Any) -> Path:
    """Writes the first pds-lite.toml (mode 0600, folder 0700) and gives its path. Settings that are None are left out.

    Outside development the reverse proxy on this machine is trusted, since that is how a box is reached. Raises
    ConfigError for a wrong setting, before anything is written, or if there is a file already.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    if not given.get("dev"):
        given.setdefault("trusted_proxies", ["127.0.0.1", "::1", "unix"])
    for name in given:
        if name not in _SETTINGS:
            raise ConfigError(f'unknown setting "{name}"{_nearest(name)}')
    parsed = {name: _parse(name, value, name) for name, value in given.items()}
    _check_together(Config(data_dir=data_dir, **parsed))
    lines = ["# pds-lite: settings of this box. Every setting and its meaning: pds_lite/config.py"]
    lines += [f"{name} = {_toml(value)}" for name, value in given.items()]
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError:
        raise ConfigError(f"{data_dir} is a file, not a folder") from None
    path = data_dir / FILE_NAME
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write("\n".join(lines) + "\n")
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        raise ConfigError(f"{path} exists already") from None
    return path


def environment_name(name: str) -> str:
    """The part of the variable's name after PDS_LITE_."""
    return name.upper()


def _read_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise ConfigError(f"{path}: {problem}") from None
    except OSError as problem:
        raise ConfigError(f"{path} cannot be read: {problem.strerror}") from None


def _parse(name: str, value: Any, shown_name: str) -> Any:
    try:
        return _SETTINGS[name].metadata["parse"](value)
    except ValueError as problem:
        shown = "" if name in _SECRETS else f" = {str(value)[:200]!r}"
        raise ConfigError(f"{shown_name}{shown}: {problem}") from None


def _check_together(config: Config) -> None:
    """Rules between settings."""
    if not config.hostname:
        raise ConfigError("hostname is not set", hint="pds-lite init --hostname pds.example.com")
    name, _, port = config.hostname.partition(":")
    if config.dev:
        return
    if port or "." not in name or name.rpartition(".")[2] in (*_RESERVED, "test"):
        raise ConfigError(
            f"hostname = {config.hostname!r}: not a name that the public internet knows",
            hint="give the box a public host name, or use --dev to try it out on this machine",
        )
    if not config.rate_limits:
        raise ConfigError("rate_limits = off: allowed in development only (--dev)")


def _is_local(hostname: str) -> bool:
    name = hostname.partition(":")[0]
    return name == "localhost" or name.endswith((".localhost", ".test")) or ":" in hostname


def _nearest(name: str) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, _SETTINGS, n=1)
    return f' (did you mean "{near[0]}"?)' if near else ""


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(entry) for entry in value) + "]"
    text = str(value)
    if any(ord(char) < 32 or ord(char) == 127 for char in text):
        raise ConfigError("a setting holds a control character")
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
