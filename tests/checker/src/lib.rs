//! Judges what clients of a log broker saw: a [`History`] of sends, answers and reads goes in, a [`Report`] of [`Anomaly`]s comes out.
//!
//! The checker knows nothing about any broker. The tests that kill the broker under real clients and the simulator record the same
//! events, so the same rules judge both. A history is ordered by real time: an event stands behind everything that had *completed* before
//! it. Recording an answer later than it came only makes the judgement milder, recording a send later than it went out would make it wrong.
//!
//! What a broker must keep (each number is checked by the function named, and shown as one class of [`Anomaly`]):
//!
//! 1. acknowledged ⊆ readable, at its offset, and what was once read stays readable ([`Anomaly::Lost`], [`Anomaly::Misplaced`]; `readable.rs`);
//! 2. one value per (partition, offset), for every reader and for ever ([`Anomaly::TwoValues`]; `offsets.rs`);
//! 3. dense offsets, control records aside ([`Anomaly::Hole`]; `readable.rs`);
//! 4. an acknowledged offset is greater than every offset acknowledged or read before its send began ([`Anomaly::NotAbove`]; `realtime.rs`);
//! 5. the marks (end offset, last stable offset, log start) never go back, and the end is above all that was acknowledged or read
//!    ([`Anomaly::WentBack`]; `realtime.rs`);
//! 6. nothing is read that was never sent, before it was sent, or whose send was refused for certain ([`Anomaly::NeverSent`],
//!    [`Anomaly::ReadBeforeSent`], [`Anomaly::RefusedButRead`]; `readable.rs`);
//! 7. an idempotent producer's record is there once, in the order of its sends ([`Anomaly::Duplicated`], [`Anomaly::Reordered`];
//!    `producers.rs`);
//! 8. a reader gets every record in order from where it was put ([`Anomaly::Skipped`]; `readers.rs`);
//! 9. after the last heal every send is answered in time ([`Anomaly::Unanswered`]; `realtime.rs`).
//!
//! A log whose class promises less than the device may lose a suffix to a power cut ([`Event::Cut`], [`Event::Kept`]): of what was
//! known before, what lies above the end that was kept and is younger than the cut's window is forgiven, what is older is
//! [`Anomaly::Lost`], and what lies below stays as binding as ever (`cuts.rs`).
//!
//! One cause gives one class: a lost record leaves a hole, but only the loss is reported. A send without a clear answer (time-out, lost
//! connection, NOT_LEADER) is *indeterminate*: its record may be there or not. Transactions and consumer groups have rules of their own,
//! which are not here; logs with holes on purpose (compacted topics) are not for this checker.

mod anomaly;
mod cuts;
mod history;
mod offsets;
mod producers;
mod readable;
mod readers;
mod realtime;
#[cfg(test)]
mod tests;

pub use anomaly::{Anomaly, Evidence, Report};
pub use history::{Content, Event, History, Mark, Partition, Producer, Reader, Record};

/// Judges a whole history. The work is proportional to its events (times a logarithm).
pub fn check(history: &History) -> Report {
    let mut anomalies = Vec::new();
    let forgiven = cuts::forgive(history, &mut anomalies);
    let judged = forgiven.as_ref().unwrap_or(history);
    let offsets = offsets::observed(judged);
    offsets::one_value_each(&offsets, &mut anomalies);
    readable::check(judged, &offsets, &mut anomalies);
    producers::check(judged, &offsets, &mut anomalies);
    readers::check(judged, &offsets, &mut anomalies);
    realtime::check(judged, &mut anomalies);
    Report::new(history, anomalies)
}
