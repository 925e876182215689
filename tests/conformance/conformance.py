#!/usr/bin/env python3
"""Checks a gateway for readings, and explains its remarks about a body.

    conformance.py check URL             runs the worked examples as dry runs, which store nothing
    conformance.py check URL --store     runs them for real: only against an installation of your own
    conformance.py payload URL FILE      sends FILE as a dry run and explains each remark

It needs Python 3.9 or later and nothing else. The exit code is 0 if every example holds or the body has
no remark, 1 if not, and 2 if the gateway does not answer, takes no request now or a file cannot be read.
"""

import argparse
import base64
import http.client
import json
import re
import sys
import time
import urllib.parse
from pathlib import Path

API = "/v1/readings"
CONNECTIONS = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
TIMEOUT_SECONDS = 15

# Statuses that say nothing about a request, of the gateway or of a proxy. It is sent again, after Retry-After.
NOT_NOW = (408, 429, 502, 503, 504)
ATTEMPTS_MAX = 5
PAUSE_SECONDS = 2
PAUSE_SECONDS_MAX = 60

# Files of worked examples. Beside this file in a package, in the next folder in the repository.
CASE_FILES = ("cases.json", "gateway_cases.json")

# Members of an example that need more than one request to the public port.
NEEDS_MORE = ("settings", "world", "steps", "sequence", "port", "sign")

# Members of a stored reading that an example does not show.
NOT_SHOWN = ("epoch_ms", "received_at", "warnings")

# Each code: what happened, and the remedy, in English and in Chinese.
EXPLANATIONS = {
    "empty_body": ("the body is empty: send at least one reading", "请求体为空：至少发送一条读数"),
    "malformed_body": ("the body is not JSON in UTF-8, or not compressed as its header says",
                       "请求体不是 UTF-8 编码的 JSON，或不是请求头所说的压缩"),
    "invalid_parameter": ("dry_run must be true or false", "dry_run 只能是 true 或 false"),
    "payload_too_large": ("the body is too large: send smaller bodies", "请求体过大：请分成较小的请求体"),
    "body_timeout": ("the body came too slowly: send it again", "请求体来得太慢：请重发"),
    "unsupported_media_type": ("the content type must be application/json in UTF-8",
                               "内容类型必须是 UTF-8 编码的 application/json"),
    "unsupported_encoding": ("compress with gzip or zstd, once", "请用 gzip 或 zstd 压缩，只压缩一次"),
    "no_acceptable_reading": ("no item of the body is a reading", "请求体中没有一项是读数"),
    "too_many_readings": ("more than 1,000 readings: send several bodies", "读数多于 1,000 条：请分批发送"),
    "unavailable": ("the service cannot take bodies now: try again later", "服务现在不能接收：请稍后再试"),
    "not_found": ("no such path: check the address", "没有这个路径：请检查地址"),
    "method_not_allowed": ("the method must be POST", "方法必须是 POST"),
    "too_deep": ("rejected: more than 4 levels of data", "拒收：data 多于 4 层"),
    "invalid_item": ("rejected: not a JSON object", "拒收：不是 JSON 对象"),
    "missing_device_sn": ("rejected: send the serial number as device_sn",
                          "拒收：请用 device_sn 发送序列号"),
    "invalid_device_sn": ("rejected: a serial number is 1 to 64 visible ASCII characters",
                          "拒收：序列号是 1 到 64 个可见的 ASCII 字符"),
    "invalid_timestamp": ("rejected: send milliseconds since 1970, RFC 3339 or yyyy-MM-dd HH:mm:ss",
                          "拒收：请发送 1970 年以来的毫秒数、RFC 3339 或 yyyy-MM-dd HH:mm:ss"),
    "timestamp_out_of_range": ("rejected: before 2000, or more than 24 h ahead: set the clock",
                               "拒收：早于 2000 年，或超前 24 小时以上：请校准时钟"),
    "invalid": ("the field is unreadable and was left out", "字段无法识别，未采用"),
    "out_of_range": ("the field is out of range and was left out: check unit and sensor",
                     "字段超出范围，未采用：请检查单位和传感器"),
    "too_large": ("the document is above 64 KiB and was left out: send less history",
                  "文档大于 64 KiB，未采用：请少发一些历史"),
    "missing": ("the time is missing, and that of receipt took its place: always send a time",
                "缺少时间，以收到的时间代替：请总是发送时间"),
    "ahead_of_clock": ("the time is more than 10 min ahead: it is kept and raises no alert; set the clock",
                       "时间超前 10 分钟以上：已保留，但不引起告警；请校准时钟"),
}


class Unusable(Exception):
    """The gateway does not answer, takes no request now, or a file cannot be read."""


class Answer:
    """A gateway's answer."""

    def __init__(self, response):
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.text = response.read().decode("utf-8", "replace")
        try:
            self.json = json.loads(self.text)
        except ValueError:
            self.json = {}
        if not isinstance(self.json, dict):
            self.json = {}

    def results(self):
        """Returns the remarks about items."""
        return (self.json.get("details") or self.json).get("results") or []


def send(url, method, target, headers, body):
    """Sends one request until the gateway takes it."""
    for attempt in range(ATTEMPTS_MAX):
        answer = exchange(url, method, target, headers, body)
        if answer.status not in NOT_NOW:
            return answer
        if attempt + 1 < ATTEMPTS_MAX:
            after = answer.headers.get("retry-after", "")
            time.sleep(min(int(after) if after.isdecimal() else PAUSE_SECONDS, PAUSE_SECONDS_MAX))
    raise Unusable(f"{url} takes no request now: status {answer.status}")


def address_of(url):
    """Returns the parts of an address."""
    try:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme in CONNECTIONS and parts.hostname and parts.port != 0:
            return parts
    except ValueError:
        pass
    raise Unusable(f"{url} is no address such as https://ingest.example.com")


def exchange(url, method, target, headers, body):
    """Sends one request on a connection of its own."""
    parts = address_of(url)
    connection = CONNECTIONS[parts.scheme](parts.hostname, parts.port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request(method, parts.path.rstrip("/") + target, body=body or None, headers=headers)
        return Answer(connection.getresponse())
    except (OSError, http.client.HTTPException) as error:
        raise Unusable(f"{url} does not answer: {error!r}") from error
    finally:
        connection.close()


def read_cases(folder):
    """Returns the examples of both files."""
    here = Path(__file__).resolve().parent
    folders = [Path(folder)] if folder else [here, here.parent / "cases"]
    for place in folders:
        if all((place / name).is_file() for name in CASE_FILES):
            try:
                files = [json.loads((place / name).read_text("utf-8")) for name in CASE_FILES]
            except (OSError, ValueError) as error:
                raise Unusable(f"{place}: {error}") from error
            return [case for file in files for case in file["cases"]]
    raise Unusable(f"no {' and '.join(CASE_FILES)} in {' or '.join(map(str, folders))}")


def body_of(case):
    """Returns the bytes of a body: given, in base64, or of repeated parts."""
    if "body" in case:
        return case["body"].encode()
    if "body_base64" in case:
        return base64.b64decode(case["body_base64"])
    text = []
    for part in case.get("body_parts", ()):
        first = part.get("count_from", 0)
        numbers = range(first, first + part["times"]) if "repeat" in part else ()
        repeated = (part["repeat"].replace("{i}", str(n)).replace("{t}", str(n)) for n in numbers)
        text.append("".join(repeated) if "repeat" in part else part["text"])
    return "".join(text).encode()


def differences(expected, found, place):
    """Compares a value with {re}, {not_re}, {min, max}, null for absent, or a literal."""
    if isinstance(expected, dict) and "re" in expected:
        fits = isinstance(found, str) and re.search(expected["re"], found)
        return [] if fits else [f"{place}: {found!r} is not {expected['re']!r}"]
    if isinstance(expected, dict) and "not_re" in expected:
        return [f"{place}: {found!r}"] if re.search(expected["not_re"], found or "") else []
    if isinstance(expected, dict) and ("min" in expected or "max" in expected):
        least, most = expected.get("min", float("-inf")), expected.get("max", float("inf"))
        fits = isinstance(found, (int, float)) and least <= found <= most
        return [] if fits else [f"{place}: {found!r} is not within {expected}"]
    if isinstance(expected, dict):
        found = found if isinstance(found, dict) else {}
        return [fault for name, value in expected.items()
                for fault in differences(value, found.get(name), f"{place}.{name}")]
    if isinstance(expected, list):
        found = found if isinstance(found, list) else []
        padded = found + [None] * (len(expected) - len(found))
        return [fault for index, value in enumerate(expected)
                for fault in differences(value, padded[index], f"{place}[{index}]")]
    return [] if expected == found else [f"{place}: {found!r} and not {expected!r}"]


def reason_to_skip(case, store):
    """Returns why an example is not run here, if it is not."""
    needs = [member for member in NEEDS_MORE if member in case]
    if needs:
        return f"needs {needs[0]}"
    if "Accept-Language" in (case.get("headers") or {}):
        return "answers have one language"
    if case["route"].startswith("/schemas/"):
        return "the gateway serves no documents"
    if not store and "dry_run=false" in case["route"]:
        return "would be stored"
    return None


class Example:
    """An example as it is sent: for real, or as a dry run."""

    def __init__(self, case, store):
        self.case = case
        path, _, query = case["route"].partition("?")
        self.dry = not store or query == "dry_run=true"
        # A dry run of the devices' route is one of the other route, which answers by HTTP status.
        self.moved = self.dry and not path.startswith("/v1/")
        self.target = case["route"]
        if not store:
            self.target = (API if self.moved else path) + "?" + (query or "dry_run=true")
        self.headers = {} if case.get("method", "POST") != "POST" else {"Content-Type": "application/json"}
        own = case.get("headers") or {}
        if self.moved:
            own = {name: value for name, value in own.items() if name.lower() != "content-type"}
        for name, value in own.items():
            kept = {n: v for n, v in self.headers.items() if n.lower() != name.lower()}
            self.headers = kept if value is None else {**kept, name: value}

    def status(self):
        """Returns the status that the answer must have."""
        if not self.moved or self.case["status"] != 200 or self.case["answer"] != "error":
            return self.case["status"]
        return 400 if self.case["codes"] == ["malformed_body"] else 422

    def faults(self, answer):
        """Returns the reasons why the example does not hold."""
        case, status = self.case, self.status()
        faults = differences(status, answer.status, "status")
        if status == 200 and case.get("answer"):
            faults += differences("success" if self.moved else case["answer"],
                                  answer.json.get("status"), "answer")
        if status == 200:
            faults += differences(case.get("details") or {}, answer.json.get("details"), "details")
        if case.get("codes") is not None:
            codes = [result.get("code") for result in answer.results()]
            if codes != case["codes"]:
                faults.append(f"codes {codes} and not {case['codes']}")
        if self.dry and status == 200 and "readings_count" not in case:
            faults += self.faults_of_readings(answer)
        expect = case.get("expect") or {}
        if not self.moved:
            headers = {name.lower(): value for name, value in (expect.get("headers") or {}).items()}
            faults += differences(headers, answer.headers, "headers")
            faults += differences(expect.get("json") or {}, answer.json, "answer")
        return faults

    def faults_of_readings(self, answer):
        """Compares the readings of a dry run, which are those that would be stored."""
        found = answer.json.get("readings")
        if answer.json.get("dry_run") is not True or not isinstance(found, list):
            return ["the answer is not that of a dry run"]
        shown = [{name: value for name, value in reading.items() if name not in NOT_SHOWN}
                 for reading in found]
        expected = self.case["echo"] if "echo" in self.case else self.case["readings"]
        faults = [] if shown == expected else [f"readings {shown} and not {expected}"]
        warnings = [warning for reading in found for warning in reading.get("warnings", ())]
        for wanted in self.case.get("warnings", ()):
            if not any(not differences(wanted, warning, "") for warning in warnings):
                faults.append(f"no warning {wanted} in {warnings}")
        return faults


def check(options):
    """Runs the examples. Returns the exit code."""
    outcomes = []
    for case in read_cases(options.cases):
        skipped, faults = reason_to_skip(case, options.store), []
        if skipped is None:
            example = Example(case, options.store)
            method, body = case.get("method", "POST"), body_of(case)
            faults = example.faults(send(options.url, method, example.target, example.headers, body))
        result = "skipped" if skipped else "failed" if faults else "held"
        outcomes.append({"name": case["name"], "result": result, "remarks": [skipped] if skipped else faults})
    run = [outcome for outcome in outcomes if outcome["result"] != "skipped"]
    held = sum(outcome["result"] == "held" for outcome in run)
    if options.json:
        print(json.dumps({"held": held, "of": len(run), "cases": outcomes}, ensure_ascii=False, indent=1))
    else:
        for outcome in outcomes:
            print(f"{outcome['result']:8} {outcome['name']}", *outcome["remarks"], sep="  ")
        print(f"{held} of {len(run)} examples hold")
    return 0 if run and held == len(run) else 1


def payload(options):
    """Explains the remarks about a body. Returns the exit code."""
    try:
        body = Path(options.file).read_bytes()
    except OSError as error:
        raise Unusable(f"{options.file}: {error}") from error
    headers = {"Content-Type": "application/json"}
    answer = send(options.url, "POST", API + "?dry_run=true", headers, body)
    if "request_id" not in answer.json:
        raise Unusable(f"{options.url} is no gateway: status {answer.status}")
    if answer.status == 200 and answer.json.get("dry_run") is not True:
        raise Unusable("this gateway knows no dry run: the body was stored")
    remarks = list(answer.results())
    if answer.status != 200 and not remarks:
        remarks = [{"code": answer.json.get("code"), "message": answer.json.get("detail")}]
    for remark in remarks:
        texts = EXPLANATIONS.get(remark.get("code"), (f"status {answer.status}",) * 2)
        remark["explanation"] = texts[0 if options.language == "en" else 1]
    if options.json:
        shown = {"status": answer.status, "remarks": remarks, "readings": answer.json.get("readings", [])}
        print(json.dumps(shown, ensure_ascii=False, indent=1))
        return 1 if remarks else 0
    for remark in remarks:
        parts = (remark.get("index"), remark.get("device_sn"), remark.get("field"), remark.get("code"))
        print(*("-" if part is None else part for part in parts), remark["explanation"], sep="  ")
    for reading in answer.json.get("readings", ()):
        print(json.dumps(reading, ensure_ascii=False))
    print(f"status {answer.status}, {len(remarks)} remarks")
    return 1 if remarks else 0


def main():
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    checking = commands.add_parser("check", help="run the worked examples")
    checking.add_argument("url")
    checking.add_argument("--store", action="store_true", help="for real, not as dry runs")
    checking.add_argument("--cases", help="folder with " + " and ".join(CASE_FILES))
    checking.set_defaults(run=check)
    explaining = commands.add_parser("payload", help="explain the remarks about a body")
    explaining.add_argument("url")
    explaining.add_argument("file")
    explaining.add_argument("--language", choices=("zh", "en"), default="zh")
    explaining.set_defaults(run=payload)
    for command in (checking, explaining):
        command.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    try:
        return options.run(options)
    except Unusable as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
