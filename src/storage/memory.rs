//! A log in memory with the real one's interface, so that the layers above can run before it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};

use super::*;
use crate::base::sync::Notify;
use crate::io::Env;

/// All partitions of one shard.
pub struct Store<E: Env> {
    env: E,
    partitions: RefCell<BTreeMap<PartitionId, Rc<Partition<E>>>>,
}

/// One partition's log.
pub struct Partition<E: Env> {
    env: E,
    id: PartitionId,
    topic_name: Arc<str>,
    options: RefCell<LogOptions>,
    batches: RefCell<Vec<(i64, i64, Bytes)>>,
    end: Cell<i64>,
    advanced: Notify,
}

impl<E: Env> Store<E> {
    /// Locks and recovers the directories for this shard. Every shard of a process opens its own store.
    pub async fn open(env: E, _options: StoreOptions) -> Result<Rc<Self>, StorageError> {
        Ok(Rc::new(Self {
            env,
            partitions: RefCell::default(),
        }))
    }

    /// Makes the partition if it is new, attaches to what recovery found if it is not. Durable before it returns.
    pub async fn open_partition(&self, spec: PartitionSpec) -> Result<Rc<Partition<E>>, StorageError> {
        let partition = Rc::new(Partition {
            env: self.env.clone(),
            id: spec.id,
            topic_name: spec.topic_name,
            options: RefCell::new(spec.options),
            batches: RefCell::default(),
            end: Cell::new(0),
            advanced: Notify::default(),
        });
        self.partitions.borrow_mut().insert(spec.id, partition.clone());
        Ok(partition)
    }

    /// Closes the partition and removes its files; done when the name can be used again.
    pub async fn delete_partition(&self, id: PartitionId) -> Result<(), StorageError> {
        self.partitions.borrow_mut().remove(&id);
        Ok(())
    }

    pub fn partition(&self, id: PartitionId) -> Option<Rc<Partition<E>>> {
        self.partitions.borrow().get(&id).cloned()
    }

    /// Settles everything, trims the segments and stops the store's tasks.
    pub async fn close(&self) -> Result<(), StorageError> {
        Ok(())
    }
}

impl<E: Env> Partition<E> {
    pub fn id(&self) -> PartitionId {
        self.id
    }

    pub fn topic_name(&self) -> &Arc<str> {
        &self.topic_name
    }

    /// Appends one validated batch. The order of the calls is the order of the offsets; the future completes when the
    /// class's end has passed the batch, and dropping it does not undo the append.
    pub fn append(self: &Rc<Self>, batch: Bytes) -> impl Future<Output = Result<Appended, AppendError>> + use<E> {
        let base = self.end.get();
        let delta = i32::from_be_bytes([batch[23], batch[24], batch[25], batch[26]]);
        let mut bytes = BytesMut::from(&batch[..]);
        bytes[..8].copy_from_slice(&base.to_be_bytes());
        bytes[12..16].copy_from_slice(&0i32.to_be_bytes());
        self.end.set(base + i64::from(delta) + 1);
        self.batches.borrow_mut().push((base, self.end.get(), bytes.freeze()));
        self.advanced.notify();
        let env = self.env.clone();
        async move {
            env.yield_now().await;
            Ok(Appended {
                base_offset: base,
                append_time_ms: -1,
                log_start: 0,
            })
        }
    }

    pub fn ends(&self) -> Ends {
        let end = self.end.get();
        Ends {
            log_start: 0,
            settled: end,
            durable: end,
            written: end,
            appended: end,
        }
    }

    /// The end of what may be read.
    pub fn high_watermark(&self) -> i64 {
        self.end.get()
    }

    /// The epoch that new batches are stamped with.
    pub fn leader_epoch(&self) -> i32 {
        0
    }

    /// The largest epoch not above `epoch` and its end offset (KIP-320); `None` when there is none.
    pub fn epoch_end(&self, epoch: i32) -> Option<(i32, i64)> {
        (epoch >= 0).then(|| (0, self.end.get()))
    }

    /// Wakes when the high watermark or the log start moved, or the partition closed.
    pub fn advanced(&self) -> &Notify {
        &self.advanced
    }

    /// Batches from the one that holds `offset` up to the high watermark, at most `bytes_max` bytes; with `whole_first` the
    /// first batch comes whole even if it alone is larger (KIP-74). At the high watermark: an empty slice.
    pub async fn read(&self, offset: i64, bytes_max: usize, whole_first: bool) -> Result<LogSlice, ReadError> {
        if offset < 0 || offset > self.end.get() {
            return Err(ReadError::OutOfRange);
        }
        let mut slice = LogSlice::default();
        for (_, end, bytes) in self.batches.borrow().iter() {
            if *end <= offset {
                continue;
            }
            if slice.bytes + bytes.len() > bytes_max && !(whole_first && slice.pieces.is_empty()) {
                break;
            }
            slice.bytes += bytes.len();
            slice.pieces.push(bytes.clone());
        }
        Ok(slice)
    }

    /// Bytes that a `read` from `offset` could give, up to `enough` (for the long poll's min_bytes); cheap.
    pub fn readable_bytes(&self, offset: i64, enough: usize) -> usize {
        let batches = self.batches.borrow();
        batches
            .iter()
            .filter(|b| b.1 > offset)
            .map(|b| b.2.len())
            .sum::<usize>()
            .min(enough)
    }

    /// The first record at or above the log start whose timestamp is at least `target_ms`, below the high watermark.
    pub async fn offset_for_time(&self, _target_ms: i64) -> Result<Option<TimedOffset>, ReadError> {
        Ok(None)
    }

    /// The record with the largest timestamp (ListOffsets -3).
    pub async fn max_timestamp(&self) -> Result<Option<TimedOffset>, ReadError> {
        Ok(None)
    }

    /// Bytes that the partition takes on its device.
    pub fn stored_bytes(&self) -> u64 {
        self.batches.borrow().iter().map(|b| b.2.len() as u64).sum()
    }

    /// New options from now on.
    pub fn set_options(&self, options: LogOptions) {
        self.options.replace(options);
    }
}
