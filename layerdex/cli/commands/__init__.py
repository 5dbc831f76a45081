"""The commands: each file has one, called ``command``, and is loaded when it is asked for.

A command parses its options, calls one method of the index and renders the result. It imports
`context`, `options` and `render`; no command imports another.
"""
