"""The demo: a small research engine over a folder of text, whose progress this library tracks.

It answers a question with quoted passages, each at its `file:line`. Three modules run it and report progress:
`engine` (the pipeline, and resuming a run), `steps` (one function a phase) and `research_context` (the session, the
corpus and the worker threads that the steps share). Everything else here is plain synchronous code that knows nothing
of trio or of the tracker:

- `corpus`: which files there are, and what is in them
- `text`: words, and the passages that a file falls into
- `questions`: the terms of a question, and the queries for it
- `ranking`: how well a passage answers a query
- `search`: the passages of some files that answer some queries
- `sources`: how well the best of them answer, which repeat others, and which names they lead to
- `answer`: which passages to quote, and whether each quote is at its place
"""
