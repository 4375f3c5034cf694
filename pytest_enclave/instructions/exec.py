"""`plan.exec(service_name, recipe)`: run a command in a service (behaviour.md §1.5)."""

from __future__ import annotations

from pytest_enclave.instructions.recipe_call import RecipeCall


class Exec(RecipeCall):
    """Runs a command directly, without a shell; any exit code but 0 fails unless accepted."""

    name = "exec"
    acceptable = (0,)
    parameters = RecipeCall.takes("ExecRecipe", acceptable=(0,))
