"""No user, password or token survives redaction."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retain.pipeline.redact import redact


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("rtsp://me:secret@cam/1", "rtsp://***@cam/1"),
        ("rtsp://me@cam/1", "rtsp://***@cam/1"),
        ("rtsp://:secret@cam:554/1", "rtsp://***@cam:554/1"),
        ("RTSP://me:secret@[::1]:554/1", "RTSP://***@[::1]:554/1"),
        ("rtsp://me:p%40ss%2Fw@cam/1", "rtsp://***@cam/1"),
        ("rtsp://me:p@ss/w:rd@cam/1", "rtsp://***@cam/1"),
        ("rtsp://me:it's@cam/1", "rtsp://***@cam/1"),
        ("http://h/x?token=abc&w=2", "http://h/x?token=***&w=2"),
        ("http://h/x?w=2&X-Amz-Signature=abc#key=9", "http://h/x?w=2&X-Amz-Signature=***#key=***"),
        ("http://h/x?api_key=1;auth_token=2", "http://h/x?api_key=***;auth_token=***"),
        ("password='two words' next", "password=*** next"),
        ("Authorization: Bearer abcdef.ghi", "Authorization: ***"),
        ("Authorization: Basic dXNlcjpwdw==", "Authorization: ***"),
        ("a.mp4 has 3 streams, codec=h264", "a.mp4 has 3 streams, codec=h264"),
        ("https://h/a/b.m3u8?quality=high", "https://h/a/b.m3u8?quality=high"),
        ("mail me@example.org", "mail me@example.org"),
    ],
)
def test_known_forms(text: str, clean: str) -> None:
    assert redact(text) == clean


def test_several_addresses_in_one_text() -> None:
    text = "'rtsp://a:b@one/1','http://c:d@two/2' and\nsrt://e:f@three:9?passphrase=g"
    clean = "'rtsp://***@one/1','http://***@two/2' and\nsrt://***@three:9?passphrase=***"
    assert redact(text) == clean


_SECRET = st.text("abcXYZ019-_.~!$()*+,;=:/@?'\"%<>", min_size=1, max_size=20)


@given(user=_SECRET, password=_SECRET, before=st.sampled_from(["", "[Errno 5] I/O: '", "x ("]))
def test_no_password_is_left_however_badly_encoded(user: str, password: str, before: str) -> None:
    user, password = f"u_{user}_u", f"p_{password}_p"
    clean = redact(f"{before}rtsp://{user}:{password}@camera.example/1'")
    assert clean == f"{before}rtsp://***@camera.example/1'"


@given(st.text(max_size=80))
def test_redaction_is_idempotent(text: str) -> None:
    assert redact(redact(text)) == redact(text)
