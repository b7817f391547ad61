// A payment in PostgreSQL, with pg.

import pg from "pg";

export function pool(connectionString) {
  const pool = new pg.Pool({ connectionString });
  // The server ends sessions that hang in a transaction: that is no reason to end the process.
  pool.on("error", (error) => console.error(`a connection was lost: ${error.message}`));
  pool.on("connect", (client) => client.on("error", () => {}));
  return pool;
}

// One transaction: the payment, the webhook that tells of it, and the receipt. Gives the body of the answer.
export async function pay(pool, { operation, fence }, payment, at) {
  const client = await pool.connect();
  try {
    at("before-begin");
    await client.query("BEGIN");
    // A process that is stopped half-way must not hold its locks for ever.
    await client.query("SET LOCAL idle_in_transaction_session_timeout = '3s'");
    const { rows } = await client.query(
      "INSERT INTO payments (reference, amount_cents) VALUES ($1, $2) RETURNING id",
      [payment.reference, payment.amount_cents],
    );
    at("after-insert");
    const body = Buffer.from(JSON.stringify({ id: Number(rows[0].id), ...payment }));
    await client.query("SELECT hapax_enqueue('payment-made', $1, $2::bytea)", [`payment-${rows[0].id}`, body]);
    await client.query("SELECT hapax_receipt($1, $2, 201, $3::bytea)", [operation, fence, body]);
    at("after-receipt");
    await client.query("COMMIT");
    at("after-commit");
    client.release();
    return body;
  } catch (error) {
    // Closed, not given back: the server rolls back what is open.
    client.release(true);
    throw error;
  }
}
