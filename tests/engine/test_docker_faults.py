"""Every call to the engine fails once, in every way: one clear error each, in time, and nothing is left."""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from http.client import IncompleteRead, RemoteDisconnected
from pathlib import Path
from typing import Any

import docker
import pytest
import requests
from docker.errors import StreamParseError
from urllib3.exceptions import ProtocolError

from pytest_enclave.engine.docker import labels
from pytest_enclave.engine.docker.client import Client
from pytest_enclave.engine.docker.engine import DockerEngine
from pytest_enclave.engine.docker.removal import _name_of
from pytest_enclave.engine.docker.site import DockerSite
from pytest_enclave.engine.docker.translation import translate
from pytest_enclave.engine.protocol import Action, Leak, PullPolicy, Site
from pytest_enclave.errors import EnclaveError, EngineError
from pytest_enclave.plan.facts import Status
from pytest_enclave.run.pipeline import Options, Tools
from pytest_enclave.run.state import EnclaveState
from pytest_enclave.store.artifacts import ArtifactStore
from pytest_enclave.store.journal import Journal
from tests.engine.engine_enclave import BUSYBOX, enclave_id
from tests.engine.faulty_engine import Call, Fault, FaultyEngine
from tests.laboratory import Laboratory

TIMEOUT = 6
"""Seconds that a call may take where one is not answered."""

PATIENT = 60
"""Seconds that it may take elsewhere: the engine may have much to do."""

SOON = 40.0
"""Seconds within which any step is over, whatever fails in it."""

AT_A_TIME = 4
"""Enclaves side by side, each with some of a step's faults."""

UP = """
def run(plan):
    page = plan.render_templates({"index.html": struct(template = "hello", data = {})}, name = "page")
    plan.add_services({
        "web": ServiceConfig(
            image = "enclave-test/busybox:local",
            cmd = ["httpd", "-f", "-p", "80", "-h", "/www"],
            ports = {"http": PortSpec(80, application_protocol = "http")},
            files = {"/www": page},
        ),
        "db": ServiceConfig(
            image = "enclave-test/busybox:local",
            cmd = ["sh", "-c", "trap exit TERM; echo ready; while :; do sleep 0.1; done"],
            files = {"/data": Directory(persistent_key = "data")},
        ),
    })
"""
USE = """
def run(plan):
    plan.exec("db", ExecRecipe(["sh", "-c", "echo said TIME; touch /data/file"]))
    plan.request("web", GetHttpRequestRecipe("http", "/"))
    plan.store_service_files("web", "/etc/passwd")
"""
ONE = """
def run(plan):
    plan.add_service("db", ServiceConfig(
        image = "enclave-test/busybox:local",
        cmd = ["sh", "-c", "trap exit TERM; echo ready; while :; do sleep 0.1; done"],
        files = {"/data": Directory(persistent_key = "data")},
    ))
"""
STOP = 'def run(plan):\n    plan.stop_service("db")\n'
START = 'def run(plan):\n    plan.start_service("db")\n'
REMOVE = 'def run(plan):\n    plan.remove_service("db")\n'


class Guardless(DockerEngine):
    """Without the process that watches over us: it would be started hundreds of times."""

    patience: float = PATIENT

    def be_patient(self, seconds: float) -> None:
        """How long a call may take from now on."""
        self.patience = seconds
        if self._client is not None:
            self._client.timeout = self._client.sdk.timeout = seconds
        if self._remover is not None:
            self._remover.timeout = seconds

    def _guard(self) -> None:
        pass

    def _connected(self) -> Client:
        client = super()._connected()
        client.timeout = client.sdk.timeout = self.patience
        return client

    def _removing(self) -> docker.APIClient:
        client = super()._removing()
        client.timeout = self.patience
        return client


class Bench:
    """An engine behind a double, and an enclave on it."""

    def __init__(self, target: str, root: Path, tools: Tools, options: Mapping[str, Any]) -> None:
        self.id = enclave_id()
        self.fork_id = enclave_id()
        self.root = root / self.id.name
        self.root.mkdir()
        self._tools = tools
        self.double = FaultyEngine(self.root / "double", target)
        self.engine = Guardless(self.double.endpoint, **options)
        self.site: Site | None = None
        self._fork: Site | None = None
        self._lab: Laboratory | None = None
        self._times = 0

    @property
    def names(self) -> tuple[str, str]:
        """Of the enclave, and of its fork."""
        return self.id.name, self.fork_id.name

    # The steps of a session

    def open(self) -> None:
        self.site = self.engine.open(self.id)
        journal = Journal(self.root / "journal")
        files = ArtifactStore(self.root / "files", journal)
        self.site.reserve("web")
        state = EnclaveState(self.id, self.engine, self.site, journal, files)
        self._lab = Laboratory(state, self._tools, Options(seed=1, pull=PullPolicy.MISSING))

    def up(self) -> None:
        self._run(UP)

    def one(self) -> None:
        """A single service, whose data can be frozen."""
        self._run(ONE)

    def use(self) -> None:
        # What has been executed already would not be again.
        self._times += 1
        self._run(USE.replace("TIME", str(self._times)))

    def stop(self) -> None:
        self._run(STOP)

    def start(self) -> None:
        self._run(START)

    def remove(self) -> None:
        self._run(REMOVE)

    def logs(self) -> None:
        assert self.site is not None
        self.site.logs("db")

    def freeze(self) -> None:
        assert self.site is not None
        self.site.freeze()

    def fork(self) -> None:
        assert self.site is not None
        self._fork = self.site.fork(self.fork_id)

    def litter(self) -> None:
        """Something of each kind that the enclave has to remove, without the time that services take."""
        marks = {labels.ENCLAVE: self.id.name}
        mount = {"Type": "volume", "Source": f"{self.id.name}-volume", "Target": "/data"}
        config = {"Image": BUSYBOX, "Labels": marks, "HostConfig": {"Mounts": [mount]}}
        with docker.APIClient(f"unix://{self.double.target}", version="auto") as client:
            client.create_volume(f"{self.id.name}-volume", labels=marks)
            client.create_container_from_config(config, f"{self.id.name}-container")

    def end(self) -> list[Leak]:
        """Close an enclave that was frozen."""
        return self.close()

    def close(self) -> list[Leak]:
        assert self.site is not None
        return list(self.site.close())

    def _run(self, script: str) -> None:
        assert self._lab is not None
        self._lab.ok(script)

    # The end

    def finish(self) -> list[str]:
        """Close all, without faults: what is not as it should be."""
        self.double.arm(None, None)
        self.engine.be_patient(PATIENT)
        leaks = [leak for site in (self._fork, self.site) if site is not None for leak in site.close()]
        if self._lab is not None:
            self._lab.state.journal.close()
        leaks += self.engine.close()
        self.double.close()
        wrong = [f"leak told at the end: {leak}" for leak in leaks]
        deadline = time.monotonic() + 3
        while left := [each.name for each in threading.enumerate() if any(name in each.name for name in self.names)]:
            if time.monotonic() > deadline:
                return [*wrong, f"threads go on: {left}"]
            time.sleep(0.02)
        return wrong


STEPS: Mapping[str, Sequence[str]] = {
    "open": (),
    "up": ("open",),
    "use": ("open", "up"),
    "logs": ("open", "one"),
    "stop": ("open", "one"),
    "start": ("open", "one", "stop"),
    "remove": ("open", "one"),
    "freeze": ("open", "one"),
    "fork": ("open", "one", "freeze"),
    "close": ("open", "litter"),
    "end": ("open", "one", "freeze"),
}
"""Each step, and what goes before it."""

TOGETHER = (("open", "logs"), ("up",), ("use", "stop"), ("start", "remove"), ("freeze",), ("fork",), ("close", "end"))
"""Steps that are tried side by side: most of the short ones' time is waiting for answers that do not come."""

AGAIN = ("use", "logs", "freeze")
"""What can be done again after it went well."""

LONG = ("freeze", "fork", "close", "end")
BRIEF = (Fault.REFUSED_500, Fault.SILENT, Fault.LOST, Fault.CUT)
"""Faults for steps that take long, and whose calls are those of others: to make networks, containers and volumes."""

DONE = (Fault.SILENT, Fault.LOST, Fault.CUT)
"""Faults of calls that are done all the same."""

ALREADY = re.compile(r"`db` (is already stopped|is already started|does not exist at this point)$")

NAMED = re.compile(
    r"\"(web|db|page|data)\"|`(web|db)`|: db \$|image \"|the enclave's (network|persistent)|the fork engine-test"
)
"""What a call can be for."""

OBSCURE = re.compile(
    r"Traceback|HTTPConnection|HTTPException|requests\.|urllib3|docker\.errors|Connection aborted|RemoteDisconnected"
    r"|IncompleteRead|Expecting value|JSON|KeyError|object at 0x|\('|Errno|None"
)
"""What only who wrote the layers below understands."""


@dataclass(frozen=True)
class Told:
    """What came of a step in which a call failed; `wrong` is what should not have."""

    step: str
    call: Call
    fault: Fault
    message: str
    wrong: tuple[str, ...] = ()

    def __str__(self) -> str:
        told = f"{self.step}: {self.call} {self.fault.value}: {self.message}"
        return told + "".join(f"\n    wrong: {each}" for each in self.wrong)


@dataclass(frozen=True)
class Faults:
    """Tries faults of the engine at a socket."""

    target: str
    root: Path
    tools: Tools
    options: Mapping[str, Any]

    def calls(self, step: str) -> list[Call]:
        """All calls of a step without faults."""
        bench = self._bench(step)
        bench.double.arm(None, None)
        getattr(bench, step)()
        found = sorted(set(bench.double.calls))
        assert self._end(bench) == []
        return found

    def try_all(self, step: str) -> list[Told]:
        """Let every call of a step fail in every way."""
        calls = self.calls(step)
        if step == "end":
            # All others are those of `close`.
            calls = [call for call in calls if "/images" in call.path]
        faults = BRIEF if step in LONG else Fault
        pairs = [(call, fault) for call in calls for fault in faults]
        shares = [pairs[start::AT_A_TIME] for start in range(min(AT_A_TIME, len(pairs)))]
        with ThreadPoolExecutor(AT_A_TIME) as pool:
            return [told for share in pool.map(lambda share: self._try(step, share), shares) for told in share]

    def _try(self, step: str, pairs: Sequence[tuple[Call, Fault]]) -> list[Told]:
        """One after the other: in the same enclave, as long as there is something to do in it."""
        told: list[Told] = []
        bench: Bench | None = None
        for call, fault in pairs:
            fresh = bench is None
            bench = bench or self._bench(step)
            what = self._attempt(bench, step, call, fault)
            if not bench.double.met and not fresh:
                wrong = self._end(bench)
                bench = self._bench(step)
                what = self._attempt(bench, step, call, fault)
                what = replace(what, wrong=(*what.wrong, *wrong))
            told.append(what)
            failed = what.message not in ("tolerated", "not met")
            if step == "open" or not (failed or step in AGAIN) or what.message.startswith("leaks"):
                told[-1] = replace(what, wrong=(*what.wrong, *self._end(bench)))
                bench = None
        if bench is not None:
            last = told[-1]
            told[-1] = replace(last, wrong=(*last.wrong, *self._once_more(bench, step, last.fault), *self._end(bench)))
        return told

    def _bench(self, step: str) -> Bench:
        """All before that step is done."""
        bench = Bench(self.target, self.root, self.tools, self.options)
        try:
            for name in STEPS[step]:
                getattr(bench, name)()
        except BaseException:
            bench.finish()
            raise
        return bench

    def _attempt(self, bench: Bench, step: str, call: Call, fault: Fault) -> Told:
        bench.double.arm(call, fault)
        bench.engine.be_patient(TIMEOUT if fault is Fault.SILENT else PATIENT)
        began = time.monotonic()
        wrong: list[str] = []
        try:
            leaks = getattr(bench, step)() or ()
        except EnclaveError as error:
            message = f"{type(error).__name__}: {error}"
            if "\n" in str(error) or OBSCURE.search(str(error)):
                wrong.append("obscure")
            if step != "open" and not NAMED.search(str(error)):
                wrong.append("does not say for what")
        except Exception as error:
            message = repr(error)
            wrong.append("not an EnclaveError")
        else:
            message = "tolerated" if bench.double.met else "not met"
            if leaks:
                # One look or removal that fails is followed by another.
                wrong.append("not tried again")
                message = f"leaks: {'; '.join(f'{leak.kind} {leak.reason}: `{leak.command}`' for leak in leaks)}"
        if (took := time.monotonic() - began) > SOON:
            wrong.append(f"took {took:.0f} s")
        return Told(step, call, fault, message, tuple(wrong))

    def _once_more(self, bench: Bench, step: str, last: Fault) -> list[str]:
        """Without a fault, the step does well in an enclave that has seen them, or has been done."""
        bench.double.arm(None, None)
        bench.engine.be_patient(PATIENT)
        try:
            getattr(bench, step)()
        except Exception as error:
            if not (last in DONE and ALREADY.search(str(error))):
                return [f"without a fault: {error!r}"]
        return []

    def _end(self, bench: Bench) -> list[str]:
        wrong = bench.finish()
        with docker.APIClient(f"unix://{self.target}", version="auto") as client:
            return [*wrong, *(f"left: {each}" for name in bench.names for each in left(client, name))]


def left(client: docker.APIClient, enclave: str) -> list[str]:
    """All that the engine has of an enclave."""
    mine: dict[str, Any] = dict(labels.of_enclave(enclave))
    return [
        *(f"container {found['Names']}" for found in client.containers(all=True, filters=mine)),
        *(f"network {found['Name']}" for found in client.networks(filters=mine)),
        *(f"volume {found['Name']}" for found in client.volumes(filters=mine)["Volumes"] or []),
        *(f"image {found['RepoTags']}" for found in client.images(all=True, filters=mine)),
    ]


@pytest.fixture
def faults(docker_host: str, tools: Tools, tmp_path: Path) -> Faults:
    """Faults of the real engine, with artifacts in volumes: that takes the most calls."""
    return Faults(docker_host.removeprefix("unix://"), tmp_path, tools, {"bind_mounts": False})


@pytest.mark.parametrize("steps", TOGETHER, ids=" ".join)
# The SDK leaves what could not connect to the collector of garbage.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.timeout(300)
def test_a_call_that_fails_is_told_once_and_leaves_nothing(faults: Faults, steps: Sequence[str]):
    with ThreadPoolExecutor(len(steps)) as pool:
        told = [each for found in pool.map(faults.try_all, steps) for each in found]
    if table := os.environ.get("FAULTS_TABLE"):
        with open(table, "a") as file:
            file.write("".join(f"{each}\n" for each in told))
    assert [str(each) for each in told if each.wrong] == []


# What was found in this way, one by one


@pytest.fixture
def bench(faults: Faults) -> Iterator[Bench]:
    """An enclave with one service, behind a double."""
    bench = faults._bench("remove")
    yield bench
    assert faults._end(bench) == []


def test_a_service_whose_removal_fails_is_still_there(bench: Bench):
    assert bench.site is not None
    bench.double.arm(Call("DELETE", "/containers/*", 1), Fault.REFUSED_500)
    with pytest.raises(EngineError, match=r'^cannot remove service "db": out of order, says the double$'):
        bench.site.act("db", Action.REMOVE)
    assert bench.site.observe()["db"].status is Status.RUNNING
    bench.site.act("db", Action.REMOVE)
    assert bench.site.observe() == {}


def test_a_command_may_be_silent_for_longer_than_a_call_may_take(bench: Bench):
    assert bench.site is not None
    bench.engine.be_patient(2)
    result = bench.site.exec("db", ["sh", "-c", "sleep 4; echo done"], None)
    assert (result.code, result.output) == (0, "done\n")


def test_a_service_is_not_taken_for_removed_while_the_engine_is_out_of_order(bench: Bench):
    assert isinstance(bench.site, DockerSite)
    follower, (container,) = bench.site._follower, bench.site._follower.states.known()
    bench.double.arm(Call("GET", "/containers/*/json", 1), Fault.REFUSED_500)
    with pytest.raises(EngineError, match="out of order, says the double"):
        follower.refresh(container)
    assert bench.site.observe()["db"].status is Status.RUNNING


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (StreamParseError(ValueError("Expecting value")), "its answer broke off"),
        (json.JSONDecodeError("Expecting value", "{", 1), "its answer broke off"),
        (requests.exceptions.ChunkedEncodingError(IncompleteRead(b"x", 3)), "its answer broke off"),
        (requests.ConnectionError(ProtocolError("aborted", RemoteDisconnected())), "it hung up without an answer"),
    ],
)
def test_whatever_layer_below_meets_the_end_of_a_connection_it_is_told_in_the_same_words(error: Exception, told: str):
    with pytest.raises(EngineError) as it, translate("cannot build image `api`"):
        raise error
    assert str(it.value) == f"cannot build image `api`: the connection to the Docker engine is lost ({told})"


def test_networks_of_the_same_name_are_removed(bench: Bench, docker_host: str):
    with docker.APIClient(docker_host, version="auto") as client:
        marks = {labels.ENCLAVE: bench.id.name}
        client.create_network(bench.id.name, labels=marks, check_duplicate=False)
        assert len(client.networks(filters=dict(labels.of_enclave(bench.id.name)))) == 2


@pytest.mark.parametrize("tags", [None, [], ["<none>:<none>"]])
def test_an_image_without_a_name_is_removed_by_its_id(tags: list[str] | None):
    assert _name_of({"RepoTags": tags, "Id": "sha256:f00"}) == "sha256:f00"
    assert _name_of({"RepoTags": ["frozen:1"], "Id": "sha256:f00"}) == "frozen:1"
