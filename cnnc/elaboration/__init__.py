"""A syntax tree to a graph: names are checked, blocks and repeats expanded, sizes computed, scaling rules applied.

`elaborate.build` is the whole way; `name_check` finds what is wrong with names before it, `budget` holds the graph to
what the spec expects of it, and `namespace` has the blocks of a file and of its imports.
"""
