"""An enclave's network: a bridge of its own, whose addresses are given out here.

Making one takes the engine a tenth of a second, so it begins in a thread as soon as the enclave is opened.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from ipaddress import IPv4Address, IPv4Network
from itertools import islice
from typing import TYPE_CHECKING

import msgspec

from pytest_enclave.engine.docker import labels
from pytest_enclave.engine.docker.client import Client
from pytest_enclave.engine.docker.notes import Notes
from pytest_enclave.engine.docker.reachability import Reach, is_own_address, join, published_reach
from pytest_enclave.engine.docker.subnets import POOLS, free_subnets, routed_here
from pytest_enclave.engine.docker.translation import Refused, translate
from pytest_enclave.errors import EngineError

if TYPE_CHECKING:
    from docker import APIClient

ATTEMPTS = 8
"""How many subnets are tried when others take them first."""


class Network(msgspec.Struct, frozen=True):
    """A network that exists: its name, its subnet, and how services on it are reached from here."""

    name: str
    subnet: IPv4Network
    reach: Reach


class NetworkPlan(msgspec.Struct, frozen=True):
    """How networks are made: from which pools, with a way out of the enclave or none, reached how.

    `publish` forces published ports (True) or direct addresses (False); None finds out what works.
    """

    endpoint: str
    pools: Sequence[IPv4Network] = POOLS
    egress: bool = True
    publish: bool | None = None


class EnclaveNetwork:
    """The network of one enclave, made in the background by `make`, and the addresses on it.

    `addresses` are those that services already have there: the first ones. All are in the enclave's `notes`.
    """

    def __init__(self, enclave: str, make: Callable[[], Network], addresses: Mapping[str, str], notes: Notes) -> None:
        self._make = make
        self._notes = notes
        self._made: Future[Network] = Future()
        self._lock = threading.Lock()
        self._addresses = dict(addresses)
        self._over = notes.begin_network()
        threading.Thread(target=self._run, name=f"network of {enclave}", daemon=True).start()

    def ready(self) -> Network:
        """The network, waited for if need be. Raises EngineError if it cannot be made."""
        return self._made.result()

    def settled(self, timeout: float) -> bool:
        """Wait until the making of it is over, well or ill; whether it is (seconds)."""
        done = threading.Event()
        self._made.add_done_callback(lambda _: done.set())
        return done.wait(timeout)

    def address(self, service: str) -> str:
        """A service's address: the next free one at first, the same ever after. Raises EngineError."""
        subnet = self.ready().subnet
        with self._lock:
            if service not in self._addresses:
                with self._notes.addresses() as given:
                    taken = [*given.values(), *self._addresses.values()]
                    number = max((_number(subnet, address) for address in taken), default=-1) + 1
                    if service not in given:
                        given[service] = host_address(subnet, number)
                    self._addresses[service] = given[service]
            return self._addresses[service]

    def learn(self, service: str, address: str) -> None:
        """A service has that address."""
        with self._lock:
            self._addresses.setdefault(service, address)

    def addresses(self) -> Mapping[str, str]:
        """All addresses that were given out so far."""
        with self._lock, self._notes.addresses() as given:
            return {**self._addresses, **given}

    def _run(self) -> None:
        try:
            network = self._make()
        except BaseException as error:
            self._over()
            self._made.set_exception(error)
        else:
            self._over()
            self._made.set_result(network)


def host_address(subnet: IPv4Network, number: int) -> str:
    """The address of an enclave's service, counted from 0. Raises EngineError where there are so many no more.

    The first address is the gateway's, the last one ours if we join the network.
    """
    if number + 2 >= subnet.num_addresses - 2:
        raise EngineError(f"an enclave has room for {subnet.num_addresses - 4} services, and no address is left")
    return str(subnet[number + 2])


def _number(subnet: IPv4Network, address: str) -> int:
    """Which of the enclave's services has an address (`host_address`)."""
    return int(IPv4Address(address)) - int(subnet[2])


def find_network(client: Client, name: str, plan: NetworkPlan) -> Network:
    """An enclave's network that somebody has made. Raises EngineError where there is none."""
    doing = "cannot inspect the enclave's network"
    try:
        with translate(doing):
            found = client.inspect_network(name)
    except Refused as refused:
        if refused.status != 404:
            raise
        found = {}
    if (found.get("Labels") or {}).get(labels.ENCLAVE) != name or not (subnets := _subnets([found])):
        raise EngineError(f"the enclave {name} is gone: the engine has no network of it")
    return Network(name, subnets[0], _reach(lambda: client.sdk, name, subnets[0], plan))


def make_network(client: APIClient, name: str, marks: Mapping[str, str], plan: NetworkPlan) -> Network:
    """A new network, on a subnet that is free. Raises EngineError."""
    doing = "cannot create the enclave's network"
    with translate(doing):
        networks = client.networks()
    taken = [*_subnets(networks), *routed_here()]
    for subnet in islice(free_subnets(taken, random.randrange(1 << 16), plan.pools), ATTEMPTS):
        try:
            with translate(doing):
                _create(client, name, marks, subnet, plan.egress)
        except Refused as refused:
            if "overlap" not in refused.explanation:
                raise
            continue
        return Network(name, subnet, _reach(lambda: client, name, subnet, plan))
    raise _no_room(networks)


def _create(client: APIClient, name: str, marks: Mapping[str, str], subnet: IPv4Network, egress: bool) -> None:
    from docker.types import IPAMConfig, IPAMPool

    pool = IPAMPool(subnet=str(subnet), gateway=str(subnet[1]))
    client.create_network(
        name,
        driver="bridge",
        ipam=IPAMConfig(driver="default", pool_configs=[pool]),
        check_duplicate=True,
        internal=not egress,
        labels=dict(marks),
    )


def _reach(client: Callable[[], APIClient], name: str, subnet: IPv4Network, plan: NetworkPlan) -> Reach:
    published = published_reach(plan.endpoint)
    if plan.publish is not None:
        return published if plan.publish else Reach(direct=True)
    if is_own_address(str(subnet[1])) or join(client, name, str(subnet[-2])):
        return Reach(direct=True)
    return published


def _subnets(networks: Sequence[Mapping[str, object]]) -> list[IPv4Network]:
    """The IPv4 subnets of the engine's networks."""
    subnets = []
    for network in networks:
        ipam = network.get("IPAM")
        pools = (ipam.get("Config") if isinstance(ipam, dict) else None) or []
        subnets += [IPv4Network(pool["Subnet"]) for pool in pools if "." in pool.get("Subnet", "")]
    return subnets


def _no_room(networks: Sequence[Mapping[str, object]]) -> EngineError:
    """Why no subnet is left, and what to do: mostly it is networks that were never removed."""
    ours = [network for network in networks if labels.ENCLAVE in (network.get("Labels") or {})]  # type: ignore[operator]
    message = f"no address range is left for the enclave's network: this engine has {len(networks)} networks"
    if ours:
        message += f", {len(ours)} of them of enclaves"
    return EngineError(
        message,
        remedy=f"remove unused ones: `docker network prune --filter label={labels.ENCLAVE}`, "
        "or leave out the filter for all",
    )
