"""The eight steps of a run. Each takes the results of the steps before it, and returns its own.

Between the steps these are plain JSON data (see `engine`); within a step they have types. No step depends on which
thread was quicker, so the same question to the same corpus has the same answer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from itertools import groupby
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec
import trio

from ..session.phase import Phase
from .answer import Answer, Quote, Statement, compose, stands
from .corpus import CorpusError
from .questions import Query, Question, classify, follow_up, plan, subjects
from .ranking import Statistics
from .research_context import ResearchContext, fresh
from .search import Hit, Scan, best_first, fused, rank
from .sources import Reader, Source, judge, leads, sort_key, without_duplicates
from .text import Passage, words

Notes: TypeAlias = dict[str, Any]
"""The results of the steps so far, by the names of the steps."""
Step: TypeAlias = Callable[[ResearchContext, Phase, Notes], Awaitable[Any]]

KEPT_HITS: Final = 60
"""Passages that are read again and scored."""
ANSWERING: Final = 16
"""Sources that the answer is composed from."""
LEADING: Final = 8
"""Sources whose names are followed up; when a round leaves them the same, it is the last."""
ROUNDS: Final = 2
FOLLOWED_HITS: Final = 12
"""New passages at most that one round adds."""
SECOND_HAND: Final = 0.8
"""The relevance of a perfect passage for a name that was followed up; for the question itself it is 1."""


class Overview(msgspec.Struct):
    """The result of context engineering."""

    files: int
    skipped: dict[str, int]
    subjects: list[str]
    queries: list[Query]


class Found(msgspec.Struct):
    """The result of the search: the best hits, and the statistics of all passages."""

    hits: list[Hit]
    statistics: Statistics


class Sources(msgspec.Struct):
    """The result of analysis and of following up: sources, best first, and the names that were followed up."""

    sources: list[Source]
    followed: list[str] = []


async def classification(context: ResearchContext, phase: Phase, notes: Notes) -> Question:
    """Takes the question apart."""
    question = classify(context.question)
    phase.update(done=len(question.terms), total=len(question.terms))
    context.session.set(kind=question.kind, terms=[question.written[term] for term in question.terms])
    phase.update(message=f"asks for a {question.kind}" if question.kind != "general" else "asks in general")
    await trio.lowlevel.checkpoint()
    return question


async def context_engineering(context: ResearchContext, phase: Phase, notes: Notes) -> Overview:
    """Lists the files, finds the subjects of the question among them, and plans the queries."""
    question = msgspec.convert(notes["classification"], Question)
    phase.update(total=3, message="listing the files")
    listing = await context.listing()
    context.session.set(corpus=context.folder, files=len(listing.files), bytes=listing.size)
    phase.advance()
    found = await context.thread(subjects, question, [file.path for file in listing.files])
    phase.advance()
    queries = plan(question, found)
    phase.advance()
    phase.update(message=f"{len(listing.files)} files, {len(queries)} queries")
    return Overview(len(listing.files), listing.skipped, found, queries)


async def search(context: ResearchContext, phase: Phase, notes: Notes) -> Found:
    """Reads all files, several at a time, and ranks the passages that each query has found."""
    question = msgspec.convert(notes["classification"], Question)
    overview = msgspec.convert(notes["context_engineering"], Overview)
    queries = overview.queries
    phase.update(total=overview.files, message=f"reading {overview.files} files")
    seen: set[str] = set()

    def on_result(result: Scan) -> None:
        session = context.session
        phase.advance(result.files + sum(result.skipped.values()))
        session.increment("passages_read", result.statistics.passages)
        new = {hit.digest: hit for hit in result.hits if hit.digest not in seen}
        seen.update(new)
        session.increment("sources_found", len(new))
        session.increment("duplicates_removed", len(result.hits) - len(new))
        if new:
            _emit_found(context, max(new.values(), key=lambda hit: fused(hit, queries)))

    with phase.phase(fresh(phase, "reading"), weight=10, title="Read the files", unit="parts") as reading:
        scans = await context.scan(reading, queries, question.joined, on_result)
    statistics = Statistics()
    distinct: dict[str, Hit] = {}
    skipped = dict(overview.skipped)
    for result in scans:
        statistics.add(result.statistics)
        for hit in result.hits:
            distinct.setdefault(hit.digest, hit)
        for why, count in result.skipped.items():
            skipped[why] = skipped.get(why, 0) + count
    hits = list(distinct.values())
    context.session.set(skipped=skipped)
    if not statistics.passages:
        raise CorpusError(f"no file in {context.folder!r} is text ({_listed(skipped)}): name a folder that has some")

    async def ranked(query: Query) -> None:
        title = f"Rank {query.title}"[:200]
        with phase.phase(fresh(phase, f"rank-{query.name}"), weight=0.2, title=title, unit="passages") as ranking:
            scores = await context.thread(rank, hits, query, statistics)
            for number, score in scores.items():
                hits[number].scores[query.name] = score
            ranking.update(done=len(scores), total=len(scores))

    phase.update(message=f"ranking {len(hits)} passages")
    await context.each(ranked, queries)
    best = best_first(hits, queries, KEPT_HITS)
    phase.update(message=f"{len(hits)} passages found, the best {len(best)} kept")
    return Found(best, statistics)


def _emit_found(context: ResearchContext, hit: Hit) -> None:
    context.session.emit("source.found", {"path": hit.path, "line": hit.line, "scope": hit.scope})


class _Judged(NamedTuple):
    source: Source
    words: list[str]


async def _judged(
    context: ResearchContext, phase: Phase, hits: Sequence[Hit], relevance: Callable[[Hit], float], notes: Notes
) -> list[_Judged]:
    """Reads the passages of hits again and scores each, in the order of the corpus; counts them on the phase."""
    question = msgspec.convert(notes["classification"], Question)
    statistics = msgspec.convert(notes["search"], Found).statistics
    aims = _aims(notes)
    ordered = sorted(hits, key=lambda hit: (hit.path, hit.line))
    files = [list(group) for _, group in groupby(ordered, key=lambda hit: hit.path)]
    results: dict[str, list[_Judged]] = {}

    def work(group: list[Hit]) -> list[_Judged]:
        reader = Reader(context.folder)
        judged = []
        for hit in group:
            passage = reader.passage(hit.path, hit.line)
            if passage is not None:
                source = judge(hit, relevance(hit), passage, question, statistics, aims)
                judged.append(_Judged(source, words("\n".join(passage.lines))))
        return judged

    async def read(group: list[Hit]) -> None:
        results[group[0].path] = await context.thread(work, group)
        phase.advance(len(group))

    await context.each(read, files)
    return [judged for path in sorted(results) for judged in results[path]]


def _aims(notes: Notes) -> list[str]:
    """The terms of the question that are not its subjects; all of them, where each is one."""
    question = msgspec.convert(notes["classification"], Question)
    overview = msgspec.convert(notes["context_engineering"], Overview)
    return [term for term in question.terms if term not in overview.subjects] or question.terms


async def analysis(context: ResearchContext, phase: Phase, notes: Notes) -> Sources:
    """Reads the best hits again, scores each as a source, and takes out those that repeat a better one."""
    found = msgspec.convert(notes["search"], Found)
    overview = msgspec.convert(notes["context_engineering"], Overview)
    phase.update(total=len(found.hits), message="reading the best passages again")
    best = max((fused(hit, overview.queries) for hit in found.hits), default=1.0)
    judged = await _judged(context, phase, found.hits, lambda hit: fused(hit, overview.queries) / best, notes)
    kept, repeated = await context.thread(
        without_duplicates, [one.source for one in judged], [one.words for one in judged]
    )
    context.session.increment("duplicates_removed", repeated)
    sources = [judged[number].source for number in kept]
    for source in sources[:3]:
        data = {"path": source.path, "line": source.line, "score": round(source.score, 3)}
        context.session.emit("source.scored", data)
    phase.update(message=f"{len(sources)} sources, the best scores {sources[0].score:.2f}" if sources else "no source")
    return Sources(sources)


async def agentic_loop(context: ResearchContext, phase: Phase, notes: Notes) -> Sources:
    """Looks up the names that the best sources mention, until that changes nothing among the best."""
    question = msgspec.convert(notes["classification"], Question)
    standing = msgspec.convert(notes["analysis"], Sources)
    phase.update(total=ROUNDS)
    for number in range(1, ROUNDS + 1):
        names = leads(question, standing.sources[:LEADING], standing.followed)
        if not names:
            break
        before = [source.key for source in standing.sources[:LEADING]]
        phase.update(message=f"following {', '.join(names)}")
        context.session.emit("lead.followed", {"round": number, "names": names})
        with phase.phase(fresh(phase, f"round-{number}"), title=f"Round {number}: {', '.join(names)}"[:200]) as round_:
            await _follow(context, round_, notes, standing, names)
        phase.advance()
        standing.followed += names
        standing.sources.sort(key=sort_key)
        if [source.key for source in standing.sources[:LEADING]] == before:
            break
    phase.update(message=f"followed {', '.join(standing.followed)}" if standing.followed else "nothing to follow")
    return standing


async def _follow(
    context: ResearchContext, phase: Phase, notes: Notes, standing: Sources, names: Sequence[str]
) -> None:
    """One round: finds passages with these names, raises the sources that have them, and adds new ones."""
    question = msgspec.convert(notes["classification"], Question)
    followed = [follow_up(question, name) for name in names]
    with phase.phase(fresh(phase, "reading"), title="Read the files", unit="parts", weight=3) as reading:
        scans = await context.scan(reading, followed, question.joined)
    hits = [hit for result in scans for hit in result.hits]
    known = msgspec.convert(notes["search"], Found).statistics
    for query in followed:
        assert query.must is not None
        known.having[query.must] = sum(result.statistics.having.get(query.must, 0) for result in scans)
    for query in followed:
        for number, score in rank(hits, query, known).items():
            hits[number].scores[query.name] = score
    at = {source.key: source for source in standing.sources}
    digests = {source.digest for source in standing.sources}
    new: list[Hit] = []
    for hit in best_first(hits, followed, len(hits)):
        source = at.get((hit.path, hit.line))
        if source is not None:
            source.follow(max(hit.scores.values()))
        elif hit.digest not in digests and len(new) < FOLLOWED_HITS:
            digests.add(hit.digest)
            new.append(hit)
    with phase.phase(fresh(phase, "judging"), title="Score what is new", total=len(new), unit="sources") as judging:
        judged = await _judged(context, judging, new, lambda hit: SECOND_HAND * max(hit.scores.values()), notes)
    for one in judged:
        hit = next(hit for hit in new if (hit.path, hit.line) == one.source.key)
        one.source.follow(max(hit.scores.values()))
        context.session.increment("sources_found")
        _emit_found(context, hit)
    standing.sources += [one.source for one in judged]


async def synthesis(context: ResearchContext, phase: Phase, notes: Notes) -> Answer:
    """Reads the best sources once more and composes the answer from them."""
    question = msgspec.convert(notes["classification"], Question)
    found = msgspec.convert(notes["search"], Found)
    best = msgspec.convert(notes["agentic_loop"], Sources).sources[:ANSWERING]
    phase.update(total=len(best) + 1, message="reading what is quoted")
    reader = Reader(context.folder)
    texts: dict[tuple[str, int], Passage] = {}
    for path, line in sorted(source.key for source in best):
        passage = await context.thread(reader.passage, path, line)
        if passage is not None:
            texts[path, line] = passage
        phase.advance()
    kept = [source for source in best if source.key in texts]
    passages = [texts[source.key] for source in kept]
    answer = await context.thread(compose, question, kept, passages, found.statistics, _aims(notes))
    phase.advance()
    phase.update(message=f"{len(answer.statements)} sentences and {len(answer.quotes)} passages quoted")
    return answer


async def review(context: ResearchContext, phase: Phase, notes: Notes) -> Answer:
    """Reads each cited file again, and takes out the citations that it does not have at their places."""
    answer = msgspec.convert(notes["synthesis"], Answer)
    citations: list[Statement | Quote] = [*answer.statements, *answer.quotes]
    true: list[Statement | Quote] = []
    phase.update(total=len(citations))
    for citation in phase.track(citations):
        if await context.thread(stands, context.folder, citation):
            true.append(citation)
            context.session.increment("citations_checked")
        else:
            context.session.emit("citation.refuted", {"path": citation.path, "line": citation.line})
    phase.update(message=f"{len(true)} of {len(citations)} citations stand")
    return Answer(
        answer.question,
        [statement for statement in answer.statements if statement in true],
        [quote for quote in answer.quotes if quote in true],
        checked=len(true),
        refuted=len(citations) - len(true),
    )


async def complete(context: ResearchContext, phase: Phase, notes: Notes) -> Answer:
    """Hands the answer in as the session's result."""
    answer = msgspec.convert(notes["review"], Answer)
    context.session.set_result(notes["review"])
    await trio.lowlevel.checkpoint()
    return answer


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {why.replace('_', ' ')}" for why, count in sorted(counts.items())) or "all are empty"


STEPS: Final[dict[str, Step]] = {
    step.__name__: step
    for step in (classification, context_engineering, search, analysis, agentic_loop, synthesis, review, complete)
}
"""The steps in their order, each named as its phase."""
