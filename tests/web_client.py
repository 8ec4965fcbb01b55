"""Where an app lives: an https server on loopback, certified by a test CA, that serves documents by path."""

from __future__ import annotations

import datetime
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from pds_lite import ujson


@dataclass
class AppHost:
    """`documents` maps a path to a JSON value, or to (status, headers, body); `asked` lists the paths asked for."""

    name: str
    port: int
    ca_file: Path
    documents: dict[str, Any] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"https://{self.name}:{self.port}"


@contextmanager
def app_host(folder: Path, name: str = "app.client.example") -> Iterator[AppHost]:
    """A running server for the host `name`; whoever asks must resolve it to 127.0.0.1 and trust `ca_file`."""
    folder.mkdir(parents=True, exist_ok=True)
    ca_file, chain = make_certificates(folder, name)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    host = AppHost(name, 0, ca_file)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            host.asked.append(self.path)
            found = host.documents.get(self.path, (404, {}, b"not found"))
            status, headers, body = found if isinstance(found, tuple) else (200, {}, ujson.dumpb(found))
            self.send_response(status)
            for key, value in {"content-type": "application/json", **headers}.items():
                self.send_header(key, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.socket = context.wrap_socket(server.socket, server_side=True)
    host.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, name="app host")
    thread.start()
    try:
        yield host
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def make_certificates(folder: Path, name: str) -> tuple[Path, Path]:
    """(the CA's certificate, key and certificate of `name`) as files."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    now = datetime.datetime.now(datetime.UTC)
    span = now - datetime.timedelta(days=1), now + datetime.timedelta(days=1)

    def certificate(
        subject: str, issuer: str, key: ec.EllipticCurvePrivateKey, signer: ec.EllipticCurvePrivateKey, *, ca: bool
    ) -> x509.Certificate:
        builder = x509.CertificateBuilder(
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]),
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]),
            key.public_key(),
            x509.random_serial_number(),
            *span,
        ).add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
        builder = builder.add_extension(authority, critical=False)
        if ca:
            usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
            builder = builder.add_extension(usage, critical=True)
        else:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(subject)]), critical=False)
        return builder.sign(signer, hashes.SHA256())

    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_file, chain = folder / "ca.pem", folder / "host.pem"
    pem = serialization.Encoding.PEM
    ca_file.write_bytes(certificate("test CA", "test CA", ca_key, ca_key, ca=True).public_bytes(pem))
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    chain.write_bytes(secret + certificate(name, "test CA", key, ca_key, ca=False).public_bytes(pem))
    return ca_file, chain


def metadata(host: AppHost, **members: Any) -> Mapping[str, Any]:
    """The document of a public web client at `host`."""
    return {
        "client_id": f"{host.url}/client.json",
        "client_name": "Official Bank of Everything",
        "redirect_uris": [f"https://{host.name}/callback"],
        "scope": "atproto transition:generic",
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": "none",
        "application_type": "web",
        "dpop_bound_access_tokens": True,
        **members,
    }
