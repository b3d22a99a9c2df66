"""Writes the TypeScript declarations of the browser's client from the protocol's JSON Schema.

Run it as `python .ci/declarations.py` after a change of the messages; a test tells when that was forgotten. What is
not a message (the client's own functions) is in `api.d.ts` beside this file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Set
from pathlib import Path
from typing import Any, Final, TypeAlias

Schema: TypeAlias = dict[str, Any]

HERE: Final = Path(__file__).resolve().parent
SERVER: Final = HERE.parent / "trio_progress" / "server"
OUT: Final = SERVER / "static" / "trio-progress.d.ts"
WIDTH: Final = 110

FILLED: Final = {"PhaseSnapshot": {"phases"}}
"""What the wire may leave out, but merging puts in."""


def declarations(schema: Schema, api: str) -> str:
    """The declarations: a type for each definition, and those of the messages by their `type`."""
    definitions: Schema = schema["$defs"]
    parts = ["// Made by .ci/declarations.py from the protocol's JSON Schema: change the messages, not this file.\n"]
    parts += [_definition(name, definitions[name]) for name in sorted(definitions)]
    parts.append(_messages(definitions))
    parts.append(api.strip() + "\n")
    return "\n".join(parts)


def _definition(name: str, schema: Schema) -> str:
    comment = _comment(schema.get("description"), "")
    if schema.get("type") == "object" and "properties" in schema:
        lines = "".join(_properties(schema, FILLED.get(name, set())))
        return f"{comment}export interface {_named(name)} {{\n{lines}}}\n"
    return f"{comment}export type {_named(name)} = {_type(schema)};\n"


def _properties(schema: Schema, filled: Set[str] = frozenset()) -> Iterator[str]:
    required = {*schema.get("required", ()), *filled}
    for name, value in schema["properties"].items():
        mark = "" if name in required else "?"
        yield f"{_comment(value.get('description'), '  ')}  readonly {_key(name)}{mark}: {_type(value)};\n"


def _type(schema: Schema) -> str:
    if "$ref" in schema:
        return _named(schema["$ref"].rpartition("/")[2])
    if "const" in schema:
        return json.dumps(schema["const"])
    if "enum" in schema:
        return " | ".join(json.dumps(value) for value in schema["enum"])
    if "anyOf" in schema or "oneOf" in schema:
        kinds = dict.fromkeys(_type(one) for one in schema.get("anyOf") or schema["oneOf"])
        return " | ".join(kinds)
    kind = schema.get("type")
    if isinstance(kind, list):
        return " | ".join(dict.fromkeys(_type({**schema, "type": one}) for one in kind))
    if kind == "array":
        if "prefixItems" in schema:
            return f"readonly [{', '.join(map(_type, schema['prefixItems']))}]"
        item = _type(schema["items"]) if isinstance(schema.get("items"), dict) else "unknown"
        return f"readonly {f'({item})' if ' ' in item else item}[]"
    if kind == "object":
        if "properties" in schema:
            return "{ " + " ".join(" ".join(line.split()) for line in _properties(schema)) + " }"
        values = schema.get("additionalProperties")
        return f"Readonly<Record<string, {_type(values) if isinstance(values, dict) else 'unknown'}>>"
    simple = {"string": "string", "integer": "number", "number": "number", "boolean": "boolean", "null": "null"}
    return simple.get(str(kind), "unknown")


def _messages(definitions: Schema) -> str:
    names = [one["$ref"].rpartition("/")[2] for one in definitions["ServerMessage"]["anyOf"]]
    tagged = {kind: _named(name) for name in names for kind in definitions[name]["properties"]["type"]["enum"]}
    lines = "".join(f"  readonly {_key(kind)}: {name};\n" for kind, name in sorted(tagged.items()))
    return (
        "/** The server's messages by their `type`. */\n"
        f"export interface Messages {{\n{lines}}}\n\n"
        "/** A message of the server: of one type, or of any. */\n"
        "export type Message<Type extends keyof Messages = keyof Messages> = Messages[Type];\n"
    )


def _named(name: str) -> str:
    """The schema's names as this client has them: a snapshot's state is the `State`, and events are the browser's."""
    return {"Snapshot": "State", "PhaseSnapshot": "Phase", "CustomEvent": "EventMessage"}.get(name, name)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z_]\w*", name) else json.dumps(name)


def _comment(text: str | None, indent: str) -> str:
    if not text:
        return ""
    lines = [line.strip() for line in text.strip().replace("*/", "* /").splitlines()]
    if len(lines) == 1 and len(lines[0]) < WIDTH:
        return f"{indent}/** {lines[0]} */\n"
    body = "".join(f"{indent} * {line}".rstrip() + "\n" for line in lines)
    return f"{indent}/**\n{body}{indent} */\n"


def made() -> str:
    """What the file must say now."""
    schema: Schema = json.loads((SERVER / "schema.json").read_text("utf-8"))
    return declarations(schema, (HERE / "api.d.ts").read_text("utf-8"))


if __name__ == "__main__":
    OUT.write_text(made(), "utf-8")
