"""The image of sidecars. Our own is built on the engine from `shaper/Dockerfile` when one is first needed.

Only its base comes from elsewhere: it is had as images of services are. Our program is no part of it (`sidecars`).
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_enclave.engine.docker.client import Client
from pytest_enclave.engine.docker.images import Images
from pytest_enclave.engine.docker.translation import Refused, translate
from pytest_enclave.engine.protocol import PullPolicy
from pytest_enclave.errors import EngineError, Problem

if TYPE_CHECKING:
    from docker import APIClient

    from pytest_enclave.engine.docker.shape import ShaperPlan

DOCKERFILE = Path(__file__).with_name("shaper") / "Dockerfile"

NO_WAY = "cannot shape the enclave's traffic: this process is not root on the engine's machine, and "


def have_image(client: APIClient, plan: ShaperPlan) -> None:
    """Have the image of sidecars on the engine. Raises EngineError where that cannot be."""
    images = Images(Client.over(client), plan.mirror)
    if images.digest(plan.image) is not None:
        return
    if not plan.base:
        raise EngineError(
            f'{NO_WAY}the engine has no image "{plan.image}" to do it from containers',
            remedy=f"`docker pull {plan.image}`, or leave the ini option enclave_shaper_image out: then one is built",
        )
    base = images.resolve([plan.base], PullPolicy.MISSING, lambda _: None)[plan.base]
    if isinstance(base, Problem):
        raise _unbuildable(plan, base.message)
    try:
        _build(client, plan)
    except Refused as refused:
        raise _unbuildable(plan, refused.explanation) from None


def _build(client: APIClient, plan: ShaperPlan) -> None:
    """Raises Refused where the engine says no, and other EngineErrors."""
    doing = f'cannot build image "{plan.image}"'
    with translate(doing):
        said = client.build(
            fileobj=io.BytesIO(DOCKERFILE.read_bytes()),
            tag=plan.image,
            buildargs={"BASE": plan.base},
            rm=True,
            forcerm=True,
            decode=True,
        )
        for message in said:
            if "error" in message:
                raise Refused(doing, 0, message["error"])


def _unbuildable(plan: ShaperPlan, reason: str) -> EngineError:
    return EngineError(
        f'{NO_WAY}the image "{plan.image}", to do it from containers, cannot be built: {reason}',
        remedy="name an image that the engine has, and that has python3, in the ini option enclave_shaper_image; or "
        f"build it: `docker build --build-arg BASE=… -t {plan.image} {DOCKERFILE.parent}`",
    )
