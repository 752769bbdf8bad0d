// What a person would look for on the live page and in the explorer. Run by scripts/browser.sh.
import { MANAGEMENT, PICTURES, PUBLIC, becomes, check, counted, end, open, picture, text } from "./fixture.mjs";
import { accessible } from "./axe.mjs";
import { hot } from "./hot.mjs";
import { states } from "./states.mjs";

const live = await open(`${MANAGEMENT}/`);
await becomes("the page is live", async () => (await text(live, "#connection")).endsWith("live"));
check("no token is asked for", !(await live.locator("#token-form").isVisible()));

const [before, hitsBefore] = [await counted("product"), await counted("product", ["l1_hit", "l2_hit"])];
for (let at = 0; at < 40; at += 1) await fetch(`${PUBLIC}/products/${at % 4 ? 1082185 : 995242}`);
const [reads, hits] = [(await counted("product")) - before, (await counted("product", ["l1_hit", "l2_hit"])) - hitsBefore];
check(`forty reads are counted (${reads})`, reads === 40);
const shown = `${((100 * hits) / reads).toFixed(1)} %`;
await becomes(`the hit ratio of product is that of /metrics (${shown})`, async () => (await text(live, "#type-product td:nth-of-type(2)")) === shown);
await becomes("the sentence says that all is well, and the tab says it too", async () => /(No answer has been checked yet|older than promised)\. Redis up, Postgres up/.test(await text(live, "#sentence")) && (await live.title()).startsWith("✓ "));

const { price_cents } = await (await fetch(`${PUBLIC}/products/1082185`)).json();
const price = { method: "PATCH", headers: { "content-type": "application/merge-patch+json" }, body: JSON.stringify({ price_cents: price_cents + 1 }) };
check("a price is changed", (await fetch(`${PUBLIC}/products/1082185`, price)).ok);
await becomes("the change appears while one watches", async () => (await text(live, "#changes")).includes("product:1082185"));

const posts = [];
live.on("request", (request) => request.method() === "POST" && posts.push(request.url()));
await live.locator("#warm").click();
await live.locator("#sure button[value=no]").click();
await live.locator("#warm").click();
await live.locator("#sure button[value=yes]").click();
await becomes("warming says what it warmed", async () => /^[1-9][\d,]* entries warmed/.test(await text(live, "#done")));
check("without a yes nothing was asked for", posts.length === 1);
await live.locator("#key-name").fill("product:1082185");
await live.locator("#key-form button", { hasText: "Look up" }).click();
await becomes("a key is looked up: the page says which entry may be served, and why", async () => (await text(live, "#key-verdict")).includes("answered by the entry in memory: it may be served, because"));
await becomes("Redis and Postgres are beside it", async () => (await text(live, "#tier-l2")).includes("served, because") && (await text(live, "#tier-ledger")).includes("version"));
await live.locator("#change").click();
await becomes("a price is changed, and each instance says when it stopped serving the old one", async () => {
  const rows = await live.locator("#race-rows li").allInnerTexts();
  return rows.length === 2 && rows.some((row) => row.includes("it wrote")) && rows.some((row) => /after [\d.]+ m?s/.test(row));
});
await live.locator("#pattern").selectOption("product");
await live.locator("#invalidate-form button").click();
await live.locator("#sure button[value=yes]").click();
await becomes("a pattern is invalidated, and that appears", async () => (await text(live, "#changes")).includes("product:*"));
check("the policies are there", (await live.locator("#policies tr").count()) === 5);
await becomes("both instances are there, and ready", async () => (await live.locator("#instances tr").count()) === 2 && (await text(live, "#instances")).match(/\bready\b/g).length === 2);
await accessible(live, "the live page");
await picture(live, "live");
const again = await open(`${MANAGEMENT}/`);
await becomes("a page that is opened later has what was before, with its events", async () => {
  await again.locator("summary", { hasText: "As a table" }).click();
  return /entries warmed/.test(await again.locator("#events").textContent()) && /product invalidated/.test(await again.locator("#events").textContent());
});
await again.close();

const phone = await open(`${MANAGEMENT}/`, { viewport: { width: 390, height: 844 }, colorScheme: "dark" });
await becomes("on a phone it is live too", async () => (await text(phone, "#connection")).endsWith("live"));
const width = await phone.evaluate(() => document.documentElement.scrollWidth);
check(`on a phone nothing sticks out (${width} of 390 pixels)`, width <= 390);
await phone.keyboard.press("Tab");
check("the keyboard reaches it", await phone.evaluate(() => document.activeElement !== document.body));
await accessible(phone, "a phone in the dark");
await picture(phone, "phone");

const explorer = await open(`${PUBLIC}/docs/`);
await becomes("the explorer lists the routes", async () => (await explorer.locator(".opblock").count()) > 10);
await explorer.screenshot({ path: `${PICTURES}/explorer.png` });
await hot(explorer);

await states(live);
await end();
