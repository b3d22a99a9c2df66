"""The files that the page is made of: read once, and tagged by their content."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Final, final

from .answers import Request, Response

TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".json": "application/json",
    ".ts": "text/plain; charset=utf-8",
}
"""What is served, by the end of its name; nothing else of the folder is."""


@final
@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file's content, its type, and a tag of it."""

    content: bytes
    content_type: str
    etag: str

    def response(self, request: Request) -> Response:
        """The file, or 304 where the client has it already."""
        headers = {"ETag": self.etag, "Cache-Control": "no-cache"}
        if matches(request, self.etag):
            return Response(status=304, headers=headers)
        return Response(body=self.content, content_type=self.content_type, headers=headers)


def matches(request: Request, etag: str) -> bool:
    """Whether the client says that it has what `etag` stands for (RFC 9110, section 13.1.2: a weak comparison)."""
    given = (one.strip().removeprefix("W/") for one in request.headers.get("if-none-match", "").split(","))
    return any(one in ("*", etag.removeprefix("W/")) for one in given)


def load() -> dict[str, StaticFile]:
    """The files by their path within `static/`, without a slash in front. Reads the package's files."""
    found: dict[str, StaticFile] = {}
    _walk(resources.files(__package__) / "static", "", found)
    return found


def _walk(folder: Traversable, above: str, found: dict[str, StaticFile]) -> None:
    for entry in folder.iterdir():
        if entry.is_dir():
            _walk(entry, f"{above}{entry.name}/", found)
        else:
            ending = entry.name[entry.name.rfind(".") :]
            if ending in TYPES:
                content = entry.read_bytes()
                digest = hashlib.sha256(content).hexdigest()[:32]
                found[above + entry.name] = StaticFile(content, TYPES[ending], f'"{digest}"')
