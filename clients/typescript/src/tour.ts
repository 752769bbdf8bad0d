// What a client relies on, tried on two instances (ONE and OTHER, which has no Redis): make client.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { aside, covering, expected, Session, type Order, type Problem, type Product } from "./client.js";

function address(name: string): string {
  const value = process.env[name];
  assert(value, `${name} is not set: run make client`);
  return value;
}

const session = new Session();
const one = aside(address("ONE"), session);
const other = aside(address("OTHER"), session);

// A product that nobody else has.
const made: Product = expected(
  await one.POST("/products", {
    body: {
      name: "Tea, green", department: "GROCERY", brand: "National", category: "TEAS", type: "GREEN TEA",
      package_size: "20 CT", price_cents: 299, currency: "USD", stock: 10,
    },
  }),
);
const path = { id: made.id };

const read = await one.GET("/products/{id}", { params: { path } });
assert.equal(expected(read).price_cents, 299);
const etag = read.response.headers.get("ETag");
assert(etag);
console.log(`read: ${made.name} costs ${made.price_cents} cents, ${read.response.headers.get("Cache-Status")}`);

const unchanged = await one.GET("/products/{id}", { params: { path, header: { "If-None-Match": etag } } });
assert.equal(unchanged.response.status, 304);
console.log("read with its ETag: 304, no body");

const headers = { "Content-Type": "application/merge-patch+json" };
const changed = await one.PATCH("/products/{id}", { params: { path, header: { "If-Match": etag } }, body: { price_cents: 249 }, headers });
assert.equal(expected(changed).version, made.version + 1);
// Without a token the other instance, which looks for changes twenty times a second, would answer some of these with the old price.
for (let price = 250; price < 270; price++) {
  // It holds the old price by now.
  expected(await other.GET("/products/{id}", { params: { path } }));
  expected(await one.PATCH("/products/{id}", { params: { path }, body: { price_cents: price }, headers }));
  const after = expected(await other.GET("/products/{id}", { params: { path } }));
  assert.equal(after.price_cents, price, "the other instance answers the old price to who has changed it");
}
console.log("changed twenty times on one instance, read at once on the other, with the writes' token: always the new price");

assert.equal(covering("epoch-9", "epoch-10"), "epoch-10");
assert.equal(covering("epoch-10", "epoch-9"), "epoch-10");
assert.equal(covering("epoch-10", "another-9"), "another-9");
console.log("answers of two writes in the wrong order: the later moment is kept, of another epoch of the database the newer token");

const lost = await one.PATCH("/products/{id}", { params: { path, header: { "If-Match": etag } }, body: { stock: 1 } });
assert.equal(lost.response.status, 412);
assert.equal(lost.error?.type, "/problems/version-conflict");
console.log("changed again with the old ETag: 412, nothing is lost");

const order = { customer_id: 749, items: [{ product_id: made.id, quantity: 2 }] };
const once = { params: { header: { "Idempotency-Key": randomUUID() } }, body: order };
const placed = await one.POST("/orders", once);
const again = await other.POST("/orders", once);
const [first, second]: [Order, Order] = [expected(placed), expected(again)];
assert.deepEqual(second, first);
assert.equal(again.response.headers.get("Idempotency-Replayed"), "true");
assert.equal(expected(await other.GET("/products/{id}", { params: { path } })).stock, 8);
console.log(`ordered twice with one Idempotency-Key: one order, ${first.id}, and stock taken once`);

const wrong = await one.POST("/orders", { body: { ...order, items: [{ product_id: made.id, quantity: 0 }] } });
const problem: Problem | undefined = wrong.error;
assert(problem);
assert.equal(problem.status, 422);
assert.equal(problem.errors?.[0]?.pointer, "/items/0/quantity");
console.log(`a wrong order: ${problem.title}: ${problem.errors[0].pointer} ${problem.errors[0].detail}`);
