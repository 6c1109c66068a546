"""HTTP with AWS's signature (SigV4), signed and sent by hand over kept connections: a quarter of the time that botocore takes.

A query makes several requests at once, and what they cost of our processor they wait for each other. botocore still finds
credentials and region.
"""

from __future__ import annotations

import hashlib
import hmac
import select
import weakref
from collections import deque
from collections.abc import Mapping
from functools import cache, lru_cache
from http.client import HTTPConnection, HTTPSConnection
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from tesseract.utils.time_utils import utc_now

NOTHING = hashlib.sha256(b"").hexdigest()


class Answer(NamedTuple):
    """What came back."""

    status: int
    body: bytes


class Keys(NamedTuple):
    """Credentials of AWS; `token` is None of those that do not expire."""

    access_key: str
    secret_key: str
    token: str | None


class Host:
    """One address, and the connections to it that are kept, at most `size` of them. Safe to share between threads.

    `timeout` is seconds to connect and to answer; `certificates` is a file of those to trust. Raises OSError and
    http.client.HTTPException where no whole answer comes.
    """

    def __init__(self, url: str, timeout: tuple[float, float], size: int, certificates: str) -> None:
        parts = urlsplit(url)
        self._secure, self._timeout, self._size, self._certificates = parts.scheme == "https", timeout, size, certificates
        self._host, self._port = parts.hostname or "", parts.port or (443 if self._secure else 80)
        self.name = parts.netloc.rpartition("@")[2].removesuffix(":443" if self._secure else ":80")  # as the signature has it
        self.path = parts.path.rstrip("/")
        self._kept: deque[HTTPConnection] = deque()
        weakref.finalize(self, _close, self._kept)

    def send(self, method: str, target: str, headers: Mapping[str, str], body: bytes | None = None) -> Answer:
        """The answer to one request. Nothing is sent again: a connection that the other side has closed is not used."""
        connection = self._take()
        try:
            connection.request(method, target, body, headers)
            answer = connection.getresponse()
            content = answer.read()
        except BaseException:
            connection.close()
            raise
        if answer.will_close or len(self._kept) >= self._size:
            connection.close()
        else:
            self._kept.append(connection)
        return Answer(answer.status, content)

    def _take(self) -> HTTPConnection:
        while self._kept:
            try:
                kept = self._kept.pop()
            except IndexError:  # another thread's
                break
            if not _readable(kept):
                return kept
            kept.close()
        if self._secure:
            fresh: HTTPConnection = HTTPSConnection(
                self._host, self._port, timeout=self._timeout[0], context=_context(self._certificates)
            )
        else:
            fresh = HTTPConnection(self._host, self._port, timeout=self._timeout[0])
        fresh.connect()
        fresh.sock.settimeout(self._timeout[1])
        return fresh


def _close(connections: deque[HTTPConnection]) -> None:
    while connections:
        connections.pop().close()


def _readable(connection: HTTPConnection) -> bool:
    """Whether something has come unasked: the end, most of the time."""
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN)
    return bool(poll.poll(0))


@cache
def _context(certificates: str) -> Any:
    import ssl

    return ssl.create_default_context(cafile=certificates)


def certificates(session: Any) -> str:
    """The file of the certificates that a botocore session trusts."""
    from botocore.httpsession import get_cert_path

    return str(session.get_config_variable("ca_bundle") or get_cert_path(True))


def encode_path(path: str) -> str:
    """A path as it is sent and signed."""
    return quote(path, safe="/-_.~")


def sign(
    keys: Keys, region: str, service: str, host: str, method: str, target: str, headers: Mapping[str, str], digest: str
) -> dict[str, str]:
    """The headers of a request (names in small letters), signed as of now. `digest` is that of its body, SHA-256 in hex digits.

    `target` is a path as `encode_path` gives it, without a query.
    """
    moment = f"{utc_now():%Y%m%dT%H%M%SZ}"
    signed = {**headers, "host": host, "x-amz-date": moment}
    if keys.token:
        signed["x-amz-security-token"] = keys.token
    names = sorted(signed)
    listed = ";".join(names)
    lines = "".join(f"{name}:{signed[name]}\n" for name in names)
    request = f"{method}\n{target}\n\n{lines}\n{listed}\n{digest}"
    scope = f"{moment[:8]}/{region}/{service}/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    signature = hmac.digest(_key(keys.secret_key, moment[:8], region, service), text.encode(), "sha256").hex()
    credential = f"{keys.access_key}/{scope}"
    signed["authorization"] = f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={listed}, Signature={signature}"
    return signed


@lru_cache(maxsize=16)
def _key(secret: str, day: str, region: str, service: str) -> bytes:
    """The key that a day's signatures for a service are made with."""
    key = f"AWS4{secret}".encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def keys_of(credentials: Any) -> Keys:
    """The keys of botocore's credentials as they are now; it renews those that expire."""
    frozen = credentials.get_frozen_credentials()
    return Keys(frozen.access_key, frozen.secret_key, frozen.token)
