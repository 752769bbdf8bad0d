// The live page while much is asked, while Redis fills, and without Redis.
import { accessible } from "./axe.mjs";
import { becomes, check, load, picture, redis, text } from "./fixture.mjs";

export async function states(live) {
  const stop = await load(8);
  await becomes("under load every pattern that is asked for has a hit ratio", async () => (await text(live, "#types")).match(/%/g)?.length >= 4);
  await new Promise((later) => setTimeout(later, 10_000)); // for the lines of the picture
  await picture(live, "load");

  await redis("CONFIG", "SET", "maxmemory-policy", "allkeys-lfu");
  const redisLine = live.locator("#memory li", { hasText: "Redis" });
  for (const [part, state, name] of [[0.78, "warning", "memory-70"], [0.9, "critical", "memory-85"], [0.3, "normal", null]]) {
    const used = Number(/used_memory:(\d+)/.exec(await redis("INFO", "memory"))[1]);
    await redis("CONFIG", "SET", "maxmemory", Math.round(used / part));
    await becomes(`with ${100 * part} % of Redis' memory in use the page says ${state}`, async () => (await redisLine.innerText()).trim().endsWith(`%, ${state}`));
    if (name) await picture(live, name);
  }

  await redis("SHUTDOWN", "NOSAVE");
  await becomes("without Redis the page says so, and that nothing failed", async () => /^Redis is unreachable .*: 0 reads failed/.test(await text(live, "#sentence")) && (await live.title()).startsWith("! Redis down"));
  check("the box of Redis says so too", (await text(live, "#flow-l2")).includes("down, skipped"));
  await accessible(live, "the page without Redis");
  await becomes("and so does the other instance of itself", async () => /degraded/.test(await live.locator("#instances tr", { hasText: "second" }).innerText()));
  await picture(live, "redis-down");
  const seen = await stop();
  check(`every request was answered (${JSON.stringify(seen)})`, seen[200] > 1000 && Object.keys(seen).length === 1);
}
