"""The looks of the page: light or dark as its reader's system is, one column where there is no room for two."""

from __future__ import annotations

from typing import Final

CSS: Final = """\
:root { color-scheme: light dark; --ink: #1d2230; --pale: #5d6576; --line: #dfe3ea; --back: #ffffff; --card: #f6f7f9;
  --mark: #2350c4; --bar: #9db8ee; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9f0; --pale: #a0a8b8; --line: #333a48; --back: #14171d;
  --card: #1c2029; --mark: #8fb2ff; --bar: #36538f; } }
* { box-sizing: border-box; }
html { scroll-behavior: smooth; }
@media (prefers-reduced-motion: reduce) { html { scroll-behavior: auto; } }
body { margin: 0; background: var(--back); color: var(--ink); font: 15px/1.5 system-ui, "Segoe UI", Roboto,
  "Helvetica Neue", "DejaVu Sans", sans-serif; }
header, main { max-width: 1080px; margin: 0 auto; padding: 0 20px; }
header { padding-top: 28px; }
h1 { font-size: 28px; line-height: 1.2; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 19px; margin: 40px 0 10px; padding-bottom: 4px; border-bottom: 1px solid var(--line); }
p { margin: 6px 0; max-width: 75ch; }
.pale, figcaption, .facts { color: var(--pale); font-size: 13px; overflow-wrap: anywhere; }
a { color: var(--mark); text-underline-offset: 2px; }
:focus-visible { outline: 3px solid var(--mark); outline-offset: 2px; border-radius: 3px; }
nav { display: flex; flex-wrap: wrap; gap: 4px 18px; margin-top: 10px; font-size: 14px; }
figure { margin: 0; min-width: 0; }
img { display: block; max-width: 100%; height: auto; }
.row { display: flex; flex-wrap: wrap; gap: 14px; }
.row figure { width: 168px; }
.row img { width: 168px; border-radius: 3px; }
.pixels { image-rendering: pixelated; }
.two { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 300px), 1fr)); gap: 28px; }
.two img { width: min(100%, 336px); border-radius: 3px; }
ol.top { list-style: none; margin: 6px 0 14px; padding: 0; max-width: 460px; }
ol.top li { display: grid; grid-template-columns: 1fr 4.6em; gap: 0 10px; margin-bottom: 7px; overflow-wrap: anywhere; }
ol.top span:nth-child(2) { text-align: right; font-variant-numeric: tabular-nums; }
ol.top i { grid-column: 1 / -1; height: 5px; border-radius: 3px; background: var(--bar); min-width: 1px; }
.scroll { overflow: auto; max-height: 32rem; border: 1px solid var(--line); border-radius: 6px; }
table { border-collapse: collapse; width: 100%; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { padding: 4px 12px; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; white-space: normal; overflow-wrap: anywhere; min-width: 11em; }
th.word, td.word { text-align: left; }
thead th { position: sticky; top: 0; background: var(--card); color: var(--pale); font-weight: 600;
  box-shadow: 0 1px 0 var(--line); }
tbody tr:nth-child(even) { background: var(--card); }
details { border: 1px solid var(--line); border-radius: 6px; margin: 0 0 10px; }
summary { padding: 8px 12px; cursor: pointer; overflow-wrap: anywhere; border-radius: 6px; }
summary:hover { background: var(--card); }
summary b { margin-right: 8px; }
summary .facts { display: inline-block; overflow-wrap: break-word; }
details[open] > summary { border-bottom: 1px solid var(--line); border-radius: 6px 6px 0 0; }
.maps { padding: 12px; }
.beside { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 290px), 1fr)); gap: 18px; }
.scale { display: grid; grid-template-columns: auto minmax(60px, 240px) auto; gap: 8px; align-items: center;
  justify-content: start; font-size: 12px; color: var(--pale); margin: 3px 0 8px; font-variant-numeric: tabular-nums; }
.scale i { height: 10px; border-radius: 2px; position: relative; }
.scale u { position: absolute; top: -2px; bottom: -2px; width: 2px; margin-left: -1px; background: var(--ink); }
footer { color: var(--pale); font-size: 12px; margin: 40px 0 30px; }
@media (max-width: 480px) { header, main { padding: 0 12px; } header { padding-top: 16px; } h1 { font-size: 23px; }
  .row { display: grid; grid-template-columns: 1fr 1fr; gap: 10px; } .row figure, .row img { width: 100%; }
  .maps { padding: 8px; } th, td { padding: 4px 8px; } }
@media print { .scroll { max-height: none; overflow: visible; } }
"""
