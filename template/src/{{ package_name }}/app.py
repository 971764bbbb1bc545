"""The application that answers over HTTP: the model's API. Add routes, middleware, dependencies and settings here.

uv run NAME serve    # NAME and PACKAGE stand in pyproject.toml
uv run granian --interface asgi --factory PACKAGE.app:create_app    # or any other ASGI server
"""

from fastapi import FastAPI

from tabserve.serving.app import model_app
from tabserve.settings import ServeSettings, load

# For the example below; `make format` puts imports in order.
# from typing import Annotated
# from fastapi import Depends, HTTPException
# from fastapi.middleware.cors import CORSMiddleware
# from pydantic_settings import SettingsConfigDict
# from tabserve.settings import Section


def create_app(settings: ServeSettings | None = None) -> FastAPI:
    """The model's API and what this file adds."""
    app = model_app(settings or load(ServeSettings))
    # add_hello(app)
    return app


# An example: a setting, a dependency, a middleware and a route. Uncomment it and the lines above, then
# `curl http://127.0.0.1:8080/hello?name=you`; `greeting = "Good morning"` under [app] in config.toml changes it.
#
# class AppSettings(Section):
#     """`[app]` in config.toml; APP_GREETING and APP_ORIGINS in the environment."""
#
#     model_config = SettingsConfigDict(env_prefix="APP_")
#
#     greeting: str = "Hello"
#     origins: tuple[str, ...] = ()  # sites whose pages may call the API
#
#
# def polite(name: str = "world") -> str:
#     """A name from the query string."""
#     if not name.isprintable():
#         raise HTTPException(422, "a name has printable characters only")
#     return name
#
#
# def add_hello(app: FastAPI) -> None:
#     """Add a greeting."""
#     settings = load(AppSettings)
#     app.add_middleware(CORSMiddleware, allow_origins=settings.origins)
#
#     @app.get("/hello", tags=["own"])
#     def hello(name: Annotated[str, Depends(polite)]) -> dict[str, str]:
#         """Greet somebody."""
#         return {"message": f"{settings.greeting}, {name}!"}
