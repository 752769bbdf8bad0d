// What a person would look for on the live page and in the explorer. Run by scripts/browser.sh.
import { MANAGEMENT, PICTURES, PUBLIC, becomes, check, counted, end, open, picture, text } from "./fixture.mjs";
import { hot } from "./hot.mjs";
import { states } from "./states.mjs";

const live = await open(`${MANAGEMENT}/`);
await becomes("the page is live", async () => (await text(live, "#connection")) === "live");
check("no token is asked for", !(await live.locator("#token-form").isVisible()));

const [before, hitsBefore] = [await counted("product"), await counted("product", ["l1_hit", "l2_hit"])];
for (let at = 0; at < 40; at += 1) await fetch(`${PUBLIC}/products/${at % 4 ? 1082185 : 995242}`);
const [reads, hits] = [(await counted("product")) - before, (await counted("product", ["l1_hit", "l2_hit"])) - hitsBefore];
check(`forty reads are counted (${reads})`, reads === 40);
const shown = `${((100 * hits) / reads).toFixed(1)} %`;
await becomes(`the hit ratio of product is that of /metrics (${shown})`, async () => (await text(live, "#pattern-product td:nth-of-type(2)")) === shown);

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
await becomes("warming says what it warmed", async () => /"warmed":[1-9]/.test(await text(live, "#done")));
check("without a yes nothing was asked for", posts.length === 1);
await live.locator("#entry-name").fill("product:1082185");
await live.locator("#entry-form button").click();
await becomes("a key is looked up", async () => (await text(live, "#done")).includes('"served":true'));
await live.locator("#pattern").selectOption("product");
await live.locator("#invalidate-form button").click();
await live.locator("#sure button[value=yes]").click();
await becomes("a pattern is invalidated, and that appears", async () => (await text(live, "#changes")).includes("product:*"));
check("the policies are there", (await live.locator("#policies tr").count()) === 5);
await becomes("both instances are there, and ready", async () => (await live.locator("#instances tr").count()) === 2 && (await text(live, "#instances")).match(/\bready\b/g).length === 2);
await picture(live, "live");

const phone = await open(`${MANAGEMENT}/`, { viewport: { width: 390, height: 844 }, colorScheme: "dark" });
await becomes("on a phone it is live too", async () => (await text(phone, "#connection")) === "live");
const width = await phone.evaluate(() => document.documentElement.scrollWidth);
check(`on a phone nothing sticks out (${width} of 390 pixels)`, width <= 390);
await phone.keyboard.press("Tab");
check("the keyboard reaches it", await phone.evaluate(() => document.activeElement !== document.body));
await picture(phone, "phone");

const explorer = await open(`${PUBLIC}/docs/`);
await becomes("the explorer lists the routes", async () => (await explorer.locator(".opblock").count()) > 10);
await explorer.screenshot({ path: `${PICTURES}/explorer.png` });
await hot(explorer);

await states(live);
await end();
