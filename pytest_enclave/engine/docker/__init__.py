"""Services as containers of a Docker engine.

`discovery` finds the engine without the Docker SDK; all else is reached through `engine.DockerEngine`.
"""
