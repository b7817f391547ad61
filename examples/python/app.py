"""Payments that happen once: a WSGI application behind hapax.

`DATABASE_URL` says where: postgres://USER@HOST/NAME or mysql://USER@HOST/NAME.
"""

import json
import logging
import os

import points

URL = os.environ["DATABASE_URL"]
if URL.startswith("mysql:"):
    import mariadb as database
else:
    import postgres as database

# One for each process: a worker answers one request at a time.
connection = None


def application(environ, start_response):
    status, answer = route(environ)
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    start_response(status, headers)
    return [body]


def route(environ):
    if environ["PATH_INFO"] != "/payments":
        return "404 Not Found", {"error": "there is only /payments here"}
    if environ["REQUEST_METHOD"] != "POST":
        return "405 Method Not Allowed", {"error": "only POST makes a payment"}
    attempt = environ.get("HTTP_HAPAX_OPERATION"), environ.get("HTTP_HAPAX_FENCE")
    if None in attempt:
        return "400 Bad Request", {"error": "ask by way of hapax, with an Idempotency-Key"}
    try:
        payment = read(environ)
    except ValueError as error:
        return "422 Unprocessable Content", {"error": str(error)}
    try:
        return "201 Created", pay(attempt, payment, points.of(environ))
    except database.Error as error:
        # Rolled back, or its commit was not heard of. A 4xx would be final; after a 500, hapax asks the receipt.
        logging.error("payment %s failed: %s", payment["reference"], error)
        return "500 Internal Server Error", {"error": "the payment was not recorded"}


def read(environ):
    """The payment that is asked for; `ValueError` if it is none."""
    length = int(environ.get("CONTENT_LENGTH") or 0)
    asked = json.loads(environ["wsgi.input"].read(length))
    if not isinstance(asked, dict):
        raise ValueError("a payment is a JSON object")
    reference, cents = asked.get("reference"), asked.get("amount_cents")
    if not isinstance(reference, str) or not reference:
        raise ValueError("reference is a text")
    if type(cents) is not int or cents <= 0:
        raise ValueError("amount_cents is a number above 0")
    return {"reference": reference, "amount_cents": cents}


def pay(attempt, payment, at):
    global connection
    if connection is None:
        connection = database.connect(URL)
    try:
        return database.pay(connection, attempt, payment, at)
    except database.Error:
        # Whatever it was, a new connection has it behind itself.
        connection.close()
        connection = None
        raise
