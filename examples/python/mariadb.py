"""A payment in MariaDB, with PyMySQL."""

import json
from urllib.parse import unquote, urlsplit

import pymysql

Error = pymysql.Error


def connect(url):
    parts = urlsplit(url)
    return pymysql.connect(
        host=parts.hostname,
        port=parts.port or 3306,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        database=parts.path.lstrip("/"),
        # A process that is stopped half-way must not hold its locks for ever. MySQL has no such setting.
        init_command="SET SESSION idle_transaction_timeout = 3",
    )


def pay(connection, attempt, payment, at):
    """One transaction: the payment, the webhook that tells of it, and the receipt. Gives the body of the answer."""
    operation, fence = attempt
    at("before-begin")
    with connection.cursor() as cursor:
        connection.begin()
        cursor.execute(
            "INSERT INTO payments (reference, amount_cents) VALUES (%s, %s)",
            (payment["reference"], payment["amount_cents"]),
        )
        number = cursor.lastrowid
        at("after-insert")
        body = json.dumps({"id": number, **payment}).encode()
        cursor.execute("CALL hapax_enqueue('payment-made', %s, %s, NULL, NULL)", (f"payment-{number}", body))
        # Last: if it fails, it has rolled the transaction back, and nothing may follow that a commit would keep.
        cursor.execute("CALL hapax_receipt(%s, %s, 201, %s, NULL)", (operation, fence, body))
        at("after-receipt")
        connection.commit()
    at("after-commit")
    return body
