# SPDX-License-Identifier: Apache-2.0
"""The report's style sheet: readable on light and dark, wide and narrow."""

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #ffffff; --ink: #1c1e21; --quiet: #5a6068; --line: #d7dade;
  --mark: #e3f0fb; --good: #0b6b3a; --accent: #0072b2;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #16181b; --ink: #e8e9eb; --quiet: #a4abb3; --line: #3a3f45;
    --mark: #16344c; --good: #6fd8a0; --accent: #6cbdf0;
  }
}
body {
  max-width: 74rem; margin: 0 auto; padding: 1rem 1.25rem 4rem;
  background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif;
}
h1 { font-size: 1.8rem; line-height: 1.2; }
h2 { margin-top: 3rem; border-bottom: 1px solid var(--line); }
h4 { margin: 0.4rem 0 0.2rem; font-size: 0.8rem; color: var(--quiet); }
small { font-size: 0.75rem; color: var(--quiet); font-weight: normal; }
.finding {
  padding: 0.7rem 1rem; border-left: 4px solid var(--accent);
  background: var(--mark);
}
.how, figcaption { color: var(--quiet); font-size: 0.9rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td {
  padding: 0.35rem 0.7rem; border-bottom: 1px solid var(--line);
  text-align: right; vertical-align: top;
}
thead th { vertical-align: bottom; font-size: 0.85rem; }
tr > th:first-child {
  text-align: left; font-weight: normal; white-space: nowrap;
}
td small, thead small { display: block; white-space: nowrap; }
td.none { color: var(--quiet); }
tr.headline > * { background: var(--mark); }
tr.headline > th:first-child { font-weight: 600; }
tr.native > * { font-style: italic; }
figure { margin: 1rem 0; }
figure > svg { max-width: 100%; height: auto; }
figure.wide > svg { max-width: none; }
details { margin: 1rem 0; }
summary { cursor: pointer; color: var(--accent); }
dt { font-weight: 600; }
dd { margin: 0 0 0.5rem 1rem; }
.item {
  display: grid; grid-template-columns: 6.5rem 29rem minmax(14rem, 1fr);
  gap: 0.5rem 1.5rem; padding: 0.8rem 0; border-bottom: 1px solid var(--line);
}
@media (max-width: 50rem) { .item { grid-template-columns: 1fr; } }
.strip { display: flex; flex-wrap: wrap; gap: 0.5rem; }
.picture { width: 5.2rem; margin: 0; text-align: center; }
.picture img { background: #ffffff; border-radius: 6px; padding: 3px; }
.picture figcaption { font-size: 0.72rem; line-height: 1.2; overflow-wrap: anywhere; }
.picture small { display: block; }
ol { margin: 0; padding-left: 1.4rem; font-size: 0.9rem; }
li.correct { color: var(--good); font-weight: 600; }
pre {
  overflow-x: auto; padding: 0.7rem; border: 1px solid var(--line);
  font-size: 0.8rem;
}
"""
