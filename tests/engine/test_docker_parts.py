"""Parts of the Docker engine that need no engine."""

from __future__ import annotations

from ipaddress import IPv4Network
from itertools import islice
from pathlib import Path

from pytest_enclave.engine.docker.limits import MEGABYTE, limits_of, problems_of
from pytest_enclave.engine.docker.listening import listening_ports
from pytest_enclave.engine.docker.logs import parse
from pytest_enclave.engine.docker.pulling import names_no_registry
from pytest_enclave.engine.docker.reachability import Reach, own_container, published_reach
from pytest_enclave.engine.docker.subnets import free_subnets, routed_here
from pytest_enclave.engine.docker.translation import clean
from pytest_enclave.engine.protocol import Address, LogLine, ServiceSpec
from pytest_enclave.plan.facts import Capacity
from pytest_enclave.plan.service import PortSpec

POOL = (IPv4Network("10.0.0.0/20"),)


def spec(**settings) -> ServiceSpec:
    return ServiceSpec("api", "image", Address("api", "10.0.0.2"), **settings)


def test_subnets_go_round_from_the_start_and_pass_over_what_is_taken():
    taken = [IPv4Network("10.0.12.0/24")]
    found = [str(subnet) for subnet in free_subnets(taken, 2, POOL)]
    assert found == ["10.0.8.0/22", "10.0.0.0/22", "10.0.4.0/22"]


def test_pools_are_used_one_after_the_other():
    pools = (IPv4Network("10.0.0.0/22"), IPv4Network("172.16.0.0/16"))
    assert [str(subnet) for subnet in islice(free_subnets([], 0, pools), 2)] == ["10.0.0.0/22", "172.16.0.0/22"]


def test_a_pool_smaller_than_a_subnet_is_one_subnet():
    assert list(free_subnets([], 5, [IPv4Network("10.1.2.0/24")])) == [IPv4Network("10.1.2.0/24")]


def test_no_subnet_is_left_when_all_is_taken():
    assert list(free_subnets([IPv4Network("10.0.0.0/8")], 0, POOL)) == []


def test_routes_are_read_without_the_default_one(tmp_path: Path):
    table = tmp_path / "route"
    table.write_text(
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
        "eth0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
        "eth0\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
    )
    assert routed_here(table) == [IPv4Network("192.168.1.0/24")]
    assert routed_here(tmp_path / "none") == []


def test_ports_are_published_where_the_endpoint_says():
    assert published_reach("unix:///var/run/docker.sock") == Reach(False, "127.0.0.1", "127.0.0.1")
    assert published_reach("tcp://localhost:2375") == Reach(False, "127.0.0.1", "127.0.0.1")
    assert published_reach("tcp://docker:2375") == Reach(False, "0.0.0.0", "docker")
    assert published_reach("ssh://me@build.example") == Reach(False, "0.0.0.0", "build.example")


def test_our_own_container_is_found_in_the_mounts(tmp_path: Path):
    id_ = "0123456789abcdef" * 4
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"1 2 0:3 /var/lib/docker/containers/{id_}/hostname /etc/hostname rw - ext4 /dev/a rw\n")
    assert own_container(mounts) == id_
    mounts.write_text("1 2 0:3 / / rw - ext4 /dev/a rw\n")
    assert own_container(mounts) is None


def test_listening_sockets_are_read_from_the_kernels_tables():
    tables = """  sl  local_address rem_address   st tx_queue
   0: 00000000:1F90 00000000:0000 0A 00000000:00000000
   1: 0100007F:0050 00000000:0000 0A 00000000:00000000
   2: 0200A8C0:01BB 0300A8C0:9C40 01 00000000:00000000
  sl  local_address                         remote_address                        st
   0: 00000000000000000000000000000000:0016 00000000000000000000000000000000:0000 0A
   1: 00000000000000000000000001000000:0017 00000000000000000000000000000000:0000 0A
"""
    assert listening_ports(tables) == {8080, 22}


def test_pieces_of_the_log_become_lines():
    pieces = [
        b"1970-01-01T00:00:01.500000000Z one\n",
        b"1970-01-02T00:00:00.000000000Z begun",
        b"1970-01-02T00:00:00.000000001Z  and ended\n",
        b"1970-01-01T00:00:02.000000000Z \n",
    ]
    assert parse(pieces) == [LogLine(1.5, "one"), LogLine(86400.0, "begun and ended"), LogLine(2.0, "")]


def test_references_without_a_registry_are_told_apart():
    plain = ["redis", "redis:7", "grafana/grafana:1", "a/b/c"]
    assert [name for name in [*plain, "ghcr.io/a/b", "localhost/a", "host:5000/a"] if names_no_registry(name)] == plain


def test_the_engines_words_are_cleaned():
    said = (
        "failed to create shim task: OCI runtime create failed: runc create failed: unable to start container "
        'process: exec: "nope": executable file not found in $PATH: unknown'
    )
    assert clean(said) == 'exec: "nope": executable file not found in $PATH'
    assert clean("Container " + "0123456789abcdef" * 4 + " is not running") == "Container 0123456789ab is not running"


def test_limits_that_the_engine_cannot_keep_are_told():
    capacity = Capacity(2000, 1000)
    assert problems_of(spec(max_cpu=2000, max_memory=1000), capacity) == []
    (cpu,) = problems_of(spec(max_cpu=2001), capacity)
    (tiny,) = problems_of(spec(max_cpu=9), capacity)
    assert (tiny.severity, tiny.message) == (
        "warning", "max_cpu is 9 millicores, but the engine takes no limit below 10: this is it",
    )  # fmt: skip
    (much,) = problems_of(spec(max_memory=1001), capacity)
    (little,) = problems_of(spec(max_memory=5), capacity)
    (sctp,) = problems_of(spec(ports={"x": PortSpec(1, "SCTP")}), capacity)
    assert [it.severity for it in (cpu, much, little, sctp)] == ["warning", "warning", "error", "warning"]


def test_limits_are_brought_to_what_the_engine_accepts():
    capacity = Capacity(2000, 1000)
    assert limits_of(spec(), capacity) == {}
    assert limits_of(spec(max_cpu=1), capacity) == {"NanoCpus": 10_000_000}
    assert limits_of(spec(max_cpu=2000), capacity) == {}
    for megabytes, given in ((6, 6), (1000, 1000), (10**13, 1000)):
        limit = given * MEGABYTE
        assert limits_of(spec(max_memory=megabytes), capacity) == {"Memory": limit, "MemorySwap": limit}
