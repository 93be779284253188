"""The one style sheet of the report: light, dark, phone, print. Nothing is loaded from anywhere."""

CSS = """
:root{color-scheme:light dark;--bg:#fff;--fg:#1b1f24;--dim:#59626d;--rule:#d7dbe0;--soft:#f3f5f7;--theory:#1f5fa8;
--certified:#b35900;--estimate:#7a4fa3;--bad:#b3261e;--weak:#8a6d00;--c0:#b35900;--c1:#7a4fa3;--c2:#00707a;--c3:#a0316b;
--c4:#4d5b00;--beyond:#1f5fa81f}
@media (prefers-color-scheme:dark){:root{--bg:#14171b;--fg:#e5e8eb;--dim:#9ca6b1;--rule:#39414a;--soft:#1e2329;
--theory:#7fb4f2;--certified:#f0a45c;--estimate:#c6a0ea;--bad:#ff8d84;--weak:#e0c15a;--c0:#f0a45c;--c1:#c6a0ea;
--c2:#5cc7d1;--c3:#f08bbd;--c4:#bccb5c;--beyond:#7fb4f22e}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--fg);font:16px/1.5 system-ui,-apple-system,"Segoe UI","Noto Sans",
"Noto Sans CJK SC","PingFang SC","Microsoft YaHei",sans-serif;overflow-wrap:anywhere}
main{max-width:46rem;margin:0 auto;padding:1rem 1rem 3rem}
h1{font-size:1.5rem;line-height:1.25;margin:.5rem 0 .2rem}
h2{font-size:1.15rem;margin:2.2rem 0 .6rem;padding-bottom:.25rem;border-bottom:1px solid var(--rule)}
h3{font-size:1rem;margin:1.4rem 0 .4rem}
p{margin:.5rem 0}
.dim,figcaption{color:var(--dim);font-size:.875rem}
.big{font-size:1.45rem;font-weight:600;margin:.4rem 0;font-variant-numeric:tabular-nums}
.verdict{border-left:.35rem solid var(--dim);background:var(--soft);padding:.6rem .9rem;margin:1rem 0}
.verdict p{margin:.25rem 0}.verdict .say{font-weight:600}
.verdict.contradicted{border-color:var(--bad)}.verdict.contradicted .say{color:var(--bad)}
.verdict.weak{border-color:var(--weak)}
.warn{border-left:.35rem solid var(--weak);padding:.1rem .9rem}
.bad{color:var(--bad);font-weight:600}
.scroll{overflow-x:auto;margin:.6rem 0}
table{border-collapse:collapse;width:100%;font-size:.875rem;font-variant-numeric:tabular-nums}
th,td{text-align:left;vertical-align:top;padding:.35rem .9rem .35rem 0;border-bottom:1px solid var(--rule);
overflow-wrap:normal}
th,td:not(:last-child){word-break:keep-all}
th{font-weight:600;color:var(--dim)}td.num,th.num{text-align:right;white-space:nowrap}
dl{display:grid;grid-template-columns:minmax(9rem,18rem) 1fr;gap:.3rem 1rem;font-size:.9rem;margin:.6rem 0}
dt{color:var(--dim)}dd{margin:0}
ul{padding-left:1.2rem}li{margin:.25rem 0}
figure{margin:1rem 0;max-width:32rem}
svg{display:block;width:100%;height:auto;font-family:inherit}
svg text{fill:var(--fg);font-size:12px;paint-order:stroke;stroke:var(--bg);stroke-width:3px}
svg .tick{fill:var(--dim);font-size:11px}svg .label{font-weight:600}
svg .grid{stroke:var(--rule);stroke-width:1}svg .chance{stroke:var(--dim);stroke-dasharray:4 4;stroke-width:1.2}
svg .ceiling{fill:none;stroke:var(--theory);stroke-width:2.2}svg .beyond{fill:var(--beyond)}
svg .curve{fill:none;stroke-width:1.8}
svg .c0{stroke:var(--c0)}svg .c1{stroke:var(--c1)}svg .c2{stroke:var(--c2)}svg .c3{stroke:var(--c3)}
svg .c4{stroke:var(--c4)}
svg .theory{fill:var(--theory)}svg .certified{fill:var(--certified)}
svg .estimate{fill:url(#hatch);stroke:var(--estimate);stroke-width:1}svg .hatch{stroke:var(--estimate);stroke-width:3}
svg .reach{stroke:var(--certified);stroke-width:1.6}svg .expected{stroke:var(--fg);stroke-width:2}
@media (max-width:34rem){dl{grid-template-columns:1fr;gap:0}dd{margin:0 0 .5rem}
.stack thead{display:none}.stack tr{display:block;padding:.4rem 0;border-bottom:1px solid var(--rule)}
.stack td,.stack td.num{display:flex;justify-content:space-between;gap:1rem;text-align:right;border:0;padding:.1rem 0;
white-space:normal}.stack td::before{content:attr(data-label);color:var(--dim);text-align:left;flex:none}
.stack td:empty{display:none}.stack td:first-child{font-weight:600}
.stack td:first-child::before{content:none}th,td{padding-right:.5rem}}
@media print{:root{color-scheme:light;--bg:#fff;--fg:#000;--dim:#444;--rule:#bbb;--soft:#f3f5f7;--theory:#1f5fa8;
--certified:#b35900;--estimate:#7a4fa3;--bad:#b3261e;--weak:#8a6d00;--c0:#b35900;--c1:#7a4fa3;--c2:#00707a;--c3:#a0316b;
--c4:#4d5b00;--beyond:#1f5fa81f}
body{font-size:10.5pt;-webkit-print-color-adjust:exact;print-color-adjust:exact}main{max-width:none;padding:0}
figure{max-width:9.5cm}h2,h3{break-after:avoid}figure,tr,.verdict,li,.scroll{break-inside:avoid}.scroll{overflow:visible}}
@page{margin:1.8cm}
"""
