"""Another process with a lease on an enclave.

    python tests/engine/lease_holder.py open|attach NAME HOME HOLDER

Starts a service named after its own process and waits; each line of standard input is a command, answered by one line:

    see          names of the services that it sees
    dial S       where port 80 of a service is reached
    publish S N  start a service whose port 80 is to be published at a number, in place of what has its name
    run S C…     output of a command in a service
    exit S       how a service has ended
    wait         what comes of waiting for ten seconds
    refresh      ask anew what it remembers
    keep N       let the enclave stay for so many seconds
    remove S     remove a service
    freeze       make what is there what forks begin with
    linger       fork a process that has all that this one has open
    leave        give up the lease and end; `close`: end the enclave and end; `left`: give it up and go on
"""

from __future__ import annotations

import os
import sys
import time

from pytest_enclave.engine.embedded.engine import EmbeddedEngine
from pytest_enclave.engine.protocol import Action, EnclaveId, ServiceSpec, Site
from pytest_enclave.errors import EnclaveError
from pytest_enclave.plan.service import PortSpec

WEB = ("python3", "-m", "http.server", "80", "--directory", "/usr/share")


def tell(*words: object) -> None:
    """Answer with a line."""
    sys.stdout.write(f"{' '.join(map(str, words))}\n")
    sys.stdout.flush()


def hold(how: str, name: str, home: str, holder: str) -> None:
    """Serve standard input."""
    engine = EmbeddedEngine()
    site: Site = getattr(engine, how)(EnclaveId(name, home, int(holder)))
    own = f"s{os.getpid()}"
    command = ("sh", "-c", "while :; do sleep 3600; done")
    outcome = site.start([ServiceSpec(own, "host:/", site.reserve(own), entrypoint=command)], {}, 1)
    assert outcome == {own: None}, outcome
    tell(own)
    for line in sys.stdin:
        action, *more = line.split()
        if not obey(site, action, more):
            break
    engine.close()


def obey(site: Site, action: str, more: list[str]) -> bool:
    """Do as a command says; whether to go on."""
    if action == "see":
        tell(*sorted(site.observe()))
    elif action == "dial":
        endpoint = site.dial(more[0], PortSpec(80))
        tell(endpoint.host, endpoint.port)
    elif action == "publish":
        ports = {"http": PortSpec(80)}
        public = {"http": PortSpec(int(more[1]))}
        spec = ServiceSpec(more[0], "host:/", site.reserve(more[0]), ports, public, entrypoint=WEB)
        tell(site.start([spec], {}, 1)[more[0]])
    elif action == "run":
        tell(site.exec(more[0], more[1:], None).output.strip())
    elif action == "exit":
        ending = site.exit_of(more[0])
        tell(ending and ending.code)
    elif action == "wait":
        try:
            site.pause(10)
            tell("nothing")
        except EnclaveError as error:
            tell(error)
    elif action == "refresh":
        tell(site.refresh())
    elif action == "keep":
        tell(site.keep(time.time() + float(more[0])))
    elif action == "remove":
        tell(site.act(more[0], Action.REMOVE))
    elif action == "freeze":
        tell(site.freeze())
    elif action == "linger":
        child = os.fork()
        if child == 0:
            os.setsid()
            time.sleep(60)
            os._exit(0)
        tell(child)
    elif action == "left":
        tell(site.leave())
    elif action == "close":
        tell(site.close())
        return False
    else:
        site.leave()
        tell("left")
        return False
    return True


if __name__ == "__main__":
    hold(*sys.argv[1:])
