// The browser's own cache answers a hot product for the seconds that Cache-Control promises, however long ago Postgres was read. The
// metrics of the service show how many requests reached it.
import { MANAGEMENT, PUBLIC, check } from "./fixture.mjs";

const PATH = "/products/1082185";
const FETCHES = 20;
const PROMISED_SECONDS = 5;

// How many reads of a product the service has answered.
async function answered() {
  const lines = (await (await fetch(`${MANAGEMENT}/metrics`)).text()).split("\n");
  const own = lines.filter((line) => line.startsWith("http_requests_total{") && line.includes('route="/products/{id}"'));
  return own.reduce((sum, line) => sum + Number(line.split(" ").at(-1)), 0);
}

export async function hot(page) {
  // Waits until Postgres was read longer ago than the browser may keep the answer.
  for (let age = 0; age <= PROMISED_SECONDS; ) {
    await new Promise((later) => setTimeout(later, 500));
    const { headers } = await fetch(PUBLIC + PATH);
    age = Number(/aside-read-age=(\d+)/.exec(headers.get("cache-status"))?.[1] ?? headers.get("age"));
  }
  const [before, begun] = [await answered(), Date.now()];
  const read = async ([path, fetches]) => {
    let ok = 0;
    for (let at = 0; at < fetches; at += 1) {
      ok += (await fetch(path)).ok;
      await new Promise((later) => setTimeout(later, 200));
    }
    return ok;
  };
  const ok = await page.evaluate(read, [PATH, FETCHES]);
  const [sent, seconds] = [(await answered()) - before, (Date.now() - begun) / 1000];
  const most = 1 + Math.floor(seconds / PROMISED_SECONDS);
  check(`${FETCHES} fetches of a hot product in ${seconds.toFixed(1)} s, ${ok} well: ${sent} reached the service (at most ${most})`, ok === FETCHES && sent <= most);
}
