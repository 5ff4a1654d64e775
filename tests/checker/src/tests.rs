//! Each anomaly is planted in a hand-made history and must come out as its own class and nothing else.

use std::time::Duration;

use super::*;

const P: Partition = Partition(0);
const FINAL: Reader = Reader(99);

fn record(sequence: u64) -> Record {
    Record {
        producer: Producer(1),
        sequence,
    }
}

/// Writes a history with one event per millisecond.
struct Script {
    history: History,
    now: Duration,
}

impl Script {
    fn new() -> Script {
        let mut history = History::new();
        history.idempotent(Producer(1));
        Script {
            history,
            now: Duration::ZERO,
        }
    }

    fn push(mut self, event: Event) -> Script {
        self.now += Duration::from_millis(1);
        self.history.push(self.now, event);
        self
    }

    fn sent(self, sequence: u64) -> Script {
        self.push(Event::Sent {
            partition: P,
            record: record(sequence),
        })
    }

    fn acked(self, sequence: u64, offset: u64) -> Script {
        self.push(Event::Acked {
            record: record(sequence),
            offset,
        })
    }

    fn unknown(self, sequence: u64) -> Script {
        self.push(Event::Indeterminate {
            record: record(sequence),
        })
    }

    fn seeked(self, reader: Reader, offset: u64) -> Script {
        self.push(Event::Seeked {
            reader,
            partition: P,
            offset,
        })
    }

    fn read(self, reader: Reader, offset: u64, sequence: u64) -> Script {
        self.push(Event::Read {
            reader,
            partition: P,
            offset,
            content: Content::Record(record(sequence)),
        })
    }

    fn mark(self, mark: Mark, offset: u64) -> Script {
        let reader = Reader(7);
        self.push(Event::MarkAsked {
            reader,
            partition: P,
            mark,
        })
        .push(Event::MarkSeen {
            reader,
            partition: P,
            mark,
            offset,
        })
    }

    /// A power cut that may take what came within `window_ms`, and where the log went on.
    fn cut(self, window_ms: u64, end: u64) -> Script {
        self.push(Event::Cut {
            partition: P,
            window: Duration::from_millis(window_ms),
        })
        .push(Event::Kept { partition: P, end })
    }

    /// The last whole read: `content[i]` is at the i-th offset of the pairs.
    fn finally(self, end: u64, content: &[(u64, u64)]) -> Script {
        let mut script = self.seeked(FINAL, 0);
        for &(offset, sequence) in content {
            script = script.read(FINAL, offset, sequence);
        }
        script.push(Event::ReadThrough {
            reader: FINAL,
            partition: P,
            start: 0,
            end,
        })
    }

    fn classes(&self) -> Vec<&'static str> {
        check(&self.history).anomalies.iter().map(Anomaly::class).collect()
    }
}

#[test]
fn a_faultless_history_is_clean() {
    let script = Script::new()
        .sent(0)
        .sent(1)
        .acked(0, 0)
        .seeked(Reader(1), 0)
        .read(Reader(1), 0, 0)
        .mark(Mark::End, 1)
        .acked(1, 1)
        .mark(Mark::End, 2)
        .sent(2)
        .read(Reader(1), 1, 1)
        .unknown(2)
        .push(Event::Healed {
            answer_within: Duration::from_secs(10),
        })
        .sent(3)
        .acked(3, 2)
        .finally(3, &[(0, 0), (1, 1), (2, 3)]);
    assert_eq!(script.classes(), [""; 0]);
    let report = check(&script.history);
    assert_eq!(
        (
            report.sent_count,
            report.acked_count,
            report.indeterminate_count,
            report.read_count
        ),
        (4, 3, 1, 5)
    );
}

#[test]
fn an_indeterminate_send_may_be_there_or_not() {
    let sent = || Script::new().sent(0).unknown(0);
    assert_eq!(sent().finally(0, &[]).classes(), [""; 0]);
    assert_eq!(sent().finally(1, &[(0, 0)]).classes(), [""; 0]);
}

#[test]
fn lost_in_the_middle_at_the_end_and_after_a_read() {
    let three = || {
        Script::new()
            .sent(0)
            .sent(1)
            .sent(2)
            .acked(0, 0)
            .acked(1, 1)
            .acked(2, 2)
    };
    assert_eq!(three().finally(3, &[(0, 0), (2, 2)]).classes(), ["lost"]);
    assert_eq!(three().finally(2, &[(0, 0), (1, 1)]).classes(), ["lost"]);
    let read = Script::new()
        .sent(0)
        .unknown(0)
        .seeked(Reader(1), 0)
        .read(Reader(1), 0, 0);
    assert_eq!(read.finally(0, &[]).classes(), ["lost"]);
}

#[test]
fn what_is_acknowledged_after_the_whole_read_began_is_not_missed() {
    let script = Script::new().sent(0).finally(0, &[]).acked(0, 0);
    assert_eq!(script.classes(), [""; 0]);
}

#[test]
fn misplaced() {
    let script = Script::new().sent(0).acked(0, 5).finally(1, &[(0, 0)]);
    assert_eq!(script.classes(), ["misplaced"]);
}

#[test]
fn two_values_among_readers_among_acks_and_between() {
    let sent = || Script::new().sent(0).sent(1).unknown(0).unknown(1);
    let readers = sent().seeked(Reader(1), 0).read(Reader(1), 0, 0).finally(1, &[(0, 1)]);
    assert_eq!(readers.classes(), ["two values"]);
    let acks = Script::new()
        .sent(0)
        .sent(1)
        .acked(0, 0)
        .acked(1, 0)
        .finally(1, &[(0, 0)]);
    assert_eq!(acks.classes(), ["two values"]);
    let between = Script::new()
        .sent(0)
        .sent(1)
        .acked(0, 0)
        .unknown(1)
        .finally(1, &[(0, 1)]);
    assert_eq!(between.classes(), ["two values"]);
}

#[test]
fn hole() {
    let script = Script::new()
        .sent(0)
        .sent(1)
        .unknown(0)
        .unknown(1)
        .finally(3, &[(0, 0), (2, 1)]);
    assert_eq!(script.classes(), ["hole"]);
    assert_eq!(Script::new().finally(1, &[]).classes(), ["hole"]);
    assert_eq!(Script::new().finally(0, &[]).classes(), [""; 0]);
}

#[test]
fn control_records_fill_their_offset() {
    let script = Script::new()
        .seeked(FINAL, 0)
        .push(Event::Read {
            reader: FINAL,
            partition: P,
            offset: 0,
            content: Content::Control,
        })
        .push(Event::ReadThrough {
            reader: FINAL,
            partition: P,
            start: 0,
            end: 1,
        });
    assert_eq!(script.classes(), [""; 0]);
}

#[test]
fn acknowledged_below_what_was_known_before_the_send() {
    let acked_before = Script::new().sent(0).acked(0, 4).sent(1).acked(1, 3);
    assert_eq!(acked_before.classes(), ["not above"]);
    let read_before = Script::new()
        .sent(0)
        .unknown(0)
        .seeked(Reader(1), 4)
        .read(Reader(1), 4, 0)
        .sent(1)
        .acked(1, 4);
    assert_eq!(read_before.classes(), ["not above"]);
    let concurrent = Script::new().sent(0).sent(1).acked(0, 4).acked(1, 3);
    assert_eq!(concurrent.classes(), [""; 0]);
}

#[test]
fn marks_that_go_back() {
    for mark in [Mark::End, Mark::LastStable, Mark::LogStart] {
        assert_eq!(Script::new().mark(mark, 5).mark(mark, 4).classes(), ["went back"]);
    }
    assert_eq!(
        Script::new().sent(0).acked(0, 9).mark(Mark::End, 9).classes(),
        ["went back"]
    );
    let overlapping = Script::new()
        .push(Event::MarkAsked {
            reader: Reader(1),
            partition: P,
            mark: Mark::End,
        })
        .mark(Mark::End, 5)
        .push(Event::MarkSeen {
            reader: Reader(1),
            partition: P,
            mark: Mark::End,
            offset: 4,
        });
    assert_eq!(overlapping.classes(), [""; 0]);
}

#[test]
fn read_what_nobody_sent() {
    let unknown_record = Script::new().finally(1, &[(0, 77)]);
    assert_eq!(unknown_record.classes(), ["never sent"]);
    let foreign = Event::Read {
        reader: Reader(1),
        partition: P,
        offset: 0,
        content: Content::Foreign(1),
    };
    assert_eq!(Script::new().push(foreign).classes(), ["never sent"]);
    let elsewhere = Event::Read {
        reader: Reader(1),
        partition: Partition(1),
        offset: 0,
        content: Content::Record(record(0)),
    };
    assert_eq!(
        Script::new().sent(0).unknown(0).push(elsewhere).classes(),
        ["never sent"]
    );
}

#[test]
fn read_before_it_was_sent() {
    let script = Script::new()
        .seeked(Reader(1), 0)
        .read(Reader(1), 0, 0)
        .sent(0)
        .acked(0, 0)
        .finally(1, &[(0, 0)]);
    assert_eq!(script.classes(), ["read before sent"]);
}

#[test]
fn read_although_refused() {
    let script = Script::new()
        .sent(0)
        .push(Event::Refused { record: record(0) })
        .finally(1, &[(0, 0)]);
    assert_eq!(script.classes(), ["refused but read"]);
}

#[test]
fn duplicated_counts_for_idempotent_producers_only() {
    let twice = |script: Script| script.sent(0).acked(0, 0).finally(2, &[(0, 0), (1, 0)]);
    assert_eq!(twice(Script::new()).classes(), ["duplicated"]);
    let plain = Script {
        history: History::new(),
        now: Duration::ZERO,
    };
    assert_eq!(twice(plain).classes(), [""; 0]);
}

#[test]
fn reordered_counts_for_idempotent_producers_only() {
    let swapped = |script: Script| {
        script
            .sent(0)
            .sent(1)
            .acked(1, 0)
            .acked(0, 1)
            .finally(2, &[(0, 1), (1, 0)])
    };
    assert_eq!(swapped(Script::new()).classes(), ["reordered"]);
    let plain = Script {
        history: History::new(),
        now: Duration::ZERO,
    };
    assert_eq!(swapped(plain).classes(), [""; 0]);
}

#[test]
fn a_reader_that_skips_or_steps_back() {
    let log = || {
        Script::new()
            .sent(0)
            .sent(1)
            .acked(0, 0)
            .acked(1, 1)
            .seeked(Reader(1), 0)
    };
    let skips = log().read(Reader(1), 1, 1).finally(2, &[(0, 0), (1, 1)]);
    assert_eq!(skips.classes(), ["skipped"]);
    let back = log()
        .read(Reader(1), 0, 0)
        .read(Reader(1), 0, 0)
        .finally(2, &[(0, 0), (1, 1)]);
    assert_eq!(back.classes(), ["skipped"]);
    let sought = log()
        .read(Reader(1), 0, 0)
        .seeked(Reader(1), 0)
        .read(Reader(1), 0, 0)
        .finally(2, &[(0, 0), (1, 1)]);
    assert_eq!(sought.classes(), [""; 0]);
}

#[test]
fn unanswered_after_the_last_heal() {
    let healed = Event::Healed {
        answer_within: Duration::from_millis(2),
    };
    assert_eq!(Script::new().sent(0).push(healed).classes(), ["unanswered"]);
    let late = Script::new().push(healed).sent(0).mark(Mark::End, 0).acked(0, 0);
    assert_eq!(late.classes(), ["unanswered"]);
    let in_time = Script::new()
        .sent(0)
        .mark(Mark::End, 0)
        .mark(Mark::End, 0)
        .push(healed)
        .acked(0, 0);
    assert_eq!(in_time.classes(), [""; 0]);
}

#[test]
fn deleted_below_the_log_start_is_not_lost() {
    let script = Script::new()
        .sent(0)
        .sent(1)
        .acked(0, 0)
        .acked(1, 1)
        .seeked(FINAL, 1)
        .read(FINAL, 1, 1)
        .push(Event::ReadThrough {
            reader: FINAL,
            partition: P,
            start: 1,
            end: 2,
        });
    assert_eq!(script.classes(), [""; 0]);
}

#[test]
#[should_panic(expected = "answers no open send")]
fn an_answer_needs_its_send() {
    Script::new().acked(0, 0);
}

#[test]
#[should_panic(expected = "1 anomalies (1 sent, 1 acknowledged")]
fn a_report_is_loud() {
    check(&Script::new().sent(0).acked(0, 0).finally(0, &[]).history).assert_clean("seed 1");
}

/// Three records acknowledged and read, and marks that say so: the last of them just now.
fn three_known() -> Script {
    let mut script = Script::new().seeked(Reader(1), 0);
    for i in 0..3 {
        script = script.sent(i).acked(i, i).read(Reader(1), i, i).mark(Mark::End, i + 1);
    }
    script
}

#[test]
fn what_a_cut_took_within_its_window_is_forgiven() {
    // The third one's ack, read and marks are the last four milliseconds.
    let cut = three_known().cut(6, 2);
    assert_eq!(cut.finally(2, &[(0, 0), (1, 1)]).classes(), [""; 0]);
    // Its offset goes to another, its producer sends it again, the end begins to rise anew.
    let again = three_known()
        .cut(6, 2)
        .mark(Mark::End, 2)
        .sent(3)
        .acked(3, 2)
        .mark(Mark::End, 3)
        .finally(4, &[(0, 0), (1, 1), (2, 3), (3, 2)]);
    assert_eq!(again.classes(), ["reordered"], "an order of sends is still kept");
    let other = three_known()
        .cut(6, 2)
        .sent(3)
        .acked(3, 2)
        .finally(3, &[(0, 0), (1, 1), (2, 3)]);
    assert_eq!(other.classes(), [""; 0]);
    let same_without_a_cut = three_known().sent(3).acked(3, 2).finally(3, &[(0, 0), (1, 1), (2, 3)]);
    assert_eq!(same_without_a_cut.classes(), ["two values", "two values", "not above"]);
}

#[test]
fn what_a_cut_took_from_before_its_window_is_lost() {
    let script = three_known().cut(6, 1);
    assert_eq!(script.finally(1, &[(0, 0)]).classes(), ["lost"], "the second, once");
    let read_only = Script::new()
        .sent(0)
        .unknown(0)
        .seeked(Reader(1), 0)
        .read(Reader(1), 0, 0)
        .cut(0, 0)
        .finally(0, &[]);
    assert_eq!(read_only.classes(), ["lost"]);
    let end_only = Script::new().mark(Mark::End, 1).cut(0, 0).finally(0, &[]);
    assert_eq!(end_only.classes(), ["went back"]);
}

#[test]
fn below_the_end_that_was_kept_a_cut_excuses_nothing() {
    let script = three_known().cut(1_000, 2);
    assert_eq!(script.finally(2, &[(1, 1)]).classes(), ["lost"]);
    let later = three_known()
        .cut(6, 2)
        .sent(3)
        .acked(3, 2)
        .cut(0, 3)
        .finally(2, &[(0, 0), (1, 1)]);
    assert_eq!(later.classes(), ["lost"], "acknowledged between two cuts");
}

#[test]
fn an_end_told_after_two_cuts_holds_for_both() {
    let cut = Event::Cut {
        partition: P,
        window: Duration::from_millis(8),
    };
    let script = three_known().push(cut).cut(1, 2);
    assert_eq!(script.finally(2, &[(0, 0), (1, 1)]).classes(), [""; 0]);
}

#[test]
#[should_panic(expected = "nobody told where")]
fn a_cut_needs_its_end() {
    let cut = Event::Cut {
        partition: P,
        window: Duration::ZERO,
    };
    Script::new().push(cut).classes();
}

#[test]
#[should_panic(expected = "answers no cut")]
fn an_end_needs_its_cut() {
    Script::new().push(Event::Kept { partition: P, end: 0 }).classes();
}
