"""The shop, tested from outside, through nginx."""

from __future__ import annotations

import json
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest


def ask(enclave: Any, path: str, body: object = None) -> tuple[int, Any]:
    """Status and JSON of a GET, or with a body of a POST, to the shop's front."""
    request = Request(enclave.services["front"].ports["http"].url + path)
    if body is not None:
        request.data = json.dumps(body).encode()
    try:
        with urlopen(request, timeout=10) as response:
            return response.status, json.load(response)
    except HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_the_shop_greets(enclave):
    assert ask(enclave, "/") == (200, {"greeting": enclave.output["greeting"]})


def test_an_order_is_kept(enclave):
    status, order = ask(enclave, "/orders", {"item": "kettle", "quantity": 2})
    assert status == 201
    assert ask(enclave, f"/orders/{order['id']}") == (200, {"item": "kettle", "quantity": 2})


def test_an_order_of_nothing_is_refused(enclave):
    assert ask(enclave, "/orders", {"item": "kettle", "quantity": 0})[0] == 422


def test_orders_are_counted_in_redis(enclave):
    _, before = ask(enclave, "/stats")
    ask(enclave, "/orders", {"item": "cup", "quantity": 6})
    counted = enclave.services["cache"].exec(["redis-cli", "get", "orders"])
    assert (counted.code, int(counted.output)) == (0, before["orders"] + 1)


def test_orders_land_in_postgres(enclave):
    ask(enclave, "/orders", {"item": "teapot", "quantity": 1})
    rows = enclave.services["db"].exec(
        ["psql", "-U", "shop", "-d", "shop", "-tAc", "SELECT count(*) FROM orders WHERE item = 'teapot'"]
    )
    assert int(rows.output) >= 1


def test_nothing_ran_again_for_this_test(enclave):
    assert {str(step.outcome) for step in enclave.last_run.instructions} == {"skipped"}


@pytest.mark.enclave(args={"replicas": 2, "greeting": "Two of us"}, isolate=True)
def test_the_shop_survives_the_loss_of_one_api(enclave):
    enclave.services["api-1"].kill()
    assert [ask(enclave, "/")[0] for _ in range(4)] == [200] * 4
