//! What the clients did and saw, written down for the checker, with what the rules need to know about topics and power cuts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ringtail::base::ids::TopicId;
use ringtail::io::sim::SimEnv;
use ringtail::io::{Env, Monotonic};
use ringtail::storage::DurabilityClass;
use ringtail_checker::{Anomaly, Content, Event, History, Mark, Partition, Producer, Reader, Record};

/// What a power cut may take of a `written` log: a settling round comes every 500 ms, and takes its own time.
const WINDOW_NS: u64 = 1_000_000_000;

/// How much of the story is told.
const STORY_LINES_MAX: usize = 400;
/// What counts as close to an offset.
const STORY_OFFSETS: u64 = 3;

/// A partition that clients know.
#[derive(Clone, Debug)]
pub struct Known {
    pub topic: String,
    pub id: TopicId,
    pub index: i32,
    pub class: DurabilityClass,
    /// Whether retention may delete its oldest records.
    pub expires: bool,
    /// Whether the topic stays for as long as the world.
    pub stays: bool,
}

/// A time in which the broker could not settle what was written, and what came just before it.
#[derive(Clone, Copy, Debug)]
struct Disturbance {
    from_ns: u64,
    /// `u64::MAX` while it lasts.
    to_ns: u64,
}

/// A power cut of a partition that nobody has asked about yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UntoldCut {
    /// The log went on at the end of this leader epoch.
    pub epoch: i32,
    /// In the history.
    place: usize,
}

#[derive(Default)]
pub struct Recorder {
    pub history: History,
    partitions: Vec<Known>,
    numbers: BTreeMap<(TopicId, i32), Partition>,
    /// Partitions whose topic is gone, or may be.
    gone: BTreeSet<Partition>,
    producers: u32,
    readers: u32,
    /// Sends that were acknowledged so far.
    pub acks: u64,
    /// When the power went last.
    pub cut_ns: Option<u64>,
    /// The cuts of partitions, until somebody asks where their logs went on.
    untold: BTreeMap<Partition, Vec<UntoldCut>>,
    disturbances: Vec<Disturbance>,
    /// Everything from before this time is on the device.
    settled_ns: u64,
}

fn at(now: Monotonic) -> Duration {
    Duration::from_nanos(now.0)
}

impl Recorder {
    pub fn add(&mut self, known: Known) -> Partition {
        let partition = Partition(self.partitions.len() as u32);
        self.numbers.insert((known.id, known.index), partition);
        self.partitions.push(known);
        partition
    }

    pub fn known(&self, partition: Partition) -> &Known {
        &self.partitions[partition.0 as usize]
    }

    /// Partitions whose topics are there, as far as the clients know.
    pub fn live(&self) -> Vec<Partition> {
        let all = (0..self.partitions.len() as u32).map(Partition);
        all.filter(|partition| !self.gone.contains(partition)).collect()
    }

    pub fn is_live(&self, partition: Partition) -> bool {
        !self.gone.contains(&partition)
    }

    /// The topic is deleted, or somebody asked for it.
    pub fn topic_gone(&mut self, id: TopicId) {
        let of_topic = self.numbers.iter().filter(|((topic, _), _)| *topic == id);
        self.gone.extend(of_topic.map(|(_, partition)| *partition));
    }

    pub fn new_producer(&mut self, idempotent: bool) -> Producer {
        self.producers += 1;
        let producer = Producer(self.producers);
        if idempotent {
            self.history.idempotent(producer);
        }
        producer
    }

    pub fn new_reader(&mut self) -> Reader {
        self.readers += 1;
        Reader(self.readers)
    }

    fn push(&mut self, env: &SimEnv, event: Event) {
        self.history.push(at(env.now()), event);
    }

    pub fn sent(&mut self, env: &SimEnv, partition: Partition, record: Record) {
        self.push(env, Event::Sent { partition, record });
    }

    /// The answer to a request of `began`.
    pub fn acked(&mut self, env: &SimEnv, partition: Partition, record: Record, offset: u64, began: Monotonic) {
        self.acks += 1;
        match self.is_stale(partition, began) {
            true => self.unknown(env, record),
            false => self.push(env, Event::Acked { record, offset }),
        }
    }

    pub fn refused(&mut self, env: &SimEnv, record: Record) {
        self.push(env, Event::Refused { record });
    }

    pub fn unknown(&mut self, env: &SimEnv, record: Record) {
        self.push(env, Event::Indeterminate { record });
    }

    pub fn seeked(&mut self, env: &SimEnv, reader: Reader, partition: Partition, offset: u64) {
        self.push(
            env,
            Event::Seeked {
                reader,
                partition,
                offset,
            },
        );
    }

    pub fn read(&mut self, env: &SimEnv, reader: Reader, partition: Partition, offset: u64, content: Content) {
        self.push(
            env,
            Event::Read {
                reader,
                partition,
                offset,
                content,
            },
        );
    }

    pub fn mark_asked(&mut self, env: &SimEnv, reader: Reader, partition: Partition, mark: Mark) {
        self.push(
            env,
            Event::MarkAsked {
                reader,
                partition,
                mark,
            },
        );
    }

    pub fn mark_seen(
        &mut self,
        env: &SimEnv,
        (reader, partition, mark): (Reader, Partition, Mark),
        offset: i64,
        began: Monotonic,
    ) {
        if !self.is_stale(partition, began) {
            let offset = u64::try_from(offset).expect("an offset that was answered without an error");
            let event = Event::MarkSeen {
                reader,
                partition,
                mark,
                offset,
            };
            self.push(env, event);
        }
    }

    /// Whether what answers a request of `began` may speak of a log that a power cut has cut back since.
    pub fn is_stale(&self, partition: Partition, began: Monotonic) -> bool {
        self.known(partition).class == DurabilityClass::Written && self.cut_ns.is_some_and(|cut| cut >= began.0)
    }

    // The broker's fate.

    /// From now on, until `calm` is called, the broker may not come to settle anything.
    pub fn disturb(&mut self, now_ns: u64) {
        self.disturbances.push(Disturbance {
            from_ns: now_ns,
            to_ns: u64::MAX,
        });
    }

    /// All disturbances are over, `tail_ns` from now.
    pub fn calm(&mut self, now_ns: u64, tail_ns: u64) {
        for disturbance in self.disturbances.iter_mut().filter(|d| d.to_ns == u64::MAX) {
            disturbance.to_ns = now_ns + tail_ns;
        }
    }

    /// What a cut at `now_ns` may take came after this time.
    fn lossy_from(&self, now_ns: u64) -> u64 {
        let mut from = now_ns.saturating_sub(WINDOW_NS);
        for disturbance in self.disturbances.iter().rev() {
            if disturbance.to_ns >= from {
                from = from.min(disturbance.from_ns.saturating_sub(WINDOW_NS));
            }
        }
        from.max(self.settled_ns)
    }

    /// The broker ended in order, or came to serve after a start: all that was known by then is on the device.
    pub fn settled(&mut self, by_ns: u64) {
        self.disturbances.clear();
        self.settled_ns = by_ns;
    }

    /// The power went. `epoch_of` says which leader epoch was the last that may have written to a partition.
    pub fn power_cut(&mut self, now_ns: u64, epoch_of: impl Fn(&Known) -> i32) {
        let at = Duration::from_nanos(now_ns);
        let window = Duration::from_nanos(now_ns - self.lossy_from(now_ns));
        // Those that may be gone, too: a deletion that nobody answered may not have been.
        for partition in (0..self.partitions.len() as u32).map(Partition) {
            if self.known(partition).class == DurabilityClass::Written {
                self.history.push(at, Event::Cut { partition, window });
                let cut = UntoldCut {
                    epoch: epoch_of(self.known(partition)),
                    place: self.history.push_untold(at, partition),
                };
                self.untold.entry(partition).or_default().push(cut);
            }
        }
        self.cut_ns = Some(now_ns);
    }

    /// The cuts of a partition whose ends nobody has asked for.
    pub fn untold(&self, partition: Partition) -> Vec<UntoldCut> {
        self.untold.get(&partition).cloned().unwrap_or_default()
    }

    /// Where the log went on after a cut.
    pub fn kept(&mut self, partition: Partition, cut: UntoldCut, end: u64) {
        self.history.tell(cut.place, end);
        if let Some(untold) = self.untold.get_mut(&partition) {
            untold.retain(|other| *other != cut);
        }
    }

    /// Nobody will ask any more: what was cut and then deleted kept at least what was sure by the cut.
    pub fn close(&mut self) {
        for (partition, cuts) in std::mem::take(&mut self.untold) {
            let is_told = cuts.is_empty() || self.gone.contains(&partition);
            assert!(is_told, "{:?} never came back", self.known(partition));
            for cut in cuts {
                let end = self.sure_end(partition, cut);
                self.history.tell(cut.place, end);
            }
        }
    }

    /// The end of what was known of a partition long enough before a cut.
    fn sure_end(&self, partition: Partition, cut: UntoldCut) -> u64 {
        let before = &self.history.timed()[..cut.place];
        let Some((at, Event::Cut { window, .. })) = before.last() else {
            panic!("{cut:?} is not behind its cut");
        };
        let sure_before = at.saturating_sub(*window);
        let mut own = BTreeSet::new();
        let known = before.iter().filter_map(|(at, event)| {
            let end = match *event {
                Event::Sent { partition: of, record } if of == partition => {
                    own.insert(record);
                    None
                }
                Event::Acked { record, offset } if own.contains(&record) => Some(offset + 1),
                Event::Read {
                    partition: of, offset, ..
                } if of == partition => Some(offset + 1),
                Event::MarkSeen {
                    partition: of, offset, ..
                } if of == partition => Some(offset),
                _ => None,
            };
            end.filter(|_| *at < sure_before)
        });
        known.max().unwrap_or(0)
    }

    /// What happened in the partitions that anomalies speak of, close to their offsets and to their records: to start a search from.
    pub fn story(&self, anomalies: &[Anomaly]) -> Vec<String> {
        let mut lines = Vec::new();
        for partition in (0..self.partitions.len() as u32).map(Partition) {
            let name = format!("{partition:?},");
            let told: Vec<String> = anomalies.iter().map(|anomaly| format!("{anomaly:?}")).collect();
            let told: Vec<&String> = told.iter().filter(|text| text.contains(&name)).collect();
            let (Some(low), Some(high)) = (
                told.iter().flat_map(|text| offsets(text)).min(),
                told.iter().flat_map(|text| offsets(text)).max(),
            ) else {
                continue;
            };
            let near = low.saturating_sub(STORY_OFFSETS)..=high.saturating_add(STORY_OFFSETS);
            let is_near = |event: &str| offsets(event).any(|offset| near.contains(&offset));
            lines.push(format!("{partition:?} is {:?}", self.known(partition)));
            let (mut own, mut wanted) = (BTreeSet::new(), BTreeSet::new());
            for (_, event) in self.history.timed() {
                match event {
                    Event::Sent { record, .. } if format!("{event:?}").contains(&name) => {
                        own.insert(*record);
                        if told.iter().any(|text| text.contains(&format!("{record:?}"))) {
                            wanted.insert(*record);
                        }
                    }
                    Event::Acked { record, .. } if own.contains(record) && is_near(&format!("{event:?}")) => {
                        wanted.insert(*record);
                    }
                    _ => {}
                }
            }
            for (at, event) in self.history.timed() {
                let text = format!("{event:?}");
                let is_wanted = match event {
                    Event::Sent { record, .. }
                    | Event::Acked { record, .. }
                    | Event::Refused { record }
                    | Event::Indeterminate { record } => wanted.contains(record),
                    Event::Cut { .. } | Event::Kept { .. } => text.contains(&name),
                    Event::MarkAsked { .. } => false,
                    _ => text.contains(&name) && is_near(&text),
                };
                if is_wanted && lines.len() < STORY_LINES_MAX {
                    lines.push(format!("  {:>10.3} ms {text}", at.as_secs_f64() * 1000.0));
                }
            }
        }
        lines
    }

    /// Equal for equal histories.
    pub fn hash(&self) -> u64 {
        let mut text = String::new();
        for (at, event) in self.history.timed() {
            use std::fmt::Write;
            writeln!(text, "{at:?} {event:?}").expect("a string takes all");
        }
        u64::from(crc32c::crc32c(text.as_bytes())) << 32 | text.len() as u64
    }
}

/// The offsets that the text of an event or of an anomaly names.
fn offsets(text: &str) -> impl Iterator<Item = u64> {
    let fields = ["offset: ", "known: ", "first: ", "second: ", "acked_at: ", "read_at: "];
    let after = fields.into_iter().flat_map(move |field| text.split(field).skip(1));
    after.filter_map(|rest| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok())
}
