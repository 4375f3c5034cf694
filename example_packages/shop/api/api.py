"""The shop's API: orders in PostgreSQL, a counter in Redis."""

from __future__ import annotations

import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psycopg2
import redis

counter = redis.Redis(host=os.environ["REDIS_HOST"])


def query(sql: str, *values: object) -> list[tuple[object, ...]]:
    """Run one statement in a transaction of its own; returns its rows."""
    url, password = os.environ["DATABASE_URL"], os.environ["DATABASE_PASSWORD"]
    with psycopg2.connect(url, password=password) as connection, connection.cursor() as cursor:
        cursor.execute(sql, values)
        return cursor.fetchall()


class Shop(BaseHTTPRequestHandler):
    """`GET /`, `GET /health`, `GET /orders/ID`, `GET /stats`, `POST /orders`."""

    def do_GET(self) -> None:
        """Look something up."""
        if self.path == "/":
            self.answer(200, {"greeting": os.environ["GREETING"]})
        elif self.path == "/health":
            query("SELECT 1")
            counter.ping()
            self.answer(200, {"status": "ok"})
        elif self.path == "/stats":
            self.answer(200, {"orders": int(counter.get("orders") or 0)})
        else:
            number = self.path.removeprefix("/orders/")
            rows = query("SELECT item, quantity FROM orders WHERE id = %s", number) if number.isdigit() else []
            if rows:
                self.answer(200, {"item": rows[0][0], "quantity": rows[0][1]})
            else:
                self.answer(404, {"error": "no such order"})

    def do_POST(self) -> None:
        """Place an order."""
        order = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        try:
            rows = query(
                "INSERT INTO orders (item, quantity) VALUES (%s, %s) RETURNING id", order["item"], order["quantity"]
            )
        except psycopg2.errors.CheckViolation:
            self.answer(422, {"error": "quantity must be positive"})
            return
        counter.incr("orders")
        self.answer(201, {"id": rows[0][0]})

    def answer(self, code: int, body: dict[str, object]) -> None:
        """Send a JSON response."""
        content = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


ThreadingHTTPServer(("", 8000), Shop).serve_forever()
