"""Graphs and results for people: tables, drawings, pages, and a graph as a spec again.

`layer_table` is what `cnnc show` prints, `drawing` what it draws; `spec_text` writes the text of a spec; `captions`
names an operator with its settings; `text_table`, `html_page` and `html_style` are what tables and pages are made of.
"""
