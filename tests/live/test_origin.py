"""Which pages are ours."""

from __future__ import annotations

import pytest

from live.origin import is_our_page, read_origin

PUBLIC = "https://switchyard.example"


@pytest.mark.parametrize(
    ("origin", "ours"),
    [
        ("https://switchyard.example", True),
        ("https://switchyard.example:443", True),
        ("https://SWITCHYARD.example", True),
        ("http://10.0.0.7:8000", True),
        ("http://switchyard.example", False),
        ("https://switchyard.example:8443", False),
        ("https://switchyard.example.evil.com", False),
        ("https://a.switchyard.example", False),
        ("https://switchyard.example@evil.com", False),
        ("https://evil.com#switchyard.example", False),
        ("https://10.0.0.7:8000", False),
        ("http://10.0.0.7", False),
        ("null", False),
        ("", False),
        ("http://[::1", False),
        ("http://switchyard.example:99999", False),
        ("chrome-extension://abc", False),
    ],
)
def test_scheme_host_and_port_must_all_be_ours(origin: str, ours: bool) -> None:
    assert is_our_page(origin, public_url=PUBLIC, host="10.0.0.7:8000", secure=False) is ours


@pytest.mark.parametrize("host", ["switchyard.example", "switchyard.example:8000"])
def test_a_site_that_is_public_by_https_has_no_plain_pages_under_its_name(host: str) -> None:
    def ours(origin: str, public_url: str = PUBLIC) -> bool:
        return is_our_page(origin, public_url=public_url, host=host, secure=False)

    assert not ours(f"http://{host}")
    assert not ours("http://switchyard.example")
    assert ours(PUBLIC)
    assert ours(f"http://{host}", public_url="http://switchyard.example")


def test_the_usual_ports_need_not_be_written() -> None:
    assert read_origin("http://a") == read_origin("http://a:80")
    assert read_origin("https://a") != read_origin("http://a:443")
