"""Take credentials out of text before a person, a log or a report sees it.

Every error, description and log line of a source passes through here: libraries repeat whole
addresses in their messages, user and password included.
"""

from __future__ import annotations

import re

MASK = "***"

_TELLING = (
    "access_?key|access_?token|api_?key|credentials?|passphrase|passw(?:or)?d|pwd|secret|sig"
    "|signature|token"
)
_IN_QUERY = _TELLING + (
    "|auth|bearer|code|expires|hdnea|hdnts|jwt|key|pass|policy|session|sid|streamid|ticket|user"
    "|username|usr"
)
# A credential may itself hold "@", "/", ":", "?" or a quote when its owner forgot to
# percent-encode it. So everything up to the last "@" counts, until a blank or the next address:
# rather lose a host name from a message than show half a password.
_USERINFO = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.\-]*:/{2,3})(?:(?![a-z][a-z0-9+.\-]*://)\S)*@", re.IGNORECASE
)
_QUERY = re.compile(
    rf"(?P<name>[?&;#](?:[\w.\-]*[_.\-])?(?:{_IN_QUERY})(?:_?id)?="
    rf"|\b(?:[\w.\-]*[_.\-])?(?:{_TELLING})=)"
    r"(?P<value>\"[^\"]*\"|'[^']*'|[^&;#\s'\"<>,)}]+)",
    re.IGNORECASE,
)
_HEADER = re.compile(
    r"(?P<name>\b(?:proxy-)?authorization\s*[:=]\s*|\b(?:basic|bearer|digest)\s+)"
    r"(?!\*)(?P<value>(?:(?:basic|bearer|digest)\s+)?[A-Za-z0-9+/=_.~\-]{6,})",
    re.IGNORECASE,
)


def redact(text: str) -> str:
    """``text`` with user names, passwords and secret query values replaced by ``***``.

    Knows ``scheme://user:password@host``, query and option pairs with telling names (``token``,
    ``key``, ``sig``, ``auth`` ...) and authorization headers. Idempotent.

    >>> redact("cannot open rtsp://me:pa%40ss@camera/1?token=abc&w=2")
    'cannot open rtsp://***@camera/1?token=***&w=2'
    """
    text = _USERINFO.sub(rf"\g<scheme>{MASK}@", text)
    text = _QUERY.sub(rf"\g<name>{MASK}", text)
    return _HEADER.sub(rf"\g<name>{MASK}", text)
