/**
 * Style of the HTML report. Series and parts keep their colour in light and dark; markers, hatching and labels say the
 * same without colour. On paper it is always light.
 */
const light = `--paper:#fff;--ink:#1b1f24;--soft:#59636e;--faint:#d5dae0;--band:#f4f6f8;
--s0:#1b1f24;--s1:#b8450b;--s2:#0b62a8;--s3:#0a7f5a;--s4:#8a3b97;--s5:#7a6200;
--guest:#b9c7d6;--translation:#f5c66b;--translation-ink:#8f5b00;--events:#d9ecf9;--events-ink:#2176ae;--transitions:#f0a07a;--transitions-ink:#a33a06;--monitor:#2b4c7e;--idle:#fff;--idle-ink:#8c959f;
--in-guest:#1b1f24;--in-monitor:#fff;`;

const dark = `--paper:#14181d;--ink:#e6eaef;--soft:#a0abb7;--faint:#343c46;--band:#1c2229;
--s0:#e6eaef;--s1:#ff9a62;--s2:#6db7f5;--s3:#4fd0a2;--s4:#d79be2;--s5:#dcc35a;
--guest:#4a5a6b;--translation:#8f6413;--translation-ink:#f5c66b;--events:#24445c;--events-ink:#8cc8ef;--transitions:#8a3a12;--transitions-ink:#ffb08a;--monitor:#9dbcec;--idle:#14181d;--idle-ink:#8c959f;
--in-guest:#fff;--in-monitor:#14181d;`;

const series = ['', '', '7 3', '2 2.5', '9 3 2 3', '1 4'].map((dash, i) => `.line.s${i}{stroke:var(--s${i});${dash ? `stroke-dasharray:${dash};` : ''}}
.m.s${i},.f.s${i}{fill:var(--s${i})}.ring.s${i},.stem.s${i}{stroke:var(--s${i})}`).join('\n');

const parts = `.bg-guest{fill:var(--guest)}.bg-translation{fill:var(--translation)}.bg-events{fill:var(--events)}.bg-transitions{fill:var(--transitions)}.bg-monitor{fill:var(--monitor)}.bg-idle{fill:var(--idle)}
.ink-translation{stroke:var(--translation-ink)}.ink-transitions{stroke:var(--transitions-ink)}.ink-idle{stroke:var(--idle-ink)}.dot-events{fill:var(--events-ink)}
.ink-translation,.ink-transitions,.ink-idle{stroke-width:1.2;fill:none}`;

export const reportStyle = `
:root{color-scheme:light dark;${light}}
@media screen and (prefers-color-scheme:dark){:root{${dark}}}
*{box-sizing:border-box}
body{margin:0 auto;padding:2.5rem 1.5rem 4rem;max-width:76rem;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI","Liberation Sans","DejaVu Sans",Arial,sans-serif}
h1{margin:0;font-size:2rem;line-height:1.2;letter-spacing:-.01em}
h2{margin:3.5rem 0 .5rem;padding-bottom:.3rem;border-bottom:2px solid var(--ink);font-size:1.4rem}
h3{margin:2.2rem 0 .4rem;font-size:1.05rem}
p{margin:.5rem 0}
.lead{max-width:46rem;color:var(--soft);font-size:1.05rem}
.what{color:var(--soft);font-size:.9rem}
.tiles{display:flex;flex-wrap:wrap;gap:.75rem 2.5rem;margin:1.5rem 0 0}
.tiles div{display:flex;flex-direction:column;padding-left:.8rem;border-left:3px solid var(--ink)}
.tiles strong{font-size:1.7rem;line-height:1.2;font-variant-numeric:tabular-nums}
.tiles span{color:var(--soft)}
nav ul{display:flex;flex-wrap:wrap;gap:.25rem 1.2rem;margin:1.5rem 0 0;padding:.6rem 0;list-style:none;border-block:1px solid var(--faint)}
a{color:var(--s2)}
.notes{margin:.8rem 0;padding:.6rem 1rem .6rem 2rem;background:var(--band);border-left:3px solid var(--soft)}
.notes li{overflow-wrap:anywhere}
figure{margin:1rem 0 1.5rem}
figcaption{margin-top:.3rem;color:var(--soft);font-size:.87rem;max-width:50rem}
svg{display:block;width:100%;height:auto;font:12px system-ui,-apple-system,"Segoe UI","Liberation Sans","DejaVu Sans",Arial,sans-serif;font-variant-numeric:tabular-nums}
svg.defs{position:absolute;width:0;height:0}
svg text{fill:var(--ink)}
svg .tick{fill:var(--soft);font-size:11px}
svg .value,svg .name{stroke:var(--paper);stroke-width:3px;paint-order:stroke}
svg .in{font-size:11px;font-weight:600;stroke:var(--paper);stroke-width:3px;paint-order:stroke}
svg .in-guest{stroke:none;fill:var(--in-guest)}
svg .in-monitor{stroke:none;fill:var(--in-monitor)}
.grid,.lane,.leader{fill:none;stroke:var(--faint);stroke-width:1}
.axis{fill:none;stroke:var(--soft);stroke-width:1}
.line{fill:none;stroke-width:2;stroke-linejoin:round}
.ring{fill:var(--paper);stroke-width:1.8}
.stem{fill:none;stroke-width:1.2;opacity:.55}
.segment{stroke:var(--ink);stroke-width:.6}
${series}
${parts}
.wide{overflow-x:auto;margin:1rem 0 1.4rem}
table{border-collapse:collapse;border-top:1.5px solid var(--ink);border-bottom:1.5px solid var(--ink);font-size:.84rem;font-variant-numeric:tabular-nums}
caption{padding-bottom:.35rem;text-align:left;font-weight:600;white-space:nowrap}
th,td{padding:.28rem .55rem;text-align:left;vertical-align:top}
th:first-child,td:first-child{padding-left:.2rem}
th{border-bottom:1px solid var(--ink);font-weight:600;vertical-align:bottom}
.n{text-align:right;white-space:nowrap}
tbody tr:nth-child(even){background:var(--band)}
td:first-child,td:last-child,th:last-child{white-space:nowrap}
td.long{white-space:normal;min-width:18rem}
td:nth-child(2){white-space:nowrap}
tr.total td{border-top:1px solid var(--ink);font-weight:600}
tr.first td{border-top:1px solid var(--faint)}
td.again{color:transparent;user-select:none}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.3rem 1.2rem;font-size:.92rem}
dt{font-weight:600}
dd{margin:0;overflow-wrap:anywhere}
summary{cursor:pointer;margin-top:1rem}
@media (max-width:40rem){dl{grid-template-columns:1fr}dd{margin-bottom:.5rem}}
@media print{
:root{color-scheme:light}
body{max-width:none;padding:0;font-size:10pt}
nav{display:none}
h2,h3,caption{break-after:avoid}
figure,tr,.tiles,.notes li{break-inside:avoid}
section.guest{break-before:page}
.wide{overflow:visible}
table{font-size:8pt}
th,td{padding:.15rem .4rem}
thead{display:table-header-group}
*{print-color-adjust:exact;-webkit-print-color-adjust:exact}
}
`;
