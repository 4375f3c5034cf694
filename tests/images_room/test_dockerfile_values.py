"""What `EXPOSE`, `HEALTHCHECK` and `STOPSIGNAL` take, as `docker build` does."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from pytest_enclave.images.dockerfile.values import exposed, refuse_wrong_health_check, stop_signal
from pytest_enclave.images.faults import ImageFault


@pytest.mark.parametrize(
    ("word", "ports"),
    [
        ("80", ["80/tcp"]),
        ("53/udp", ["53/udp"]),
        ("53/UDP", ["53/udp"]),
        ("8000-8002/sctp", ["8000/sctp", "8001/sctp", "8002/sctp"]),
        ("127.0.0.1:8080:80", ["80/tcp"]),
        ("65535", ["65535/tcp"]),
    ],
)
def test_ports(word: str, ports: list[str]):
    assert exposed(word) == ports


@pytest.mark.parametrize("word", ["", "http", "80/", "80/http", "65536", "90-80", "80-", "-80", "80/tcp/udp", "٨٠"])
def test_what_is_no_port(word: str):
    with pytest.raises(ImageFault) as caught:
        exposed(word)
    assert caught.value.meaning == f"`{word}` is no port"
    assert caught.value.remedy == "write `80`, `53/udp` or `8000-8010`"


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ({}, "NONE"),
        ({}, "none"),
        ({}, "CMD true"),
        ({}, 'cmd ["true"]'),
        ({"interval": "1m30s", "timeout": "0", "start-period": "1ms", "start-interval": "0s", "retries": "0"}, "CMD x"),
    ],
)
def test_health_checks(flags: Mapping[str, str], text: str):
    refuse_wrong_health_check(flags, text)


@pytest.mark.parametrize(
    ("flags", "text", "meaning"),
    [
        ({}, "", "`` is no kind of `HEALTHCHECK`"),
        ({}, "curl localhost", "`curl` is no kind of `HEALTHCHECK`"),
        ({}, "NONE x", "`HEALTHCHECK NONE` takes no arguments"),
        ({}, "CMD", "`HEALTHCHECK CMD` names no command"),
        ({"interval": "often"}, "CMD x", "`--interval=often` is no duration"),
        ({"timeout": ""}, "CMD x", "`--timeout=` is no duration"),
        ({"start-period": "30"}, "CMD x", "`--start-period=30` is no duration"),
        ({"start-interval": "-1s"}, "CMD x", "`--start-interval=-1s` is less than 1ms"),
        ({"interval": "1us"}, "CMD x", "`--interval=1us` is less than 1ms"),
        ({"retries": "-1"}, "CMD x", "`--retries=-1` is no number of retries"),
        ({"retries": "many"}, "CMD x", "`--retries=many` is no number of retries"),
    ],
)
def test_what_is_no_health_check(flags: Mapping[str, str], text: str, meaning: str):
    with pytest.raises(ImageFault) as caught:
        refuse_wrong_health_check(flags, text)
    assert caught.value.meaning == meaning


SIGNALS = ["SIGINT", "int", "TERM", "9", "SIGRTMIN", "RTMIN+3", "sigrtmin+15", "RTMAX-14", "SIGSTKFLT", "64"]


@pytest.mark.parametrize("word", SIGNALS)
def test_signals(word: str):
    assert stop_signal(word) == word


@pytest.mark.parametrize("word", ["SIGNONE", "0", "65", "-9", "", "RTMIN+16", "RTMAX-15", "SIG", "SIG_IGN", "9x"])
def test_what_is_no_signal(word: str):
    with pytest.raises(ImageFault) as caught:
        stop_signal(word)
    assert caught.value.meaning == f"`{word}` is no signal"
    assert caught.value.remedy == "write a name or number, as `SIGINT` or `2`"
