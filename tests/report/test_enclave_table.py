"""Enclaves in a table."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from pytest_enclave.report.enclave_table import Row, age_text, enclave_table
from pytest_enclave.report.look import Look

SHOP = Row("shop-a1b2c3", "docker", "github.com/face/shop", ("api", "cache", "db"), (), 41.2, "in use")
BARE = Row("bare-d4e5f6", "embedded", "", (), (), 7200, "kept until 22 Nov 18:11")


def test_each_enclave_is_a_line() -> None:
    assert enclave_table([SHOP, BARE], Look(width=120)) == [
        "NAME         ENGINE    PACKAGE               SERVICES        AGE   STATE",
        "shop-a1b2c3  docker    github.com/face/shop  api, cache, db  41 s  in use",
        "bare-d4e5f6  embedded  -                     none            2 h   kept until 22 Nov 18:11",
    ]


def test_a_narrow_terminal_takes_endpoints_first_then_packages_then_services() -> None:
    far = replace(SHOP, engine="docker tcp://10.0.0.1:2375")
    assert enclave_table([far], Look(width=78))[1] == (
        "shop-a1b2c3  docker tcp:/…  github.com/face/shop  api, cache, db  41 s  in use"
    )
    assert enclave_table([far], Look(width=68))[1] == (
        "shop-a1b2c3  docker tc…  …om/face/shop  api, cache, db  41 s  in use"
    )
    assert enclave_table([far], Look(width=63))[1] == "shop-a1b2c3  docker tc…  …face/shop  api, cache,…  41 s  in use"


@pytest.mark.parametrize("width", [63, 70, 80, 100, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    rows = [replace(SHOP, services=tuple(f"service-{n}" for n in range(20)), package="/home/me/" + "x" * 90)]
    assert all(len(line) <= width for line in enclave_table(rows, Look(width=width)))


def test_verbose_cuts_nothing() -> None:
    services = tuple(f"service-{n}" for n in range(20))
    assert ", ".join(services) in enclave_table([replace(SHOP, services=services)], Look(verbose=True, width=60))[1]


def test_what_keeps_the_services_from_being_known_stands_below() -> None:
    broken = replace(SHOP, services=None, troubles=("its journal is damaged: record 3 is not as it was written",))
    assert enclave_table([broken, BARE], Look(width=120))[1:3] == [
        "shop-a1b2c3  docker    github.com/face/shop  ?         41 s  in use",
        "  its journal is damaged: record 3 is not as it was written",
    ]


def test_what_it_is_to_tests_and_its_arguments_stand_below() -> None:
    shared = replace(SHOP, kind="share=orders", args='{"replicas": 3, "names": ["' + "x" * 200)
    lines = enclave_table([shared, replace(BARE, kind="isolated")], Look(width=80))
    assert lines[2] == '  share=orders, args {"replicas": 3, "names": ["' + "x" * 31 + "…"
    assert lines[4] == "  isolated"
    assert all(len(line) <= 80 for line in lines)
    assert enclave_table([replace(SHOP, args="{}")], Look(width=80))[2] == "  args {}"


def test_a_terminal_acts_on_nothing_in_it() -> None:
    lines = enclave_table([replace(SHOP, package="\x1b[31mred\nline")], Look(width=120))
    assert "red line" in lines[1]
    assert len(lines) == 2


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (41.2, "41 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (3599, "59 min"),
        (3600, "1 h"),
        (86399, "23 h"),
        (200000, "2 d"),
    ],
)
def test_ages_are_told_in_their_greatest_unit(seconds: float, text: str) -> None:
    assert age_text(seconds) == text
