//! How a request reaches the partitions it names, on whichever shard they live.
//!
//! A handler asks the [`Router`] with a list of items, one per partition. The router splits the list by owning shard, runs
//! the local part at once, sends the others through the shards' bounded inboxes, and puts the outcomes back in order.
//! `local` is the part that runs on the owning shard.
//!
//! Invariants
//! 1. Appends of one connection reach each partition in the order of its requests: an append takes its place when
//!    `Local::execute` is called, inboxes keep order, and the connection's reader waits until all parts are handed over.
//!    One that is given up before it has room takes its producer's later ones with it.
//! 2. A shard's inbox is always drained: the receiving task never waits for another inbox (`shard::inbox`).
//! 3. Every call that is given up is taken back (`router::Call` removes its entry and cancels the wait on drop).
//!
//! Not for: opening and deleting partitions (`shard`), the wire protocol.

mod local;
mod plan;
mod router;
mod watched;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use smallvec::SmallVec;

pub use self::local::Local;
pub use self::router::{CONTROLLER_SHARD, Router};
use super::connection::Peer;
use super::limits::Counted;
use super::{Identity, Reader};
use crate::base::ids::PartitionId;
use crate::base::sync::Holder;
use crate::cluster::{Cluster, ClusterError, Command, Directory, Image, Record, Response};
use crate::io::{Env, Monotonic};
use crate::storage::{AppendError, Appended, LogSlice, ReadError, Recovered, TimedOffset};

/// What lies in a shard's inbox.
pub enum Envelope<E: Env> {
    Request {
        from: usize,
        id: u64,
        request: Request,
    },
    Reply {
        id: u64,
        reply: Reply,
    },
    /// The asker of a waiting `Read` wants what there is now; that of `Append` or `Offsets` wants nothing any more.
    Cancel {
        from: usize,
        id: u64,
    },
    /// A connection to serve.
    Adopt {
        stream: E::Detached,
        peer: Peer,
        counted: Counted,
    },
    /// The controller's shard knows the cluster: open the store.
    Begin(Box<Beginning<E>>),
    /// Every shard has its partitions open: listen.
    Serve {
        identity: Arc<Identity>,
        /// By listener.
        addresses: Vec<(usize, SocketAddr)>,
        /// Those of this shard alone.
        own_addresses: Vec<(usize, SocketAddr)>,
    },
    /// A shard has no connections left and sends no more requests.
    Quiet,
}

/// What the controller's shard found at start.
pub struct Beginning<E: Env> {
    pub cluster: Cluster,
    pub image: Image,
    /// In the order of `log.dirs`.
    pub directories: Arc<[Directory]>,
    pub locks: Vec<E::Lock>,
    pub recovered: Arc<Recovered>,
}

impl<E: Env> Clone for Beginning<E> {
    fn clone(&self) -> Self {
        Self {
            cluster: self.cluster.clone(),
            image: self.image.clone(),
            directories: self.directories.clone(),
            locks: self.locks.clone(),
            recovered: self.recovered.clone(),
        }
    }
}

/// Work for the shard that owns the named partitions, or for the controller's.
pub enum Request {
    /// With the time until which the client waits for acknowledgements.
    Append(Appends, Monotonic),
    Read(ReadRequest),
    /// In whose name they are looked up.
    Offsets(Vec<OffsetQuery>, Holder),
    Epochs(Vec<EpochQuery>),
    /// To the controller's shard.
    Command(Command),
    /// From the controller's shard: the image goes on, partitions open and close.
    Apply(Arc<[Record]>),
}

pub enum Reply {
    Append(Outcomes),
    Read(Vec<ReadOutcome>),
    Offsets(Vec<Result<TimedOffset, PartitionError>>),
    Epochs(Vec<Result<EpochEnd, PartitionError>>),
    Command(Result<Response, ClusterError>),
    Applied,
}

/// The appends of one request: mostly of one partition.
pub type Appends = SmallVec<[Append; 1]>;

/// What came of them, in their order.
pub type Outcomes = SmallVec<[Result<Appended, PartitionError>; 1]>;

/// One validated batch for one partition.
pub struct Append {
    pub id: PartitionId,
    pub batch: Bytes,
}

/// Batches of several partitions, when there are enough of them.
pub struct ReadRequest {
    pub items: Vec<ReadItem>,
    /// In total; the first batch found comes whole (KIP-74).
    pub bytes_max: usize,
    /// Wait until so many bytes can be read, an item fails, or `wait_ms` have passed.
    pub bytes_min: usize,
    pub wait_ms: u64,
    /// Who is to have it.
    pub reader: Reader,
    /// Set when several shards each have a part of the read: `bytes_min` is for all of them.
    pub parts: Option<Arc<Parts>>,
}

/// Reads of one fetch that go on side by side.
const READS_MAX: usize = 64;

impl ReadRequest {
    fn reads_max(&self) -> usize {
        let parts = self.parts.as_ref().map_or(1, |parts| parts.count);
        (READS_MAX / parts).max(1)
    }

    fn shares(&self) -> Shares {
        Shares {
            bytes_max: self.bytes_max,
            bytes_min: self.bytes_min.max(SHARE_BYTES_MIN).min(self.bytes_max),
        }
    }
}

/// A smaller share is not worth its way.
const SHARE_BYTES_MIN: usize = 64 << 10;

/// What each shard may read for one fetch. What all read together is no more than the fetch gives out, or nearly: the rest would have
/// come from the disk in vain.
struct Shares {
    bytes_max: usize,
    /// Of each: what the client waits for may be all with one of them.
    bytes_min: usize,
}

impl Shares {
    /// For so many of so many items.
    fn of(&self, items: usize, of: usize) -> usize {
        let part = self.bytes_max as u128 * items as u128 / of.max(1) as u128;
        (part as usize).max(self.bytes_min)
    }
}

/// What the parts of one read have in common.
pub struct Parts {
    count: usize,
    /// Bytes that all of them could read.
    readable: AtomicI64,
}

impl Parts {
    fn new(count: usize) -> Arc<Self> {
        Arc::new(Self {
            count,
            readable: AtomicI64::new(0),
        })
    }

    /// One part could read `told` bytes, and now `readable`; what all could. Whoever is last to tell sees the whole sum.
    fn tell(&self, told: &mut usize, readable: usize) -> usize {
        let more = readable as i64 - *told as i64;
        *told = readable;
        let all = self.readable.fetch_add(more, Ordering::SeqCst) + more;
        usize::try_from(all).unwrap_or(0)
    }
}

#[derive(Clone, Copy, Debug)]
pub struct ReadItem {
    pub id: PartitionId,
    pub offset: i64,
    pub bytes_max: usize,
    pub epochs: Epochs,
}

/// What the client believes of a partition's epochs (KIP-320, KIP-595); negative: nothing.
#[derive(Clone, Copy, Debug)]
pub struct Epochs {
    pub leader: i32,
    pub last_fetched: i32,
}

#[derive(Clone, Debug)]
pub struct ReadOutcome {
    pub result: Result<LogSlice, PartitionError>,
    /// -1 where the partition could not be asked.
    pub high_watermark: i64,
    pub log_start: i64,
    /// The client's log parts from ours here.
    pub diverging: Option<EpochEnd>,
}

impl ReadOutcome {
    pub fn failed(error: PartitionError) -> Self {
        Self {
            result: Err(error),
            high_watermark: -1,
            log_start: -1,
            diverging: None,
        }
    }

    /// Leaves out what was read, as if there had been no room for it.
    fn give_up_bytes(&mut self) {
        if let Ok(slice) = &mut self.result {
            *slice = LogSlice::default();
        }
    }

    pub fn bytes(&self) -> usize {
        self.result.as_ref().map_or(0, |slice| slice.bytes)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct OffsetQuery {
    pub id: PartitionId,
    pub leader_epoch: i32,
    pub at: OffsetAt,
}

/// Which offset of a log is asked for (ListOffsets).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum OffsetAt {
    Latest,
    Earliest,
    MaxTimestamp,
    /// Nothing is tiered here: there is no such offset.
    Tiered,
    Time(i64),
}

/// `offset` -1: there is none.
pub const NO_OFFSET: TimedOffset = TimedOffset {
    timestamp_ms: -1,
    offset: -1,
    leader_epoch: -1,
};

#[derive(Clone, Copy, Debug)]
pub struct EpochQuery {
    pub id: PartitionId,
    pub leader_epoch: i32,
    pub epoch: i32,
}

/// An epoch and the end of its offsets; both -1 when there is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EpochEnd {
    pub epoch: i32,
    pub end_offset: i64,
}

/// Why a partition gave no answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PartitionError {
    /// Not open on its shard: it is being made, deleted, or its shard stops.
    NotHere,
    /// Its directory is out of service, or it could not be opened.
    Offline,
    /// The acknowledgement did not come in the time that the client gave it; what has its place in the log stands.
    TimedOut,
    LeaderEpochFenced,
    LeaderEpochUnknown,
    Append(AppendError),
    Read(ReadError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_read_share_its_reads_its_bytes_and_its_sum() {
        let reads_max = |parts: Option<usize>| {
            let request = ReadRequest {
                items: Vec::new(),
                bytes_max: 0,
                bytes_min: 0,
                wait_ms: 0,
                reader: Reader {
                    holder: Holder(0),
                    is_proven: false,
                },
                parts: parts.map(Parts::new),
            };
            request.reads_max()
        };
        assert_eq!([None, Some(2), Some(100)].map(reads_max), [64, 32, 1]);
        let shares = |bytes_max, bytes_min| Shares { bytes_max, bytes_min };
        assert_eq!([1, 3, 4].map(|items| shares(4000, 10).of(items, 4)), [1000, 3000, 4000]);
        assert_eq!(
            shares(4000, 3500).of(1, 4),
            3500,
            "what is waited for may be all in one"
        );
        assert_eq!(shares(usize::MAX, 1).of(7, 7), usize::MAX);
        let parts = Parts::new(2);
        let (mut one, mut other) = (0, 0);
        assert_eq!(parts.tell(&mut one, 5), 5);
        assert_eq!(parts.tell(&mut other, 7), 12);
        assert_eq!(parts.tell(&mut one, 3), 10, "what was deleted counts no more");
    }
}
