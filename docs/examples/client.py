#!/usr/bin/env python3
"""A sample client: keeps readings on disk until the gateway has them.

    client.py URL CACHE < readings

It reads one reading a line, as JSON, and ends once the gateway has all of them, those of earlier runs
included. CACHE is a file that it creates. Its table `refused` keeps what can never be stored. It needs
Python 3.9 or later and nothing else.
"""

import gzip
import http.client
import json
import random
import sqlite3
import sys
import time
import urllib.error
import urllib.request

# A watch's full cache: about 160 KB with documents.
BATCH_READINGS = 100

# Beyond these the oldest readings of a table are lost: ten days of one a minute.
CACHE_READINGS_MAX = 14_400

# The gateway answers within 9 s of the last byte. A slow line needs time for the body as well.
TIMEOUT_SECONDS = 30

# The pause without Retry-After grows up to this.
PAUSE_SECONDS_MAX = 300

# The gateway asks for 60 s at most. A proxy that asks for more gets this.
RETRY_AFTER_SECONDS_MAX = 3_600

# The body is at fault. Sent again, it would be refused again.
BODY_AT_FAULT = (400, 422)

# The program is at fault: its address, its method or its headers.
PROGRAM_AT_FAULT = (404, 405, 415)

TOO_SLOW = 408
TOO_LARGE = 413

# Codes of readings that are stored. Every other code rejects its reading.
WARNINGS = ("ahead_of_clock", "invalid", "missing", "out_of_range", "too_large")


class Cache:
    """Readings on disk, in their order. What is added survives a power failure."""

    def __init__(self, path):
        self.database = sqlite3.connect(path)
        with self.database:
            for table in ("waiting", "refused"):
                self.database.execute(
                    f"CREATE TABLE IF NOT EXISTS {table} (id INTEGER PRIMARY KEY AUTOINCREMENT, reading TEXT)"
                )

    def add(self, reading, table="waiting"):
        """Adds a reading. Those beyond the bound are lost, the oldest first."""
        with self.database:
            self.database.execute(f"INSERT INTO {table} (reading) VALUES (?)", (reading,))
            self.bound(table)

    def bound(self, table):
        """Deletes the oldest readings beyond the bound."""
        self.database.execute(
            f"DELETE FROM {table} WHERE id <= (SELECT MAX(id) FROM {table}) - ?", (CACHE_READINGS_MAX,)
        )

    def oldest(self, count):
        """Returns at most so many readings with their ids."""
        query = "SELECT id, reading FROM waiting ORDER BY id LIMIT ?"
        return self.database.execute(query, (count,)).fetchall()

    def remove(self, batch, refused=()):
        """Removes a batch that is settled. Keeps those of its readings apart that are refused for good."""
        first, last = batch[0][0], batch[-1][0]
        with self.database:
            self.database.executemany(
                "INSERT INTO refused (reading) VALUES (?)", [(reading,) for _, reading in refused]
            )
            self.bound("refused")
            self.database.execute("DELETE FROM waiting WHERE id BETWEEN ? AND ?", (first, last))


def post(url, readings):
    """Sends one body. Returns the status (None: no answer), the answer and the seconds of Retry-After."""
    body = gzip.compress(('{"data":[' + ",".join(readings) + "]}").encode())
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    request = urllib.request.Request(url.rstrip("/") + "/v1/readings", body, headers, method="POST")
    try:
        try:
            response = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
        except urllib.error.HTTPError as error:
            response = error  # also an answer, of another status
        with response:
            after = response.headers.get("Retry-After", "")
            text = response.read().decode("utf-8", "replace")
            return response.status, text, int(after) if after.isdecimal() else None
    except (OSError, http.client.HTTPException) as error:
        return None, repr(error), None


def members_of(answer):
    """Returns the members of the gateway's answer. Empty: a proxy or the login page of a network answers."""
    try:
        members = json.loads(answer)
    except ValueError:
        return {}
    return members if isinstance(members, dict) and "request_id" in members else {}


def rejected(batch, details):
    """Returns the rejected readings of a batch: all, if the answer has no room to name each of them."""
    results = details.get("results", ())
    indexes = {remark["index"] for remark in results if remark["code"] not in WARNINGS}
    if len(indexes) != details["error"]:
        return batch
    return [entry for index, entry in enumerate(batch) if index in indexes]


def pause(attempt, retry_after):
    """Returns the seconds until the next attempt, by chance: else all devices come back at once."""
    if retry_after is not None:
        retry_after = min(retry_after, RETRY_AFTER_SECONDS_MAX)
        return retry_after + random.uniform(0, 1 + retry_after / 2)
    longest = min(PAUSE_SECONDS_MAX, 2 ** min(attempt, 16))
    return random.uniform(longest / 2, longest)


def send_all(url, cache):
    """Sends until the cache is empty."""
    attempt, count = 0, BATCH_READINGS
    while batch := cache.oldest(count):
        status, answer, retry_after = post(url, [reading for _, reading in batch])
        members = members_of(answer)
        if status == 200 and "details" in members:
            details = members["details"]
            for remark in details.get("results", ()):
                print(f"remark: {json.dumps(remark, ensure_ascii=False)}", file=sys.stderr)
            cache.remove(batch, rejected(batch, details))
            attempt, count = 0, min(BATCH_READINGS, 2 * count)
        elif status == TOO_LARGE and len(batch) > 1:
            count = len(batch) // 2
        elif status == TOO_LARGE or (status in BODY_AT_FAULT and members):
            print(f"refused for good: {answer}", file=sys.stderr)
            cache.remove(batch, batch)
        elif status in PROGRAM_AT_FAULT and members:
            sys.exit(f"error: nothing can be sent to {url}, the readings are kept: {answer}")
        else:
            # 408, 429, 503 and all else: the readings stay.
            if status in (None, TOO_SLOW):
                # The line may be too slow for so many.
                count = max(1, len(batch) // 2)
            seconds = pause(attempt, retry_after)
            attempt += 1
            print(f"status {status}, again in {seconds:.1f} s: {answer}", file=sys.stderr)
            time.sleep(seconds)


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    url, cache = sys.argv[1], Cache(sys.argv[2])
    for line in sys.stdin.buffer:
        if not line.strip():
            continue
        try:
            # A line that is no JSON would spoil the body of others. Python takes NaN for JSON.
            cache.add(json.dumps(json.loads(line), allow_nan=False))
        except (ValueError, RecursionError) as error:
            print(f"no reading, kept apart: {error}", file=sys.stderr)
            cache.add(line.decode("utf-8", "replace"), "refused")
    send_all(url, cache)


if __name__ == "__main__":
    main()
