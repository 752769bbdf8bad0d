// What a person would look for on the live page and in the explorer. Run by scripts/browser.sh, which names all of these.
const { PUBLIC, MANAGEMENT, BROWSER, PICTURES, PLAYWRIGHT } = process.env;
const { chromium } = await import(PLAYWRIGHT);

const browser = await chromium.launch({ executablePath: BROWSER, args: ["--no-sandbox"] });
const wrong = [];
const check = (what, holds) => {
  console.log(`${holds ? "ok   " : "WRONG"} ${what}`);
  if (!holds) wrong.push(what);
};

// A page that complains, or asks another host for anything, is wrong.
async function open(address, options = {}) {
  const page = await browser.newPage({ viewport: { width: 1200, height: 900 }, ...options });
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && check(`no complaint: ${message.text()}`, false));
  page.on("pageerror", (error) => check(`no error: ${error}`, false));
  page.on("request", (request) => {
    const own = [PUBLIC, MANAGEMENT].some((host) => request.url().startsWith(`${host}/`)) || /^(data|blob):/.test(request.url());
    if (!own) check(`no other host: ${request.url()}`, false);
  });
  await page.goto(address);
  return page;
}

const text = (page, selector) => page.locator(selector).innerText();
async function becomes(what, holds) {
  const end = Date.now() + 15_000;
  while (!(await holds())) {
    if (Date.now() > end) return check(what, false);
    await new Promise((later) => setTimeout(later, 100));
  }
  check(what, true);
}

// How often reads of a pattern had one of these outcomes, as Prometheus is told.
async function counted(pattern, outcomes) {
  const lines = (await (await fetch(`${MANAGEMENT}/metrics`)).text()).split("\n");
  const own = lines.filter((line) => line.startsWith("cache_requests_total{") && line.includes(`pattern="${pattern}"`));
  return own.filter((line) => !outcomes || outcomes.some((one) => line.includes(`outcome="${one}"`))).reduce((sum, line) => sum + Number(line.split(" ").at(-1)), 0);
}

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

await live.locator("#warm").click();
await live.locator("#sure button[value=no]").click();
check("without a yes nothing is done", (await text(live, "#done")) === "");
await live.locator("#warm").click();
await live.locator("#sure button[value=yes]").click();
await becomes("warming says what it warmed", async () => /"warmed":\d+/.test(await text(live, "#done")));
await live.locator("#entry-name").fill("product:1082185");
await live.locator("#entry-form button").click();
await becomes("a key is looked up", async () => (await text(live, "#done")).includes('"name":"product:1082185"'));
await live.locator("#pattern").selectOption("product");
await live.locator("#invalidate-form button").click();
await live.locator("#sure button[value=yes]").click();
await becomes("a pattern is invalidated, and that appears", async () => (await text(live, "#changes")).includes("product:*"));
check("the policies are there", (await live.locator("#policies tr").count()) === 5);
await live.screenshot({ path: `${PICTURES}/live.png`, fullPage: true });

const phone = await open(`${MANAGEMENT}/`, { viewport: { width: 390, height: 844 }, colorScheme: "dark" });
await becomes("on a phone it is live too", async () => (await text(phone, "#connection")) === "live");
const width = await phone.evaluate(() => document.documentElement.scrollWidth);
check(`on a phone nothing sticks out (${width} of 390 pixels)`, width <= 390);
await phone.keyboard.press("Tab");
check("the keyboard reaches it", await phone.evaluate(() => document.activeElement !== document.body));
await phone.screenshot({ path: `${PICTURES}/phone.png`, fullPage: true });

const explorer = await open(`${PUBLIC}/docs/`);
await becomes("the explorer lists the routes", async () => (await explorer.locator(".opblock").count()) > 10);
await explorer.screenshot({ path: `${PICTURES}/explorer.png` });

await browser.close();
console.log(wrong.length ? `${wrong.length} wrong` : "All is as it should be.");
process.exit(wrong.length ? 1 : 0);
