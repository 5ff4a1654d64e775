//! Which leader epoch began where (KIP-101, KIP-320), and Kafka's `leader-epoch-checkpoint` text file. Pure.

use super::codec::{Fields, PutFields};

/// Epochs in rising order, each with the offset of its first batch.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Epochs {
    starts: Vec<(i32, i64)>,
}

impl Epochs {
    /// A batch of `epoch` was appended at `offset`: remembers it if the epoch is new.
    pub fn note(&mut self, epoch: i32, offset: i64) {
        if self.starts.last().is_none_or(|&(last, _)| epoch > last) {
            self.starts.push((epoch, offset));
        }
    }

    /// The largest epoch not above `epoch` and where it ends; `None` when nothing is known. An epoch older than all that are known ended
    /// where the first of these begins, as in Kafka: retention deleted it, and who read it to its end goes on from there.
    pub fn end_of(&self, epoch: i32, log_end: i64) -> Option<(i32, i64)> {
        let after = self.starts.partition_point(|&(e, _)| e <= epoch);
        let end = self.starts.get(after).map_or(log_end, |&(_, start)| start);
        match after.checked_sub(1) {
            Some(found) => Some((self.starts[found].0, end)),
            None => (epoch >= 0 && !self.starts.is_empty()).then_some((epoch, end)),
        }
    }

    pub fn latest(&self) -> Option<i32> {
        self.starts.last().map(|&(epoch, _)| epoch)
    }

    /// Forgets epochs that begin at or above `end`.
    pub fn truncate(&mut self, end: i64) {
        self.starts.retain(|&(_, start)| start < end);
    }

    /// Forgets epochs that lie wholly below `log_start`; the one that covers it now begins there.
    pub fn trim(&mut self, log_start: i64) {
        let covering = self.starts.partition_point(|&(_, start)| start <= log_start);
        if covering > 1 {
            self.starts.drain(..covering - 1);
        }
        if let Some(first) = self.starts.first_mut() {
            first.1 = first.1.max(log_start);
        }
    }

    /// The text of Kafka's `leader-epoch-checkpoint`: version 0, the count, then `epoch start` lines.
    pub fn to_text(&self) -> String {
        let mut text = format!("0\n{}\n", self.starts.len());
        for (epoch, start) in &self.starts {
            text.push_str(&format!("{epoch} {start}\n"));
        }
        text
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_u32(self.starts.len() as u32);
        for &(epoch, start) in &self.starts {
            out.put_i32(epoch);
            out.put_i64(start);
        }
    }

    pub fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        let count = fields.u32()?;
        let mut epochs = Self::default();
        for _ in 0..count {
            let (epoch, start) = (fields.i32()?, fields.i64()?);
            if epochs.starts.last().is_some_and(|&(e, s)| e >= epoch || s > start) {
                return None;
            }
            epochs.starts.push((epoch, start));
        }
        Some(epochs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_ends_where_the_next_begins() {
        let mut epochs = Epochs::default();
        for (epoch, offset) in [(1, 0), (1, 5), (3, 10), (4, 20)] {
            epochs.note(epoch, offset);
        }
        assert_eq!(epochs.end_of(0, 30), Some((0, 0)));
        assert_eq!(epochs.end_of(-1, 30), None);
        assert_eq!(Epochs::default().end_of(0, 30), None);
        assert_eq!(epochs.end_of(1, 30), Some((1, 10)));
        assert_eq!(epochs.end_of(2, 30), Some((1, 10)));
        assert_eq!(epochs.end_of(9, 30), Some((4, 30)));
        assert_eq!(epochs.to_text(), "0\n3\n1 0\n3 10\n4 20\n");
        epochs.trim(12);
        assert_eq!(epochs.to_text(), "0\n2\n3 12\n4 20\n");
        assert_eq!(epochs.end_of(1, 30), Some((1, 12)), "who read it to its end goes on");
        epochs.truncate(20);
        assert_eq!(epochs.latest(), Some(3));
        let mut bytes = Vec::new();
        epochs.encode(&mut bytes);
        assert_eq!(Epochs::decode(&mut Fields(&bytes)), Some(epochs));
    }
}
