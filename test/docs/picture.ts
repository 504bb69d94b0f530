import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { compare, guests, monitorList, profiles } from '../../app/index.ts';
import { breakdownChart, patterns } from '../../traces/charts.ts';
import { reportStyle } from '../../traces/report-style.ts';

/** Draws the picture of the README from a run made now: `npm run picture`. */
const path = fileURLToPath(new URL('../../docs/syscalls.svg', import.meta.url));
const { report } = await compare(guests.syscalls, monitorList, { profile: profiles.nehalem });
const chart = breakdownChart(report.comparison.guests[0]!);
const size = /viewBox="0 0 (\S+) (\S+)"/.exec(chart);
if (!size) throw new Error('picture: the chart has no viewBox; look at drawing() in traces/svg.ts');
const [width, height] = [Number(size[1]), Number(size[2])];
// what the report says of drawings, without what makes them fill a page
const style = reportStyle.replaceAll('\n', '').replace('display:block;width:100%;height:auto;', '');
const space = 16;
const outer = `0 0 ${width + 2 * space} ${height + 2 * space}`;
writeFileSync(path, [
  `<svg xmlns="http://www.w3.org/2000/svg" viewBox="${outer}" width="${width + 2 * space}" height="${height + 2 * space}" font-family="system-ui, sans-serif" font-size="13">`,
  `<title>Where the cycles of the guest 'syscalls' go under each monitor</title>`,
  `<style>${style}</style>`,
  `<rect width="100%" height="100%" fill="var(--paper)"/>`,
  patterns(),
  chart.replace('<svg ', `<svg x="${space}" y="${space}" width="${width}" height="${height}" `),
  '</svg>', '',
].join('\n'));
process.stdout.write(`${path}\n`);
