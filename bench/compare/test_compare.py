"""Tests of the parts that are functions: `python3 -m unittest discover -s bench/compare`."""

from __future__ import annotations

import json
import sys
import unittest
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any
from unittest import mock

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))

import report  # noqa: E402
from brokers import Managed  # noqa: E402
from cells import CELLS, CELLS_MAX, DURABILITIES, SHORT_CELLS, Cell, by_name  # noqa: E402
from figures import METRICS, Bar, Spread, judge, ratios, rounded, standing, written_twice  # noqa: E402
from loads import LoadError, bench_metrics, java_consumer_metrics, java_producer_metrics, librdkafka_metrics, parse_last_json  # noqa: E402
from plot import Row, log_plot, ticks  # noqa: E402
from progress import Progress, clock  # noqa: E402
from session import LONG, SHORT, Options  # noqa: E402
from workloads import Fetch, JavaProducer, Librdkafka, Produce, Restart  # noqa: E402


def runs(metric: str, *values: float) -> list[dict[str, float]]:
    return [{metric: value} for value in values]


class Figures(unittest.TestCase):
    def test_a_ratio_is_of_the_two_turns_of_a_round(self) -> None:
        # The machine got slower: both sides halve, the ratio stays.
        found = ratios(runs("bytes_per_second", 80, 40, 20), runs("bytes_per_second", 10, 5, 2), "bytes_per_second")
        self.assertEqual(found, Spread(8, 8, 10))

    def test_a_round_that_one_side_lacks_does_not_count(self) -> None:
        self.assertEqual(ratios(runs("p50_ms", 1, 2), runs("p50_ms", 2), "p50_ms"), Spread(0.5, 0.5, 0.5))
        self.assertIsNone(ratios([], runs("p50_ms", 2), "p50_ms"))

    def test_a_bar_is_met_by_the_median_ratio(self) -> None:
        bar = Bar("cpu_s_per_gb", "<=", 0.1)
        self.assertEqual(judge(bar, runs("cpu_s_per_gb", 0.5, 0.6, 9), runs("cpu_s_per_gb", 7, 7, 7), []).word(), "met")
        self.assertEqual(judge(bar, runs("cpu_s_per_gb", 0.5, 1.6, 9), runs("cpu_s_per_gb", 7, 7, 7), []).word(), "missed")

    def test_a_bar_is_also_met_at_the_ceiling(self) -> None:
        own, peer = runs("bytes_per_second", 860, 870), runs("bytes_per_second", 200, 200)
        bar = Bar("bytes_per_second", ">=", 8, ceiling=True)
        self.assertEqual(judge(bar, own, peer, [1000, 1000]).word(), "met at the ceiling")
        self.assertEqual(judge(bar, own, peer, [1100, 1100]).word(), "missed")
        self.assertEqual(judge(Bar("bytes_per_second", ">=", 8), own, peer, [1000]).word(), "missed")

    def test_a_ceiling_of_nothing_is_none(self) -> None:
        bar = Bar("bytes_per_second", ">=", 8, ceiling=True)
        self.assertEqual(judge(bar, runs("bytes_per_second", 90), runs("bytes_per_second", 10), [0]).word(), "met")

    def test_an_absolute_bar_needs_no_peer(self) -> None:
        bar = Bar("slowdown", "<=", 2, absolute=True)
        self.assertEqual(judge(bar, runs("slowdown", 1.5), [], []).word(), "met")
        self.assertEqual(judge(bar, [], [], []).word(), "not measured")

    def test_a_loss_is_named_whichever_way_is_better(self) -> None:
        self.assertEqual(standing("bytes_per_second", Spread(0.9, 0.9, 0.9)), "loss")
        self.assertEqual(standing("p99_ms", Spread(1.2, 1, 2)), "loss")
        self.assertEqual(standing("p99_ms", Spread(1.02, 1, 2)), "even")
        self.assertEqual(standing("p99_ms", Spread(0.5, 0.1, 2)), "win")

    def test_what_is_written_twice_shares_the_device(self) -> None:
        self.assertAlmostEqual(written_twice(1000, 1000), 500)
        self.assertEqual(rounded(123456.0), 123500.0)


class Table(unittest.TestCase):
    def options(self, form: tuple[float, float, int, float]) -> Options:
        seconds, warm_seconds, rounds, data_scale = form
        return Options(Path("."), Path("."), rounds, seconds, warm_seconds, 1.0, data_scale, 1, "6g", None)

    def test_there_are_few_cells_with_names_of_their_own(self) -> None:
        names = [cell.name for cell in CELLS]
        self.assertEqual(len(set(names)), len(names))
        self.assertLessEqual(len(names), CELLS_MAX)
        self.assertEqual(sum(cell.short for cell in CELLS), SHORT_CELLS)

    def test_every_cell_is_of_a_class_and_every_bar_of_a_metric(self) -> None:
        for cell in CELLS:
            self.assertIn(cell.durability, DURABILITIES, cell.name)
            self.assertIn(cell.ceiling, ("", "single", "double", "read"), cell.name)
            for bar in cell.bars:
                self.assertIn(bar.metric, METRICS, cell.name)
                self.assertIn(bar.relation, (">=", "<="), cell.name)
                self.assertFalse(bar.ceiling and not cell.ceiling, f"{cell.name}: a bar at a ceiling that nobody takes")
            if cell.own_only:
                self.assertTrue(all(bar.absolute for bar in cell.bars), cell.name)

    def test_the_classes_mean_the_same_on_both_sides(self) -> None:
        self.assertEqual(DURABILITIES["written"][:2], ({"ringtail.durability": "written"}, {}))
        self.assertEqual(DURABILITIES["flushed"][:2], ({"ringtail.durability": "flushed"}, {"flush.messages": "1"}))
        for cell in CELLS:
            named = "apart" if cell.name.startswith("apart") else cell.durability
            self.assertEqual(cell.durability, named, f"{cell.name}: a durable side against another says so in its name")

    def test_every_value_that_was_asked_for_is_in_some_cell(self) -> None:
        loads = [cell.workload for cell in CELLS]
        produce = [load for load in loads if isinstance(load, Produce)]
        clients = [load for load in loads if isinstance(load, (Librdkafka, JavaProducer))]
        self.assertLessEqual({1, 16, 256, 2000}, {load.partitions for load in (*produce, *clients)})
        self.assertLessEqual({1, 16, 64}, {load.connections for load in produce} | {load.producers for load in clients if isinstance(load, Librdkafka)})
        self.assertLessEqual({100, 1024, 10240}, {load.record_bytes for load in (*produce, *clients)})
        self.assertLessEqual({1, 16, 125, 1000}, {load.records for load in produce})
        self.assertLessEqual({1, -1}, {load.acks for load in produce})
        self.assertLessEqual({"none", "lz4"}, {load.codec for load in clients})
        self.assertTrue(any(load.cold for load in loads if isinstance(load, Fetch)))
        self.assertTrue(any(load.followers and load.retention_bytes for load in produce))

    def test_the_forms_take_no_longer_than_they_say(self) -> None:
        long, short = self.options(LONG), self.options(SHORT)
        self.assertLess(sum(map(long.estimate, CELLS)), 2 * 3600)
        self.assertLess(sum(short.estimate(cell) for cell in CELLS if cell.short), 15 * 60)


class Printed(unittest.TestCase):
    def test_ringtail_bench(self) -> None:
        printed = ('{"workload":"produce","seconds":2.0,"requests":1000,"records":16000,"bytes":16000000,"errors":0,'
                   '"latency_ms":{"p50":0.1,"p99":0.5,"p99.9":1,"max":2,"mean":0.2},"broker_cpu_seconds":0.4}')
        found = bench_metrics(parse_last_json("noise\n" + printed))
        self.assertEqual(found["bytes_per_second"], 8e6)
        self.assertAlmostEqual(found["cpu_s_per_gb"], 25)
        self.assertAlmostEqual(found["cpu_s_per_million_requests"], 400)
        self.assertEqual(found["p999_ms"], 1)
        with self.assertRaises(LoadError):
            bench_metrics({"seconds": 1, "requests": 0})
        with self.assertRaises(LoadError):
            parse_last_json("nothing")

    def test_the_java_producer_counts_its_steady_state(self) -> None:
        printed = (
            "20000 records sent, 9000.0 records/sec (8.79 MB/sec), 9.31 ms avg latency, 300.00 ms max latency, 3 ms 50th, 9 ms 95th, 9 ms 99th, 9 ms 99.9th.\n"
            "80000 steady state records sent, 50000.5 records/sec (48.83 MB/sec), 1.31 ms avg latency, 87.00 ms max latency, "
            "1 ms 50th, 4 ms 95th, 10 ms 99th, 20 ms 99.9th.\n"
        )
        found = java_producer_metrics(printed, 1024, 2.0, 100000)
        self.assertAlmostEqual(found["records_per_second"], 50000.5)
        self.assertEqual((found["p50_ms"], found["p99_ms"], found["p999_ms"], found["max_ms"]), (1, 10, 20, 87))
        self.assertAlmostEqual(found["cpu_s_per_gb"], 2.0 / 0.1024)

    def test_the_java_consumer(self) -> None:
        printed = ("start.time, end.time, data.consumed.in.MB, MB.sec, data.consumed.in.nMsg, nMsg.sec, rebalance.time.ms, fetch.time.ms, fetch.MB.sec, fetch.nMsg.sec\n"
                   "2026-11-29 12:00:00:000, 2026-11-29 12:00:02:000, 100.0, 50.0, 102400, 51200.0, 1000, 1000, 100.0, 102400.0\n")
        found = java_consumer_metrics(printed, None)
        self.assertEqual(found["bytes_per_second"], 100 * 1048576)
        self.assertNotIn("cpu_s_per_gb", found)
        with self.assertRaises(LoadError):
            java_consumer_metrics("start.time, end.time\n", None)

    def test_librdkafka(self) -> None:
        result = {"seconds": 2.0, "records": 10, "bytes": 2000, "errors": 0, "total_records": 20, "total_bytes": 4000, "total_requests": 4}
        self.assertAlmostEqual(librdkafka_metrics(result, 0.4)["cpu_s_per_gb"], 0.4 / 4e-6)


def result(own: list[dict[str, float]], peer: list[dict[str, float]], errors: dict[str, str] | None = None) -> dict[str, Any]:
    return {"began": 0, "seconds": 1, "brokers": {"own": "ringtail 0.1.0", "peer": "Apache Kafka 4.3.1, heap 6g"}, "runs": {"own": own, "peer": peer},
            "ceilings": [1e9], "errors": errors or {}, "commands": ["ringtail start"], "key": ""}


CONTEXT = {"date": "2026-11-29", "commit": "abc", "form": "short form", "wanted": 3, "rounds": 1, "seconds": 5.0, "peer": "Apache Kafka", "warnings": ["busy"],
           "machine": {"CPU": "some"}, "versions": ["ringtail 0.1.0"], "command": "bench/compare/run --short"}


class Restarts(unittest.TestCase):
    def restart(self, error: str) -> tuple[Any, Any]:
        site = mock.MagicMock(data_scale=1.0)
        site.broker = mock.MagicMock(spec=Managed)
        site.loads.probe.side_effect = LoadError(error)
        with mock.patch("workloads.Background") as load, mock.patch("workloads.time.sleep"):
            load.return_value.process.poll.return_value = None
            return site.broker, Restart(seconds_max=240).measure(site)

    def test_a_broker_that_does_not_come_counts_as_long_as_was_waited(self) -> None:
        broker, run = self.restart("not there after 240 s")
        self.assertEqual(run, {"last_acknowledged_ms": 240_000})
        broker.start.assert_called_once()

    def test_a_probe_that_fails_is_no_figure(self) -> None:
        with self.assertRaises(LoadError):
            self.restart("connection refused")


class Reports(unittest.TestCase):
    def rows(self) -> list[tuple[Cell, dict[str, Any]]]:
        fast = {"bytes_per_second": 8e8, "cpu_s_per_gb": 0.5, "p99_ms": 1.0, "errors": 0.0}
        slow = {"bytes_per_second": 1e8, "cpu_s_per_gb": 6.0, "p99_ms": 9.0, "errors": 3.0}
        return [
            (by_name("produce-16k"), result([fast], [slow])),
            (by_name("warm-fetch"), result([slow], [fast])),
            (by_name("java-consumer"), result([], [fast], {"own": "LoadError: no groups\nmore"})),
        ]

    def test_losses_come_before_everything_else(self) -> None:
        text = report.markdown(self.rows(), CONTEXT)
        self.assertLess(text.index("## Losses"), text.index("## All rows"))
        losses = text[text.index("## Losses"):text.index("## All rows")]
        self.assertIn("**warm-fetch**", losses)
        self.assertIn("bar missed: throughput, MB/s: ≥ 1; reached ratio 0.125", losses)
        self.assertIn("ringtail 0.1.0 did not run it: `LoadError: no groups`", losses)
        self.assertNotIn("produce-16k", losses)
        self.assertIn("refused 3 requests", text)
        self.assertIn("> busy", text)

    def test_the_json_holds_every_run_and_verdict(self) -> None:
        parsed = json.loads(report.as_json(self.rows(), CONTEXT))
        self.assertEqual([cell["name"] for cell in parsed["cells"]], ["produce-16k", "warm-fetch", "java-consumer"])
        self.assertEqual(parsed["cells"][0]["verdicts"][0]["verdict"], "met")
        self.assertEqual(parsed["cells"][0]["runs"]["own"][0]["cpu_s_per_gb"], 0.5)

    def test_plots_are_well_formed(self) -> None:
        for name, text in report.plots(self.rows(), "Apache <Kafka>").items():
            self.assertTrue(name.endswith(".svg"))
            ElementTree.fromstring(text)
        ElementTree.fromstring(log_plot("empty", "x", []))
        row = Row("a & b", ((Spread(1, 0.5, 2000), "own"),), 3, "1")
        self.assertIn("a &amp; b", log_plot("t", "x", [row], 1.0))

    def test_ticks_lie_within(self) -> None:
        self.assertEqual(ticks(0.3, 30), [0.5, 1, 2, 5, 10, 20])
        self.assertEqual(ticks(0.5, 200000), [1, 10, 100, 1000, 10000, 100000])


class TimeLeft(unittest.TestCase):
    def test_what_is_left_is_what_was_not_done(self) -> None:
        progress = Progress({"a": 100, "b": 50})
        self.assertAlmostEqual(progress.left(), 150, delta=1)
        progress.start("a")
        self.assertAlmostEqual(progress.left(), 150, delta=1)
        self.assertEqual((clock(75), clock(3675)), ("1:15", "1:01:15"))


if __name__ == "__main__":
    unittest.main()
