"""The short road to an object's bytes: a GET signed and sent by hand, in a fifth of the time that botocore takes for it.

Only what goes well goes this way. Whatever else is answered, and where nobody answers, the caller asks again through botocore,
which knows redirections, retries and every error; the same goes for a client that is set up in a way that this does not know.
"""

from __future__ import annotations

import re
from contextlib import suppress
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

from tesseract.storage.signed import NOTHING, Host, certificates, encode_path, keys_of, sign

TIMEOUT = (5, 60)  # seconds to connect, to answer
MAX_CONNECTIONS = 32
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]*")
_AWS = (".amazonaws.com", ".amazonaws.com.cn")


class Road:
    """GETs from one bucket. Safe to share between threads."""

    def __init__(self, host: Host, path: str, region: str, credentials: Any) -> None:
        self._host, self._path, self._region, self._credentials = host, path, region, credentials

    def get(self, key: str, span: str = "") -> bytes | None:
        """An object, or the bytes of a Range header; None where that did not go well."""
        from botocore.exceptions import BotoCoreError

        target = self._host.path + encode_path(f"{self._path}/{key}")
        headers = {"x-amz-content-sha256": NOTHING} | ({"range": span} if span else {})
        with suppress(OSError, HTTPException, BotoCoreError):
            keys = keys_of(self._credentials)
            signed = sign(keys, self._region, "s3", self._host.name, "GET", target, headers, NOTHING)
            answer = self._host.send("GET", target, signed)
            if answer.status == (206 if span else 200):
                return answer.body
        return None


def road(client: Any, bucket: str) -> Road | None:
    """The road to a bucket as a botocore client would go; None where it would go another way."""
    from botocore.session import get_session
    from botocore.utils import get_environ_proxies

    url, config = client.meta.endpoint_url, client.meta.config
    settings = config.s3 or {}
    style = settings.get("addressing_style") or "auto"
    usual = set(settings) <= {"addressing_style"} and style in ("auto", "path", "virtual") and not config.client_cert
    credentials = _credentials(client)
    if not usual or config.signature_version != "s3v4" or credentials is None:
        return None
    if get_environ_proxies(url) or not _BUCKET.fullmatch(bucket):
        return None
    parts = urlsplit(url)
    own = style == "virtual" or (style == "auto" and (parts.hostname or "").endswith(_AWS) and "." not in bucket)
    host = f"{parts.scheme}://{bucket}.{parts.netloc}{parts.path}" if own else url
    trusted = certificates(get_session())
    return Road(Host(host, TIMEOUT, MAX_CONNECTIONS, trusted), "" if own else f"/{bucket}", client.meta.region_name, credentials)


def _credentials(client: Any) -> Any:
    """Those of a client; None where it has none, or no longer says (it is not asked in a way that botocore promises to keep)."""
    try:
        return client._get_credentials()
    except AttributeError:
        return None
