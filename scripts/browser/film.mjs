// The story of the live page in pictures: all is well, Redis is killed, Redis is back. The colour of Redis vanishes and the height stays,
// which is checked. Each picture is taken light and dark at the same moment. Run by scripts/demo.sh.
import { MANAGEMENT, PICTURES, becomes, check, end, load, open, text } from "./fixture.mjs";

const SECONDS = Number(process.env.FILM_SECONDS || 20); // of each scene
const size = { viewport: { width: 1200, height: 800 } };
const pages = { light: await open(`${MANAGEMENT}/`, size), dark: await open(`${MANAGEMENT}/`, { ...size, colorScheme: "dark" }) };
const scene = (seconds) => new Promise((later) => setTimeout(later, 1000 * seconds));
const headline = () => text(pages.light, "#sentence");
const picture = async (name) => {
  for (const [scheme, page] of Object.entries(pages)) await page.screenshot({ path: `${PICTURES}/${name}-${scheme}.png` });
};
// Reads a second by source, as the legend shows them.
async function rates() {
  const items = await pages.light.locator("#legend li").allInnerTexts();
  return Object.fromEntries(items.map((item) => { const [, name, rate] = /^(.*\S)\s+([\d,.]+)\/s$/s.exec(item.trim()); return [name, Number(rate.replaceAll(",", ""))]; }));
}
const sum = (of) => Object.values(of).reduce((a, b) => a + b, 0);

const stop = await load(Number(process.env.FILM_CLIENTS || 8));
await becomes("the page says that all is well", async () => /^0 of [\d,]+ checked answers older than promised\. Redis up, Postgres up/.test(await headline()));
await scene(SECONDS);
const before = await rates();
check(`Redis answers a part (${before.Redis}/s)`, before.Redis > 0);
await picture("all-is-well");

// The script that started Redis acts on these lines.
console.log("kill Redis");
await becomes("Redis is killed: the page says since when", async () => /^Redis is unreachable (since now|for \d+ s): 0 reads failed/.test(await headline()));
await scene(SECONDS);
const without = await rates();
check(`its colour vanishes (${without.Redis}/s)`, without.Redis === 0);
check(`the height stays (${sum(before).toFixed(0)}/s before, ${sum(without).toFixed(0)}/s now)`, sum(without) > 0.4 * sum(before));
check("no read failed", without.failed === 0);
await picture("redis-is-killed");

console.log("restart Redis");
await becomes("Redis is back: the page says so", async () => (await headline()).includes("Redis up, Postgres up"));
await becomes("and it answers again", async () => (await rates()).Redis > 0);
await scene(SECONDS);
await picture("redis-is-back");

await pages.light.locator("#change").click();
await becomes("a price is changed, and each instance says when it stopped serving the old one", async () => {
  const rows = await pages.light.locator("#race-rows li").allInnerTexts();
  return rows.length > 1 && rows.some((row) => row.includes("it wrote")) && rows.some((row) => /after [\d.]+ m?s/.test(row));
});
await pages.dark.close();
await pages.light.locator("#key-title").scrollIntoViewIfNeeded();
await pages.light.locator("section:has(> #key-title)").screenshot({ path: `${PICTURES}/a-change.png` });
const seen = await stop();
check(`every request was answered (${JSON.stringify(seen)})`, seen[200] > 1000 && Object.keys(seen).length === 1);
await end();
