"""A payment in PostgreSQL, with psycopg."""

import json

import psycopg

Error = psycopg.Error


def connect(url):
    # A pooler in transaction mode gives each transaction another session: nothing is prepared in one.
    return psycopg.connect(url, autocommit=True, prepare_threshold=None)


def pay(connection, attempt, payment, at):
    """One transaction: the payment, the webhook that tells of it, and the receipt. Gives the body of the answer."""
    operation, fence = attempt
    at("before-begin")
    with connection.transaction():
        # A process that is stopped half-way must not hold its locks for ever.
        connection.execute("SET LOCAL idle_in_transaction_session_timeout = '3s'")
        (number,) = connection.execute(
            "INSERT INTO payments (reference, amount_cents) VALUES (%s, %s) RETURNING id",
            (payment["reference"], payment["amount_cents"]),
        ).fetchone()
        at("after-insert")
        body = json.dumps({"id": number, **payment}).encode()
        connection.execute("SELECT hapax_enqueue('payment-made', %s, %s)", (f"payment-{number}", body))
        connection.execute("SELECT hapax_receipt(%s, %s, 201, %s)", (operation, fence, body))
        at("after-receipt")
    at("after-commit")
    return body
