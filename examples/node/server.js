// Payments that happen once: a server behind hapax. Several processes, so that one that dies takes few requests along.
//
// DATABASE_URL says where the payments are, PORT (9000) and WORKERS (4) the rest.

import cluster from "node:cluster";
import http from "node:http";

import { pay, pool } from "./payments.js";
import { pointsOf } from "./points.js";

const port = Number(process.env.PORT ?? 9000);
// Each process accepts for itself. Dealt out by the first one, a connection is left hanging if its process dies meanwhile.
cluster.schedulingPolicy = cluster.SCHED_NONE;

if (cluster.isPrimary) {
  for (let worker = Number(process.env.WORKERS ?? 4); worker > 0; worker--) cluster.fork();
  cluster.on("exit", () => cluster.fork());
} else {
  const payments = pool(process.env.DATABASE_URL);
  http
    .createServer(async (request, response) => {
      const [status, answer] = await route(payments, request);
      const body = Buffer.isBuffer(answer) ? answer : Buffer.from(JSON.stringify(answer));
      response.writeHead(status, { "Content-Type": "application/json", "Content-Length": body.length });
      response.end(body);
    })
    .listen(port, "127.0.0.1", () => console.log(`process ${process.pid} listens on http://127.0.0.1:${port}`));
}

async function route(payments, request) {
  if (request.url !== "/payments") return [404, { error: "there is only /payments here" }];
  if (request.method !== "POST") return [405, { error: "only POST makes a payment" }];
  const { "hapax-operation": operation, "hapax-fence": fence } = request.headers;
  if (!operation || !fence) return [400, { error: "ask by way of hapax, with an Idempotency-Key" }];
  let payment;
  try {
    payment = await read(request);
  } catch (error) {
    return [422, { error: error.message }];
  }
  try {
    return [201, await pay(payments, { operation, fence }, payment, pointsOf(request))];
  } catch (error) {
    // Rolled back, or its commit was not heard of. A 4xx would be final; after a 500, hapax asks the receipt.
    console.error(`payment ${payment.reference} failed: ${error.message}`);
    return [500, { error: "the payment was not recorded" }];
  }
}

// The payment that is asked for; an error if it is none.
async function read(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const { reference, amount_cents } = JSON.parse(Buffer.concat(chunks).toString()) ?? {};
  if (typeof reference !== "string" || reference === "") throw new Error("reference is a text");
  if (!Number.isSafeInteger(amount_cents) || amount_cents <= 0) throw new Error("amount_cents is a number above 0");
  return { reference, amount_cents };
}
