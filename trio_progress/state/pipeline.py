"""What is declared before the work begins: the phases of a pipeline and what each weighs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, final

from . import checks


@final
@dataclass(frozen=True, slots=True)
class PhaseSpec:
    """A phase as a pipeline declares it.

    Args:
        name: What code calls it; unique within the pipeline.
        weight: Its share of the whole, relative to the other phases; at least 0.
        title: What people are shown; the name with spaces for underscores unless given.
        unit: What is counted: "pages", "bytes".
        total: How much there is to do, where it is known beforehand.
        stall_after: Seconds without progress after which the session counts as stalled while this
            phase runs; None leaves it to the tracker, `math.inf` means never.
        aliases: Other names that lead to this phase.

    Raises:
        ValueError, TypeError: A value is out of range.
    """

    name: str
    weight: float = 1
    title: str | None = None
    unit: str | None = None
    total: float | None = None
    stall_after: float | None = None
    aliases: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        checks.name("a phase's name", self.name)
        given = {"weight": checks.number(f"the weight of phase {self.name!r}", self.weight)}
        if self.title is not None:
            checks.title(f"the title of phase {self.name!r}", self.title)
        if self.unit is not None:
            checks.title(f"the unit of phase {self.name!r}", self.unit)
        if self.total is not None:
            given["total"] = checks.number(f"the total of phase {self.name!r}", self.total)
        if self.stall_after is not None:
            given["stall_after"] = checks.seconds_or_never(f"stall_after of phase {self.name!r}", self.stall_after)
        for of, value in given.items():
            object.__setattr__(self, of, value)  # As a plain number, whatever came.
        aliases: object = self.aliases
        if isinstance(aliases, str):
            raise TypeError(f"the aliases of phase {self.name!r} must be a sequence of str, not one str")
        object.__setattr__(self, "aliases", tuple(checks.name("an alias", alias) for alias in self.aliases))

    @property
    def shown_title(self) -> str:
        """The title that people are shown."""
        return self.title if self.title is not None else self.name.replace("_", " ")


Phases: TypeAlias = "Mapping[str, float] | Sequence[PhaseSpec | str]"


@final
@dataclass(frozen=True, slots=True, init=False)
class Pipeline:
    """A named kind of work: its phases in order, with weights that are normalised to sum to 1. A frozen value.

    Args:
        name: What the kind of work is called; metrics are labelled with it, so choose few.
        phases: Weights by name, or a sequence of `PhaseSpec` and plain names (of weight 1 each).
        error_text: What viewers are shown of an exception beside its type: a function that is
            given the exception and returns a text, or None to show none. Without it, none is shown. Of a
            nursery's group that holds one error, it is given that error.
        usual: Seconds that phases take, above 0, by name: a start for those who know, until there are runs.
        learn: Whether the bar and the ETA of later runs go by what earlier ones took. With False they go by the
            weights (or by `usual`), and nothing is kept.

    Raises:
        ValueError, TypeError: No phase, a name twice, or a value out of range.
    """

    name: str
    phases: tuple[PhaseSpec, ...]
    """As declared, in their order."""
    error_text: Callable[[BaseException], str | None] | None
    weight: float = field(compare=False, repr=False)
    """The sum of the declared weights."""
    usual: Mapping[str, float] = field(hash=False)
    """Seconds that phases are known to take, from the start."""
    learn: bool
    """Whether later runs are estimated by what earlier ones took."""
    _by_name: dict[str, str] = field(compare=False, repr=False)

    def __init__(
        self,
        name: str,
        phases: Phases,
        *,
        error_text: Callable[[BaseException], str | None] | None = None,
        usual: Mapping[str, float] | None = None,
        learn: bool = True,
    ) -> None:
        checks.name("a pipeline's name", name)
        specs = _specs(phases)
        if not specs:
            raise ValueError(
                f"pipeline {name!r} has no phases; open a session without a pipeline to add them as they come"
            )
        whole = sum(spec.weight for spec in specs)
        if not whole > 0:
            raise ValueError(f"the weights of pipeline {name!r} sum to {whole}: at least one must be above 0")
        by_name: dict[str, str] = {}
        for spec in specs:
            for known_as in (spec.name, *spec.aliases):
                if known_as in by_name:
                    raise ValueError(f"pipeline {name!r} has two phases called {known_as!r}")
                by_name[known_as] = spec.name
        for of, value in zip(
            ("name", "phases", "error_text", "weight", "usual", "learn", "_by_name"),
            (name, tuple(specs), error_text, whole, _checked_usual(name, usual, by_name), learn, by_name),
            strict=True,
        ):
            object.__setattr__(self, of, value)

    def resolve(self, name: str) -> str | None:
        """The phase that `name`, or an alias, stands for; None where there is none."""
        return self._by_name.get(name)

    def __iter__(self) -> Iterator[PhaseSpec]:
        return iter(self.phases)

    def __len__(self) -> int:
        return len(self.phases)

    def __repr__(self) -> str:
        weights = ", ".join(f"{spec.name!r}: {spec.weight:g}" for spec in self)
        return f"Pipeline({self.name!r}, {{{weights}}})"


def _specs(phases: object) -> list[PhaseSpec]:
    if isinstance(phases, Mapping):
        return [PhaseSpec(name, weight) for name, weight in phases.items()]
    instead = ""
    if isinstance(phases, Pipeline):
        instead = ": its `phases` are one; to open a session of it as it is, hand it to `tracker.session()`"
    elif isinstance(phases, Iterable) and not isinstance(phases, str | set | frozenset):  # A set has no order.
        return [phase if isinstance(phase, PhaseSpec) else PhaseSpec(phase) for phase in phases]
    kind = type(phases).__name__
    raise TypeError(f"the phases of a pipeline are a mapping or a sequence, not the {kind} {phases!r:.200}{instead}")


def _checked_usual(pipeline: str, usual: object, by_name: Mapping[str, str]) -> Mapping[str, float]:
    if usual is None:
        return {}
    if not isinstance(usual, Mapping):
        raise TypeError(f"usual is seconds by phase, not {usual!r:.200}")
    checked: dict[str, float] = {}
    for name, seconds in usual.items():
        if name not in by_name:
            raise ValueError(f"usual names {name!r:.200}, which is no phase of pipeline {pipeline!r}")
        checked[by_name[name]] = float(checks.number(f"the usual seconds of phase {name!r}", seconds, above=0))
    return checked
