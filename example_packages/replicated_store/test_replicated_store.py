"""The store, with its network broken in all the ways that matter to it."""

from __future__ import annotations

import json
import time
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

NODES = ("node-1", "node-2", "node-3")


def ask(enclave: Any, node: str, path: str, value: str | None = None) -> tuple[int, Any]:
    """Status and content of a GET, or with a value of a PUT, to a node."""
    body = None if value is None else value.encode()
    url = enclave.services[node].ports["http"].url + path
    try:
        with urlopen(Request(url, body, method="GET" if value is None else "PUT"), timeout=10) as response:
            return response.status, json.load(response)
    except HTTPError as error:
        with error:
            return error.code, json.load(error)


def agreed(enclave: Any, key: str, within: float = 3.0) -> set[str]:
    """What the nodes have of a key, each by itself, as soon as that is one value; or when the seconds are over."""
    deadline = time.monotonic() + within
    while True:
        values = {ask(enclave, node, f"/local/{key}")[1] for node in NODES}
        if len(values) == 1 or time.monotonic() > deadline:
            return values
        time.sleep(0.02)


def test_what_one_node_writes_every_node_reads(enclave):
    assert ask(enclave, "node-1", "/colour", "red") == (200, "red")
    assert [ask(enclave, node, "/colour") for node in NODES] == [(200, "red")] * 3


def test_in_a_partition_the_minority_refuses_and_the_majority_goes_on(enclave):
    ask(enclave, "node-1", "/colour", "red")
    with enclave.network.partition({"node-1"}, {"node-2", "node-3"}):
        assert ask(enclave, "node-1", "/colour", "blue") == (503, "node-1 reaches 1 of 3 nodes")
        assert ask(enclave, "node-2", "/colour", "green") == (200, "green")
        assert ask(enclave, "node-3", "/colour") == (200, "green")
        assert ask(enclave, "node-1", "/local/colour") == (200, "red")
    assert agreed(enclave, "colour") == {"green"}


def test_when_all_are_split_nobody_writes(enclave):
    ask(enclave, "node-1", "/colour", "red")
    with enclave.network.partition("node-1", "node-2", "node-3"):
        answers = [ask(enclave, node, "/colour", f"that of {node}") for node in NODES]
        assert answers == [(503, f"{node} reaches 1 of 3 nodes") for node in NODES]
    assert agreed(enclave, "colour") == {"red"}


def test_after_a_chain_of_partitions_all_agree(enclave):
    for number, node in enumerate(NODES):
        with enclave.network.partition(node, set(NODES) - {node}):
            writer = NODES[number - 1]
            assert ask(enclave, writer, "/count", str(number)) == (200, str(number))
    assert agreed(enclave, "count") == {"2"}


@pytest.mark.enclave_faults("kill:node-3", "pause:node-3", "block:node-1>node-3", "delay:node-1|node-3:50ms")
def test_one_node_in_trouble_stops_nobody(enclave):
    assert ask(enclave, "node-1", "/size", "large") == (200, "large")
    assert ask(enclave, "node-2", "/size") == (200, "large")
