// What axe-core finds on a page as it stands: its rules for WCAG and its best practices.
import { readFileSync } from "node:fs";
import { check } from "./fixture.mjs";

const source = readFileSync(process.env.AXE, "utf8");

export async function accessible(page, name) {
  // Through the debugger's protocol, because the page's policy refuses other scripts.
  await page.evaluate(source);
  const { violations, passes } = await page.evaluate(() => globalThis.axe.run(document));
  for (const { id, help, nodes } of violations) console.log(`      ${id}: ${help} (${nodes.map(({ target }) => target.join(" ")).join(", ")})`);
  check(`axe finds nothing on ${name} (${passes.length} rules hold)`, violations.length === 0);
}
