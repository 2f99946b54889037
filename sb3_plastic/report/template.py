"""The HTML file around a document: its head, and how it looks, light, dark, on a phone and on paper."""

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
{css}</style>
</head>
<body>
<h1>{title}</h1>
{contents}
{body}
</body>
</html>
"""

CSS = """:root { color-scheme: light dark;
  --ink: #1a1a1a; --paper: #fff; --line: #d0d0d0; --shade: #f3f3f3; --link: #0059a8; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e4e4; --paper: #16181c; --line: #444; --shade: #23262b; --link: #7db8f0; }
  img:not(.photo) { filter: invert(.91) hue-rotate(180deg); } /* dark paper, and hues as they were */
}
body { max-width: 68rem; margin: 2rem auto; padding: 0 1rem; font: 16px/1.5 system-ui, sans-serif;
  color: var(--ink); background: var(--paper); }
h2 { margin-top: 2.5rem; line-height: 1.25; border-bottom: 1px solid var(--line); }
a { color: var(--link); } nav { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; }
.wide { overflow-x: auto; margin-top: .5rem; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--line); text-align: left; }
th { background: var(--shade); vertical-align: bottom; }
td { white-space: nowrap; } .long { white-space: normal; } .number { text-align: right; }
code, pre { font: .875em/1.4 ui-monospace, monospace; background: var(--shade); }
code { padding: .1em .25em; overflow-wrap: anywhere; }
pre { padding: .75rem; overflow-x: auto; } pre code { padding: 0; overflow-wrap: normal; }
figure { margin: 1.5rem 0; }
figcaption { font-size: .875rem; }
img { max-width: 100%; height: auto; background: #fff; padding: .5rem; box-sizing: border-box; } /* drawn in black */
.pictures { display: grid; grid-template-columns: repeat(auto-fit, minmax(14rem, 1fr)); gap: .75rem; }
.pictures figure { margin: 0; max-width: 26rem; }
img.photo { padding: 0; width: 100%; filter: none; border-radius: .25rem; }
@media (max-width: 44rem) { img.page { max-width: none; width: 44rem; } } /* scrolled rather than illegible */
details { margin: 1rem 0; } summary { cursor: pointer; font-weight: 600; }
@media print {
  :root { --ink: #000; --paper: #fff; --line: #bbb; --shade: #f3f3f3; --link: #000; }
  img { filter: none; } img.page { max-width: 100%; width: auto; }
  body { max-width: none; margin: 0; font-size: 9pt; } table { font-size: 6.5pt; } th, td { padding: .1rem .25rem; }
  img, tr { break-inside: avoid; }
  h2, h3, h4 { break-after: avoid; } nav { display: none; }
}
"""
