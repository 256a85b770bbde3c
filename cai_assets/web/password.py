"""An optional password: asked by the browser (HTTP Basic, under any user name), which sends it with each request.

Not a cookie: browsers send those to every port of a host, and so to other servers on this machine.
"""

from __future__ import annotations

import binascii
import os
from base64 import b64decode
from collections.abc import MutableMapping
from hmac import compare_digest
from pathlib import Path

from starlette.requests import HTTPConnection

from cai_assets.errors import CaiError

VARIABLE = "CAI_UI_PASSWORD"


class PasswordError(CaiError, ValueError):
    """There is no usable password where one was announced. The message says where and what to do."""


class Password:
    """What a request must carry."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()

    def is_given(self, request: HTTPConnection) -> bool:
        """Whether the request carries it; compared in constant time."""
        scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
        try:
            _, _, given = b64decode(encoded, validate=True).partition(b":")
        except (binascii.Error, ValueError):
            return False
        return scheme.lower() == "basic" and compare_digest(given, self._secret)


def read_password(file: Path | None, environment: MutableMapping[str, str] = os.environ) -> str | None:
    """The password of a file or of ``CAI_UI_PASSWORD``, which leaves the environment; None if there is neither.

    Raise PasswordError for an empty one, and for a file that cannot be read.
    """
    found = environment.pop(VARIABLE, None)  # so that no process started from here inherits it
    if file is not None:
        try:
            found = file.expanduser().read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as e:
            raise PasswordError(f"the password file {file} cannot be read ({e}); write the password into it") from None
    if found == "":
        where = f"the file {file}" if file else VARIABLE
        raise PasswordError(f"the password in {where} is empty; write one, or leave it out to serve without a password")
    return found
