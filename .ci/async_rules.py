"""Runs flake8-async's rules over files, at a quarter of what its own command costs.

    python .ci/async_rules.py --disable=CODES FILE...

Its command asks each rule at each node of a file, in two kinds of trees; the one that keeps a file as it is written,
for rules that change it, costs the most by far. Here none changes any. So each rule is asked at the nodes that it has
a method for; and only rules that need that tree are shown it, in files that may have what they look for.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import io
import re
import sys
import tokenize
from collections.abc import Callable, Iterator
from typing import Any

import flake8_async
import libcst
from flake8_async import runner
from flake8_async.visitors import visitor101
from flake8_async.visitors.flake8asyncvisitor import Flake8AsyncVisitor, Flake8AsyncVisitor_cst
from flake8_async.visitors.visitor_utility import NoqaHandler, _find_noqa
from libcst.metadata import MetadataWrapper

_parse = flake8_async.cst_parse_module_native

_SCOPES = {name.rpartition(".")[2] for name in visitor101._CANCEL_SCOPE_CMS}
"""What a file names that has a `yield` where ASYNC101 forbids it."""


# The rules for the tree that keeps what is written; here a module is its text, until one of them wants more.


def _needs_tree(rule: Flake8AsyncVisitor_cst, source: str) -> bool:
    if not isinstance(rule, visitor101.Visitor101):
        raise SystemExit(f"{', '.join(rule.error_codes)}: left to ruff and to flake8-async's own command; disable it")
    return re.search(r"\byield\b", source) is not None and any(name in source for name in _SCOPES)


def _run_over_text(self: Any) -> Iterator[Any]:
    """What `Flake8AsyncRunner_cst.run` does."""
    source: str = self.module
    self.noqas = self.state.noqas
    _saved.clear()
    if not self.options.disable_noqa and "noqa" in source.lower():
        self.noqas.update(_allowed(source))
    rules = [rule for rule in self.visitors if _needs_tree(rule, source)]
    if rules:
        tree = MetadataWrapper(_parse(source), unsafe_skip_copy=True)
        nodes = [*_walked(tree.module)]
        for rule in (*(each for each in self.utility_visitors if not isinstance(each, NoqaHandler)), *rules):
            _show(rule, nodes, tree)
    yield from self.state.problems


def _allowed(source: str) -> Iterator[tuple[int, set[str]]]:
    """The codes that each line allows, where its comment says `noqa`; an empty set allows all."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and (found := _find_noqa(token.string)) is not None:
            codes = found["codes"] or ""
            yield token.start[0], {code.strip() for code in codes.split(",") if code.strip()}


def _walked(node: libcst.CSTNode) -> Iterator[tuple[libcst.CSTNode, bool]]:
    """All nodes, each when it is come to and when it is left (True), but for those of blanks."""
    yield node, False
    for name in _fields(type(node)):
        value = getattr(node, name)
        for child in value if isinstance(value, list | tuple) else (value,):
            if isinstance(child, libcst.CSTNode) and not isinstance(child, libcst.BaseParenthesizableWhitespace):
                yield from _walked(child)
    yield node, True


@functools.cache
def _fields(kind: type[libcst.CSTNode]) -> list[str]:
    return [field.name for field in dataclasses.fields(kind)]


def _show(rule: Flake8AsyncVisitor_cst, nodes: list[tuple[libcst.CSTNode, bool]], tree: MetadataWrapper) -> None:
    """Calls what a rule has for each of the nodes."""
    rule.get_metadata = lambda key, node: tree.resolve(key)[node]
    kind: Any = type(rule)
    for node, left in nodes:
        method = _own(kind, f"{'leave' if left else 'visit'}_{type(node).__name__}", libcst.CSTTransformer)
        if method is not None and left:
            assert method(rule, node, node) is node
        elif method is not None:
            assert method(rule, node) is not False


@functools.cache
def _own(kind: type, name: str, base: type) -> Callable[..., Any] | None:
    """A method of a class, unless it is that of the base, which does nothing."""
    method = getattr(kind, name, None)
    return None if method is getattr(base, name, None) else method


# The rules for Python's own tree


_saved: set[ast.AST] = set()
"""The nodes at whose end some rule takes up again what it knew before."""

_save_state = Flake8AsyncVisitor.save_state


def _save(self: Flake8AsyncVisitor, node: ast.AST, *attributes: str, copy: bool = False) -> None:
    _saved.add(node)
    _save_state(self, node, *attributes, copy=copy)


def _visit(self: Any, node: ast.AST) -> None:
    """What `Flake8AsyncRunner.visit` does; a rule that has gone through a node's parts itself is not shown them."""
    if isinstance(node, ast.Module):
        self.asked = {}
        self.all = (*self.utility_visitors, *self.visitors)
    kind: Any = type(node)
    asked = self.asked.get(kind)
    if asked is None:
        methods = [(rule, _own(rule.__class__, f"visit_{kind.__name__}", ast.NodeVisitor)) for rule in self.all]
        asked = self.asked[kind] = [(rule, method) for rule, method in methods if method is not None]
    done = set()
    for rule, method in asked:
        if rule in self.visitors or rule in self.utility_visitors:
            method(rule, node)
            if rule.novisit:
                done.add(rule)
    self.visitors.difference_update(done)
    if kind._fields:
        self.generic_visit(node)
    for rule in done:
        rule.novisit = False
    self.visitors.update(done)
    if node in _saved:
        for rule in (*self.utility_visitors, *self.visitors):
            rule.set_state(rule.outer.pop(node, {}))


if __name__ == "__main__":
    flake8_async.cst_parse_module_native = lambda source: source
    runner.Flake8AsyncRunner_cst.run = _run_over_text
    runner.Flake8AsyncRunner.visit = _visit
    Flake8AsyncVisitor.save_state = _save
    sys.exit(flake8_async.main())
