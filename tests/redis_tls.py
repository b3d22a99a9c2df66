"""What a Redis needs for TLS, for tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme


def tls_options(folder: Path, authority: trustme.CA) -> list[str]:
    """What a server is given besides its port, with a certificate for `localhost`; leaves `ca.pem` in the folder."""
    authority.cert_pem.write_to_path(folder / "ca.pem")
    certificate = authority.issue_cert("localhost")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    options = ["--tls-auth-clients", "no", "--tls-ca-cert-file", str(folder / "ca.pem")]
    for name in ("cert", "key"):
        options += [f"--tls-{name}-file", str(folder / f"{name}.pem")]
    return options


def tls_client(folder: Path) -> dict[str, Any]:
    """What clients of such a server are given besides its port."""
    return {"host": "localhost", "ssl": True, "ssl_ca_certs": str(folder / "ca.pem")}


@contextmanager
def skipped_without_tls() -> Iterator[None]:
    """The test is skipped where a server that is started here was built without TLS."""
    try:
        yield
    except RuntimeError as error:
        if "tls" in str(error).lower():
            pytest.skip(f"this Redis was built without TLS: {error}")
        raise
