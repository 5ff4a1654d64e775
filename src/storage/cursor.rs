//! Places in a log, and the five ends.

/// A batch boundary: the byte in a segment where the batch with `offset` begins, or will.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Cursor {
    /// The segment's base offset.
    pub segment: i64,
    /// Bytes from the segment's beginning.
    pub position: u64,
    pub offset: i64,
}

impl Cursor {
    /// The beginning of the segment whose base is `offset`.
    pub fn segment_start(offset: i64) -> Self {
        Self {
            segment: offset,
            position: 0,
            offset,
        }
    }
}

/// The ends of one partition's log, all exclusive offsets: `settled ≤ durable ≤ written ≤ appended`, and `log_start ≤ appended`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ends {
    /// The first offset that may be read.
    pub log_start: i64,
    /// Durable in the segment alone.
    pub settled: i64,
    /// Durable in segment plus journal.
    pub durable: i64,
    /// Survives the death of the process.
    pub written: i64,
    /// Assigned.
    pub appended: i64,
}

impl Ends {
    /// All ends at one offset: a log just opened.
    pub fn at(log_start: i64, end: i64) -> Self {
        Self {
            log_start,
            settled: end,
            durable: end,
            written: end,
            appended: end,
        }
        .checked()
    }

    fn checked(self) -> Self {
        // `settled` alone may trail the log start: a retention delete may overtake the settling of what it deletes.
        assert!(self.settled <= self.durable, "{self:?}");
        assert!(
            self.durable <= self.written && self.written <= self.appended,
            "{self:?}"
        );
        assert!(self.log_start <= self.appended, "{self:?}");
        self
    }

    /// The one place where an end moves: none goes back, and their order holds.
    pub fn advance(&mut self, change: impl FnOnce(&mut Self)) {
        let before = *self;
        change(self);
        let after = self.checked();
        assert!(
            before.log_start <= after.log_start && before.settled <= after.settled,
            "{before:?} -> {after:?}"
        );
        assert!(
            before.durable <= after.durable && before.written <= after.written,
            "{before:?} -> {after:?}"
        );
        assert!(before.appended <= after.appended, "{before:?} -> {after:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_advance_in_order() {
        let mut ends = Ends::at(0, 5);
        ends.advance(|e| (e.appended, e.written) = (9, 9));
        ends.advance(|e| e.durable = 7);
        assert_eq!(
            ends,
            Ends {
                log_start: 0,
                settled: 5,
                durable: 7,
                written: 9,
                appended: 9
            }
        );
    }

    #[test]
    #[should_panic(expected = "durable: 8")]
    fn nothing_is_durable_before_it_is_written() {
        Ends::at(0, 5).advance(|e| e.durable = 8);
    }

    #[test]
    #[should_panic(expected = "->")]
    fn no_end_goes_back() {
        Ends::at(0, 5).advance(|e| e.settled = 4);
    }
}
