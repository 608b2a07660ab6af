"""What tests of questions to a live page share."""

from __future__ import annotations

from typing import Any

import httpx

from retain.apps.page.server import Page

HEADERS = {"X-Retain": "1"}


def asked(page: Page, **question: Any) -> httpx.Response:
    return httpx.post(f"{page.url}api/ask", json=question, headers=HEADERS, timeout=30)


def shown(page: Page, picture: bytes, **query: Any) -> httpx.Response:
    headers = {**HEADERS, "Content-Type": "image/jpeg"}
    return httpx.post(
        f"{page.url}api/ask", content=picture, params=query, headers=headers, timeout=30
    )


def refused(answer: httpx.Response, status: int, sentence: str) -> None:
    assert answer.status_code == status, answer.text
    told = answer.json()
    assert set(told) == {"error", "hint"}
    assert sentence in told["error"], told
