"""The server as an ASGI app, in a web app that is there already and runs on Trio. Needs the extra `server`."""

from ..errors import require_extra as _needed

with _needed("trio_progress.asgi", "server"):
    from .app import App as App
    from .app import app as app
