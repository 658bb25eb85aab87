"""The style sheet of every page: light and dark screens, narrow windows, paper."""

from drmc.pages.colors import series_css

CSS = (
    series_css()
    + """
:root { color-scheme: light dark; --ground: #f4f6f7; --card: #ffffff; --ink: #17262c; --soft: #5a6b72;
  --line: #dde4e6;
  --accent: #0f5c66; --warn-ground: #fff4dc; --warn-line: #d9970b; --warn-ink: #6b4700; --stop-ground:
  #fde8e6;
  --stop-line: #bf3328; --stop-ink: #7d1a12; --zebra: #f7f9fa; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #11181b; --card: #192226; --ink: #e4ecee; --soft: #9db0b6; --line: #2c3a3f; --accent:
  #6cc5cc;
    --warn-ground: #33290f; --warn-line: #c78f1c; --warn-ink: #f3d797; --stop-ground: #3a1c19; --stop-line:
  #d65a4e;
    --stop-ink: #f6bdb6; --zebra: #1d282c; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 0 20px 48px; }
.research { background: #0f5c66; color: #fff; text-align: center; font-weight: 650; letter-spacing: 0.02em;
  padding: 7px 16px; }
header.page { padding: 26px 0 6px; }
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 6px; overflow-wrap: anywhere; }
h2 { font-size: 18px; margin: 0 0 12px; color: var(--accent); }
h3 { font-size: 14px; margin: 22px 0 8px; }
.lead { font-size: 16px; max-width: 76ch; margin: 8px 0 0; }
.stamp, .note, figcaption { color: var(--soft); font-size: 13.5px; }
.note { max-width: 88ch; margin: 8px 0; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 20px 22px;
  margin-top: 16px; }
.box { border: 1px solid; border-left-width: 5px; border-radius: 6px; padding: 9px 14px; margin: 8px 0;
  overflow-wrap: anywhere; }
.box ul { margin: 0; padding-left: 18px; } .box p { margin: 0; }
.warning { background: var(--stop-ground); border-color: var(--stop-line); color: var(--stop-ink); }
.notice { background: var(--warn-ground); border-color: var(--warn-line); color: var(--warn-ink); }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(225px, 45%), 1fr)); gap: 10px 24px;
  margin: 0; }
dt { color: var(--soft); font-size: 12.5px; } dd { margin: 0; overflow-wrap: anywhere; }
.trio { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: 6px 16px; justify-items:
  center; }
.panel { margin: 0; width: 100%; } .panel figcaption { text-align: center; margin-bottom: 4px; }
.panel figcaption b { color: var(--ink); }
.frame { position: relative; margin: 0 auto; background: #fff; border: 1px solid var(--line); }
.frame img { display: block; width: 100%; height: 100%; }
.side { position: absolute; top: 3px; font: 600 12px/1 system-ui, sans-serif; color: #17262c; padding: 2px
  3px;
  background: rgba(255, 255, 255, 0.7); }
.side.left { left: 2px; } .side.right { right: 2px; }
.bar { display: grid; grid-template-columns: auto minmax(120px, 260px) auto; align-items: center; gap: 4px
  8px;
  justify-content: center; font-size: 12.5px; color: var(--soft); font-variant-numeric: tabular-nums;
  margin-top: 6px; }
.bar .ramp { height: 11px; border: 1px solid var(--line); } .bar .name { grid-column: 1 / -1; text-align:
  center; }
.bars { display: grid; grid-template-columns: 2fr 1fr; gap: 16px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: 14px; }
th { text-align: right; font-weight: 600; color: var(--soft); font-size: 12.5px; border-bottom: 1.5px solid
  var(--line);
  padding: 5px 9px; vertical-align: bottom; }
td { text-align: right; padding: 4px 9px; border-bottom: 1px solid var(--line); white-space: nowrap; }
th.text, td.text { text-align: left; } td.wrap { white-space: normal; overflow-wrap: anywhere; }
th.lesion { text-align: left; color: var(--ink); font-size: 14px; padding-top: 14px; overflow-wrap: anywhere;
  }
th.lesion span { color: var(--soft); font-weight: 400; }
tr.minor td { color: var(--soft); }
td.beyond { background: var(--warn-ground); color: var(--warn-ink); font-weight: 650; }
.chip { display: inline-block; border: 1px solid var(--warn-line); background: var(--warn-ground); color:
  var(--warn-ink);
  border-radius: 999px; padding: 1px 9px; font-size: 12.5px; font-weight: 600; }
.heatmap { display: block; width: 100%; height: auto; }
.heatmap .label { font: 12px system-ui, sans-serif; } .heatmap .strong { font-weight: 600; }
.heatmap .value { font: 600 14px system-ui, sans-serif; } .heatmap .small { font: 10.5px system-ui,
  sans-serif; }
code { font: 12.5px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; overflow-wrap: anywhere; }
details { margin-top: 12px; } summary { cursor: pointer; color: var(--accent); font-weight: 600; font-size:
  14px; }
details > :not(summary) { margin-top: 10px; }
footer { color: var(--soft); font-size: 13px; margin-top: 20px; text-align: center; }
@media (max-width: 640px) { .trio { gap: 4px 6px; } section { padding: 16px 14px; } .bars {
  grid-template-columns: 1fr; } }
@media print { body { background: #fff; font-size: 12px; } main { max-width: none; padding: 0; }
  section { border: 0; padding: 8px 0; break-inside: auto; } figure, tr, .box { break-inside: avoid; }
  .frame, .ramp, .heatmap, .research, td.beyond { print-color-adjust: exact; -webkit-print-color-adjust:
  exact; } }
"""
)
