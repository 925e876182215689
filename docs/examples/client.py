#!/usr/bin/env python3
"""A sample client: keeps readings on disk until the gateway has them.

    client.py URL CACHE < readings

It reads one reading a line, as JSON, and ends once the gateway has all of them, those of earlier runs
included. CACHE is a file that it creates. It needs Python 3.9 or later and nothing else.
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

# Beyond these the oldest readings are lost: ten days of one a minute.
CACHE_READINGS_MAX = 14_400

# The gateway answers within 9 s of the last byte. A slow line needs time for the body as well.
TIMEOUT_SECONDS = 30

# The pause without Retry-After grows up to this.
PAUSE_SECONDS_MAX = 300

# The body is at fault. Sent again, it would be refused again.
BODY_AT_FAULT = (400, 422)

# The program is at fault: its address, its method or its headers.
PROGRAM_AT_FAULT = (404, 405, 415)

TOO_LARGE = 413


class Cache:
    """Readings on disk, in their order. What is added survives a power failure."""

    def __init__(self, path):
        self.database = sqlite3.connect(path)
        with self.database:
            for table in ("waiting", "refused"):
                self.database.execute(
                    f"CREATE TABLE IF NOT EXISTS {table} (id INTEGER PRIMARY KEY AUTOINCREMENT, reading TEXT)"
                )

    def add(self, reading):
        with self.database:
            self.database.execute("INSERT INTO waiting (reading) VALUES (?)", (reading,))
            self.database.execute(
                "DELETE FROM waiting WHERE id <= (SELECT MAX(id) FROM waiting) - ?", (CACHE_READINGS_MAX,)
            )

    def oldest(self, count):
        """Returns at most so many readings with their ids."""
        query = "SELECT id, reading FROM waiting ORDER BY id LIMIT ?"
        return self.database.execute(query, (count,)).fetchall()

    def remove(self, batch, refused=False):
        """Removes a batch that is stored, or keeps it apart because it never will be."""
        first, last = batch[0][0], batch[-1][0]
        with self.database:
            if refused:
                self.database.execute(
                    "INSERT INTO refused (reading) SELECT reading FROM waiting WHERE id BETWEEN ? AND ?",
                    (first, last),
                )
            self.database.execute("DELETE FROM waiting WHERE id BETWEEN ? AND ?", (first, last))


def post(url, readings):
    """Sends one body. Returns the status (None: no answer), the answer and the seconds of Retry-After."""
    body = gzip.compress(('{"data":[' + ",".join(readings) + "]}").encode())
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    request = urllib.request.Request(url.rstrip("/") + "/v1/readings", body, headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
            return response.status, response.read().decode("utf-8", "replace"), None
    except urllib.error.HTTPError as error:
        after = error.headers.get("Retry-After", "")
        text = error.read().decode("utf-8", "replace")
        return error.code, text, int(after) if after.isdigit() else None
    except (OSError, http.client.HTTPException) as error:
        return None, repr(error), None


def details_of(answer):
    """Returns the details of the gateway's answer. None: the answer is of something else, such as a proxy."""
    try:
        return json.loads(answer)["details"]
    except (ValueError, KeyError, TypeError):
        return None


def pause(attempt, retry_after):
    """Returns the seconds until the next attempt, by chance: else all devices come back at once."""
    if retry_after is not None:
        return retry_after + random.uniform(0, 1 + retry_after / 2)
    longest = min(PAUSE_SECONDS_MAX, 2 ** min(attempt, 16))
    return random.uniform(longest / 2, longest)


def send_all(url, cache):
    """Sends until the cache is empty."""
    attempt, count = 0, BATCH_READINGS
    while batch := cache.oldest(count):
        status, answer, retry_after = post(url, [reading for _, reading in batch])
        details = details_of(answer) if status == 200 else None
        if details is not None:
            for remark in details.get("results", ()):
                print(f"remark: {json.dumps(remark, ensure_ascii=False)}", file=sys.stderr)
            cache.remove(batch)
            attempt, count = 0, BATCH_READINGS
        elif status == TOO_LARGE and len(batch) > 1:
            count = len(batch) // 2
        elif status in BODY_AT_FAULT or status == TOO_LARGE:
            print(f"refused for good: {answer}", file=sys.stderr)
            cache.remove(batch, refused=True)
        elif status in PROGRAM_AT_FAULT:
            sys.exit(f"error: nothing can be sent to {url}, the readings are kept: {answer}")
        else:
            # 408, 429, 503 and all else: the readings stay.
            seconds = pause(attempt, retry_after)
            attempt += 1
            print(f"status {status}, again in {seconds:.1f} s: {answer}", file=sys.stderr)
            time.sleep(seconds)


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    url, cache = sys.argv[1], Cache(sys.argv[2])
    for line in sys.stdin:
        if line.strip():
            # A line that is no JSON would spoil the body of others.
            cache.add(json.dumps(json.loads(line), ensure_ascii=False))
    send_all(url, cache)


if __name__ == "__main__":
    main()
