"""The demo: a small research engine over a folder of text, told through this library.

It answers a question with quoted passages, each at its `file:line`. Three modules run it and tell how it goes:
`engine` (the pipeline, and going on with a run), `steps` (one function a phase) and `research_context` (the session,
the corpus and the worker threads that the steps share). Everything else here is plain synchronous code that knows
nothing of trio or of the tracker:

- `corpus`: which files there are, and what is in them
- `text`: words, and the passages that a file falls into
- `questions`: what is asked, and which queries to put
- `ranking`: how well a passage answers a query
- `search`: the passages of some files that answer some queries
- `sources`: what the best of them are worth, which repeat others, and what they lead to
- `answer`: which passages to quote, and whether the quotes stand where they are said to
"""
