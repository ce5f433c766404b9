"""Refusals without a key: one line for each client, and bounded memory."""

import json

from service.monitoring.refusal_summary import MAX_CLIENTS, OTHERS, RefusalSummary


def test_a_client_gets_one_line_with_the_number_of_each_status(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("NERVEMASK_AUDIT", str(tmp_path / "audit.jsonl"))
    summary = RefusalSummary()
    for _ in range(3000):
        summary.add("192.0.2.1", 401)
    summary.add("192.0.2.1", 429)
    for number in range(5):
        summary.add(f"2001:db8::{number}", 401)
    summary.write()
    summary.write()
    lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert [(line["event"], line["client"], line["statuses"]) for line in lines] == [
        ("refused_without_key", "192.0.2.1", {"401": 3000, "429": 1}),
        ("refused_without_key", "2001:db8::/64", {"401": 5}),
    ]


def test_the_number_of_clients_is_bounded() -> None:
    summary = RefusalSummary()
    for number in range(10 * MAX_CLIENTS):
        summary.add(f"192.0.{number // 256}.{number % 256}", 401)
    assert len(summary.counts) == MAX_CLIENTS + 1
    assert summary.counts[OTHERS][401] == 9 * MAX_CLIENTS


def test_lines_are_written_once_in_an_interval(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("NERVEMASK_AUDIT", str(tmp_path / "audit.jsonl"))
    summary = RefusalSummary()
    summary.add("192.0.2.1", 401)
    summary.write_if_due()
    assert not (tmp_path / "audit.jsonl").exists()
    summary.next_lines_seconds = 0.0
    summary.write_if_due()
    assert len((tmp_path / "audit.jsonl").read_text().splitlines()) == 1
