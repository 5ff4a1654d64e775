//! The classes of anomaly, and the report.

use std::fmt;

use crate::history::{Content, Event, History, Mark, Partition, Reader, Record};

/// Why a record was expected to be readable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Evidence {
    Acknowledged,
    ReadBefore,
}

/// One broken rule, with what is needed to find it in the history. The numbers of the rules are on the crate's page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Anomaly {
    /// Rule 1: the last whole read does not have it.
    Lost {
        partition: Partition,
        offset: u64,
        content: Content,
        evidence: Evidence,
    },
    /// Rule 1: acknowledged at one offset, readable at another only.
    Misplaced {
        partition: Partition,
        record: Record,
        acked_at: u64,
        read_at: u64,
    },
    /// Rule 2.
    TwoValues {
        partition: Partition,
        offset: u64,
        first: Content,
        second: Content,
    },
    /// Rule 3: nothing is known of this offset, below the end.
    Hole { partition: Partition, offset: u64 },
    /// Rule 4: `known` was acknowledged or read before the send began.
    NotAbove {
        partition: Partition,
        record: Record,
        offset: u64,
        known: u64,
    },
    /// Rule 5.
    WentBack {
        partition: Partition,
        mark: Mark,
        from: u64,
        to: u64,
    },
    /// Rule 6.
    NeverSent {
        partition: Partition,
        offset: u64,
        content: Content,
    },
    /// Rule 6.
    ReadBeforeSent {
        partition: Partition,
        offset: u64,
        record: Record,
    },
    /// Rule 6.
    RefusedButRead {
        partition: Partition,
        offset: u64,
        record: Record,
    },
    /// Rule 7.
    Duplicated {
        partition: Partition,
        record: Record,
        first: u64,
        second: u64,
    },
    /// Rule 7: `earlier` was sent before `later`, and has the higher offset.
    Reordered {
        partition: Partition,
        earlier: (Record, u64),
        later: (Record, u64),
    },
    /// Rule 8: the next record was to be at `expected`.
    Skipped {
        reader: Reader,
        partition: Partition,
        expected: u64,
        offset: u64,
    },
    /// Rule 9.
    Unanswered { record: Record },
}

impl Anomaly {
    /// The name of the class.
    pub fn class(&self) -> &'static str {
        match self {
            Anomaly::Lost { .. } => "lost",
            Anomaly::Misplaced { .. } => "misplaced",
            Anomaly::TwoValues { .. } => "two values",
            Anomaly::Hole { .. } => "hole",
            Anomaly::NotAbove { .. } => "not above",
            Anomaly::WentBack { .. } => "went back",
            Anomaly::NeverSent { .. } => "never sent",
            Anomaly::ReadBeforeSent { .. } => "read before sent",
            Anomaly::RefusedButRead { .. } => "refused but read",
            Anomaly::Duplicated { .. } => "duplicated",
            Anomaly::Reordered { .. } => "reordered",
            Anomaly::Skipped { .. } => "skipped",
            Anomaly::Unanswered { .. } => "unanswered",
        }
    }
}

/// The verdict on a history, with enough figures to see that the history was worth judging.
pub struct Report {
    pub anomalies: Vec<Anomaly>,
    pub sent_count: u64,
    pub acked_count: u64,
    pub indeterminate_count: u64,
    pub read_count: u64,
}

impl Report {
    pub(crate) fn new(history: &History, anomalies: Vec<Anomaly>) -> Report {
        let mut report = Report {
            anomalies,
            sent_count: 0,
            acked_count: 0,
            indeterminate_count: 0,
            read_count: 0,
        };
        for event in history.events() {
            match event {
                Event::Sent { .. } => report.sent_count += 1,
                Event::Acked { .. } => report.acked_count += 1,
                Event::Indeterminate { .. } => report.indeterminate_count += 1,
                Event::Read { .. } => report.read_count += 1,
                _ => {}
            }
        }
        report
    }

    /// # Panics
    /// If anything was found; the message lists the first of each class. `context` says how to run it again (seed).
    pub fn assert_clean(&self, context: &str) {
        assert!(self.anomalies.is_empty(), "{context}: {self}");
    }
}

/// How many anomalies of one class are written out.
const SHOWN_PER_CLASS: usize = 5;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report {
            anomalies,
            sent_count,
            acked_count,
            indeterminate_count,
            read_count,
        } = self;
        write!(
            f,
            "{} anomalies ({sent_count} sent, {acked_count} acknowledged, {indeterminate_count} indeterminate, {read_count} read)",
            anomalies.len()
        )?;
        let mut classes: Vec<&'static str> = anomalies.iter().map(Anomaly::class).collect();
        classes.sort_unstable();
        classes.dedup();
        for class in classes {
            let of_class = || anomalies.iter().filter(|anomaly| anomaly.class() == class);
            write!(f, "\n  {class}: {}", of_class().count())?;
            for anomaly in of_class().take(SHOWN_PER_CLASS) {
                write!(f, "\n    {anomaly:?}")?;
            }
        }
        Ok(())
    }
}
