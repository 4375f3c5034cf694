"""`plan.request(service_name, recipe)`: ask a service over HTTP (behaviour.md §1.6)."""

from __future__ import annotations

from pytest_enclave.instructions.recipe_call import RecipeCall
from pytest_enclave.plan.config_types import HTTP_RECIPES


class Request(RecipeCall):
    """Sends a GET or POST request; any status but the successful ones fails unless accepted."""

    name = "request"
    acceptable = (200, 201, 202, 203, 204, 205, 206, 207, 208, 226)
    parameters = RecipeCall.takes(*HTTP_RECIPES, acceptable=acceptable)
