// What walks through the pages have in common. The variables are named by scripts/browser.sh.
import { connect } from "node:net";

export const { PUBLIC, MANAGEMENT, REDIS_URL, BROWSER, PICTURES, PLAYWRIGHT } = process.env;
const { chromium } = await import(PLAYWRIGHT);
const browser = await chromium.launch({ executablePath: BROWSER, args: ["--no-sandbox"] });

const wrong = [];
export const check = (what, holds) => {
  console.log(`${holds ? "ok   " : "WRONG"} ${what}`);
  if (!holds) wrong.push(what);
};

// A page that complains, or asks another host for anything, is wrong.
export async function open(address, options = {}) {
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

export const text = (page, selector) => page.locator(selector).innerText();
export async function becomes(what, holds) {
  const end = Date.now() + 15_000;
  while (!(await holds())) {
    if (Date.now() > end) return check(what, false);
    await new Promise((later) => setTimeout(later, 100));
  }
  check(what, true);
}

// How often reads of a pattern had one of these outcomes, as Prometheus is told.
export async function counted(pattern, outcomes) {
  const lines = (await (await fetch(`${MANAGEMENT}/metrics`)).text()).split("\n");
  const own = lines.filter((line) => line.startsWith("cache_requests_total{") && line.includes(`pattern="${pattern}"`));
  return own.filter((line) => !outcomes || outcomes.some((one) => line.includes(`outcome="${one}"`))).reduce((sum, line) => sum + Number(line.split(" ").at(-1)), 0);
}

export const picture = (page, name) => page.screenshot({ path: `${PICTURES}/${name}.png`, fullPage: true });

// Clients who read and now and then change what is popular, until they are told to stop; then the statuses that they saw, by how often.
export async function load(clients) {
  const items = async (path) => (await (await fetch(PUBLIC + path)).json()).items;
  const any = (list) => list[Math.floor(list.length * Math.random() ** 3)];
  const products = await items("/products/top?limit=100");
  const customers = [];
  for (let id = 1; customers.length < 50; id += 1) {
    const orders = await items(`/orders?customer_id=${id}`);
    if (orders.length) customers.push(orders);
  }
  const seen = {};
  let going = true;
  const client = async () => {
    while (going) {
      const [product, order] = [any(products), any(any(customers))];
      const paths = [`/products/${product.id}`, `/products/${product.id}`, "/products?limit=20", `/orders/${order.id}`, `/orders?customer_id=${order.customer_id}`];
      const path = any(paths);
      const write = path.startsWith("/products/") && Math.random() < 0.005;
      const change = { method: "PATCH", headers: { "content-type": "application/json" }, body: JSON.stringify({ stock: Math.floor(1000 * Math.random()) }) };
      const { status } = await fetch(PUBLIC + path, write ? change : {});
      seen[status] = (seen[status] ?? 0) + 1;
      await new Promise((later) => setTimeout(later, 2));
    }
  };
  const all = Promise.all(Array.from({ length: clients }, client));
  return async () => { going = false; await all; return seen; };
}

// One command for Redis, and its answer as text.
export function redis(...words) {
  const { hostname, port, password } = new URL(REDIS_URL);
  const encode = (parts) => `*${parts.length}\r\n${parts.map((part) => `$${Buffer.byteLength(part)}\r\n${part}\r\n`).join("")}`;
  const login = password ? encode(["AUTH", decodeURIComponent(password)]) : "";
  return new Promise((answer, failed) => {
    const line = connect(Number(port || 6379), hostname, () => line.end(login + encode(words.map(String))));
    let said = "";
    line.setEncoding("utf8").on("data", (part) => { said += part; }).on("error", failed).on("close", () => answer(said));
  });
}

export async function end() {
  await browser.close();
  console.log(wrong.length ? `${wrong.length} wrong` : "All is as it should be.");
  process.exit(wrong.length ? 1 : 0);
}
