#!/usr/bin/env python3
"""Guards from Python, by the SQL of docs/guards.md: messages that come twice, late and out of order.

    python3 examples/guards/guards.py [FILE]

Needs nothing but Python's own sqlite3 (SQLite 3.35 or newer). Each message is handled in a transaction: the guard
first, then what has to happen once (a row in `letters`), then the commit, then the acknowledgement.
"""

import sqlite3
import sys

SCHEMA = """
CREATE TABLE IF NOT EXISTS orders (
    id INTEGER PRIMARY KEY,
    customer INTEGER NOT NULL, number INTEGER NOT NULL, amount INTEGER NOT NULL, state TEXT NOT NULL,
    UNIQUE (customer, number)
);
CREATE TABLE IF NOT EXISTS letters (text TEXT NOT NULL);
"""

# The statement that writes, and the one that tells why it did not.
TRANSITION = (
    """UPDATE orders SET state = :to WHERE id = :id AND state = :from RETURNING state, 'applied'""",
    """SELECT state, CASE WHEN state = :to THEN 'already-applied'
                          WHEN state IN ('delivered') THEN 'stale'
                          WHEN state = :from THEN 'again'
                          ELSE 'rejected' END
       FROM orders WHERE id = :id""",
)
INSERT_OR_GET = (
    """INSERT INTO orders (customer, number, amount, state) VALUES (:customer, :number, :amount, 'new')
       ON CONFLICT (customer, number) DO NOTHING RETURNING id, 'applied'""",
    """SELECT id, CASE WHEN amount = :amount THEN 'already-applied' ELSE 'rejected' END
       FROM orders WHERE customer = :customer AND number = :number""",
)


def ask(db, guard, values):
    """What the guard answers, and the first column of the row; (None, "rejected") if there is no row.

    Under BEGIN IMMEDIATE nobody else writes, so that the second statement sees what the first one saw.
    """
    write, look = guard
    row = db.execute(write, values).fetchone() or db.execute(look, values).fetchone()
    return row or (None, "rejected")


def handle(db, what, guard, values):
    db.execute("BEGIN IMMEDIATE")
    try:
        found, answer = ask(db, guard, values)
        if answer == "applied":
            db.execute("INSERT INTO letters VALUES (?)", (what,))
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise
    print(f"{what}: {answer}" + ("" if found is None else f" ({found})"))


def main():
    # isolation_level=None: sqlite3 begins no transactions of its own.
    db = sqlite3.connect(sys.argv[1] if len(sys.argv) > 1 else ":memory:", timeout=10, isolation_level=None)
    db.executescript(SCHEMA)
    order = {"customer": 1, "number": 5, "amount": 20}
    pay = {"id": 1, "from": "new", "to": "paid"}
    handle(db, "an order", INSERT_OR_GET, order)
    handle(db, "the same again", INSERT_OR_GET, order)
    handle(db, "another under its number", INSERT_OR_GET, {**order, "amount": 99})
    handle(db, "paid", TRANSITION, pay)
    handle(db, "paid, redelivered", TRANSITION, pay)
    handle(db, "delivered", TRANSITION, {"id": 1, "from": "paid", "to": "delivered"})
    handle(db, "paid, a day late", TRANSITION, pay)
    handle(db, "paid, of no order", TRANSITION, {**pay, "id": 7})
    print(db.execute("SELECT count(*) FROM letters").fetchone()[0], "letters")


if __name__ == "__main__":
    main()
