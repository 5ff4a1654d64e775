//! The numbers that bound what clients may do, and the count of their connections.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use super::connection::{Bounds, Patience};
use super::memory::network_of;
use crate::config::BrokerConfig;

/// From the configuration; the same on every shard.
#[derive(Clone, Debug)]
pub struct Limits {
    /// `socket.request.max.bytes`
    pub frame_bytes_max: usize,
    pub patience: Patience,
    /// `max.connections`
    pub connections_max: usize,
    /// `max.connections.per.ip`
    pub connections_per_ip_max: usize,
    /// `max.connections.per.ip.overrides`
    pub connections_by_ip_max: BTreeMap<IpAddr, usize>,
    /// `fetch.max.bytes`
    pub fetch_bytes_max: usize,
    /// The longest wait of a fetch for its `min_bytes`.
    pub fetch_wait_ms_max: u64,
    /// `max.incremental.fetch.session.cache.slots`
    pub fetch_sessions_max: usize,
    /// `min.incremental.fetch.session.eviction.ms`
    pub fetch_session_idle_ms: u64,
    /// `max.request.partition.size.limit`
    pub describe_partitions_max: usize,
    /// `auto.create.topics.enable`
    pub auto_create: bool,
}

/// Requests of one connection that are begun and not answered.
const REQUESTS_IN_FLIGHT_MAX: usize = 64;
/// Their bytes; one larger request is served alone.
const REQUEST_BYTES_IN_FLIGHT_MAX: usize = 32 << 20;

impl Limits {
    pub fn connection_bounds(&self) -> Bounds {
        Bounds {
            requests_max: REQUESTS_IN_FLIGHT_MAX,
            request_bytes_max: REQUEST_BYTES_IN_FLIGHT_MAX,
        }
    }
}

/// A fetch that waits keeps its connection from being idle: `connections.max.idle.ms` bounds it too.
const FETCH_WAIT_MS_MAX: u64 = 600_000;
/// Kafka's fixed `min.incremental.fetch.session.eviction.ms`.
const FETCH_SESSION_IDLE_MS: u64 = 120_000;

impl Limits {
    pub fn of(config: &BrokerConfig) -> Self {
        let idle_ms = config.network.connection_idle_ms_max.unwrap_or(u64::MAX);
        Self {
            frame_bytes_max: config.network.request_bytes_max,
            patience: Patience {
                idle_ms,
                frame_ms: config.network.receive_ms_max,
                send_ms: config.network.send_ms_max,
                pressed_ms: config.network.pressed_ms_max,
            },
            connections_max: config.network.connections_max,
            connections_per_ip_max: config.network.connections_per_ip_max,
            connections_by_ip_max: config.network.connections_by_ip_max.clone(),
            fetch_bytes_max: config.fetch.bytes_max,
            fetch_wait_ms_max: idle_ms.min(FETCH_WAIT_MS_MAX),
            fetch_sessions_max: config.fetch.session_count_max,
            fetch_session_idle_ms: FETCH_SESSION_IDLE_MS,
            describe_partitions_max: config.topics.described_partition_count_max,
            auto_create: config.topics.auto_create,
        }
    }
}

/// Open connections of the whole process, by address and by shard.
pub struct ConnectionCounts {
    counts: Mutex<Counts>,
}

struct Counts {
    all: usize,
    /// Those with a limit of their own by that, all others by network.
    by_address: BTreeMap<IpAddr, usize>,
    by_shard: Vec<usize>,
}

/// One counted connection; it leaves the count on drop.
pub struct Counted {
    of: Arc<ConnectionCounts>,
    address: IpAddr,
    pub shard: usize,
}

/// Why a connection is not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    TooMany,
    TooManyOfAddress,
}

impl ConnectionCounts {
    pub fn new(shards: usize) -> Arc<Self> {
        Arc::new(Self {
            counts: Mutex::new(Counts {
                all: 0,
                by_address: BTreeMap::new(),
                by_shard: vec![0; shards],
            }),
        })
    }

    fn with<T>(&self, f: impl FnOnce(&mut Counts) -> T) -> T {
        f(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Counts a new connection and says which shard is to serve it: the one with fewest, `accepting` when equal or when it `stays`.
    pub fn admit(
        self: &Arc<Self>,
        address: IpAddr,
        accepting: usize,
        stays: bool,
        limits: &Limits,
    ) -> Result<Counted, Refused> {
        let by_ip_max = limits.connections_by_ip_max.get(&address.to_canonical());
        let (address, of_address_max) = match by_ip_max {
            Some(own_max) => (address.to_canonical(), *own_max),
            None => (network_of(address), limits.connections_per_ip_max),
        };
        self.with(|counts| {
            if counts.all >= limits.connections_max {
                return Err(Refused::TooMany);
            }
            let of_address = counts.by_address.entry(address).or_insert(0);
            if *of_address >= of_address_max {
                if *of_address == 0 {
                    counts.by_address.remove(&address);
                }
                return Err(Refused::TooManyOfAddress);
            }
            *of_address += 1;
            counts.all += 1;
            let fewest = counts.by_shard.iter().copied().min().unwrap_or(0);
            let shard = match stays || counts.by_shard[accepting] == fewest {
                true => accepting,
                false => counts
                    .by_shard
                    .iter()
                    .position(|count| *count == fewest)
                    .unwrap_or(accepting),
            };
            counts.by_shard[shard] += 1;
            Ok(Counted {
                of: self.clone(),
                address,
                shard,
            })
        })
    }

    /// Those that `shard` serves.
    #[cfg(test)]
    pub fn open_at(&self, shard: usize) -> usize {
        self.with(|counts| counts.by_shard[shard])
    }

    pub fn open_count(&self) -> usize {
        self.with(|counts| counts.all)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.of.with(|counts| {
            counts.all -= 1;
            counts.by_shard[self.shard] -= 1;
            if let Some(count) = counts.by_address.get_mut(&self.address) {
                *count -= 1;
                if *count == 0 {
                    counts.by_address.remove(&self.address);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn limits() -> Limits {
        Limits {
            frame_bytes_max: 1 << 20,
            patience: Patience {
                idle_ms: 1,
                frame_ms: 1,
                send_ms: 1,
                pressed_ms: 1,
            },
            connections_max: 100,
            connections_per_ip_max: 100,
            connections_by_ip_max: BTreeMap::new(),
            fetch_bytes_max: 1 << 20,
            fetch_wait_ms_max: 1,
            fetch_sessions_max: 1,
            fetch_session_idle_ms: 1,
            describe_partitions_max: 1,
            auto_create: false,
        }
    }

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const THERE: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

    #[test]
    fn connections_go_to_the_shard_with_fewest() {
        let counts = ConnectionCounts::new(2);
        let limits = limits();
        let admit = |accepting| counts.admit(HERE, accepting, false, &limits).expect("no limit is near");
        let first = admit(1);
        let second = admit(1);
        let third = admit(1);
        assert_eq!([first.shard, second.shard, third.shard], [1, 0, 1]);
        drop(first);
        drop(third);
        assert_eq!(admit(0).shard, 1);
        assert_eq!(counts.open_count(), 1);
        let stay = || counts.admit(HERE, 1, true, &limits).expect("no limit is near").shard;
        let _more = [admit(1), admit(1), admit(1)];
        assert_eq!([stay(), stay()], [1, 1], "where it came in");
    }

    #[test]
    fn an_address_with_a_limit_of_its_own_has_that() {
        let counts = ConnectionCounts::new(1);
        let limits = Limits {
            connections_per_ip_max: 1,
            connections_by_ip_max: [(HERE, 2)].into(),
            ..limits()
        };
        let admit = |address| counts.admit(address, 0, false, &limits);
        let held = [admit(HERE), admit(HERE), admit(THERE)];
        assert!(held.iter().all(Result::is_ok));
        assert_eq!(admit(HERE).err(), Some(Refused::TooManyOfAddress));
        assert_eq!(admit(THERE).err(), Some(Refused::TooManyOfAddress));
    }

    #[test]
    fn who_has_an_ipv6_network_has_the_connections_of_one_address() {
        let counts = ConnectionCounts::new(1);
        let address = |text: &str| -> IpAddr { text.parse().expect("an address") };
        let own = address("2001:db8::2:0");
        let limits = Limits {
            connections_per_ip_max: 1,
            connections_by_ip_max: [(own, 2)].into(),
            ..limits()
        };
        let admit = |address| counts.admit(address, 0, false, &limits);
        let held = [admit(address("2001:db8::1")), admit(own), admit(own)];
        assert!(held.iter().all(Result::is_ok));
        let refused = |text| admit(address(text)).err() == Some(Refused::TooManyOfAddress);
        assert!(refused("2001:db8::ffff:1") && refused("2001:db8::2:0") && !refused("2001:db8:0:1::1"));
    }

    #[test]
    fn limits_hold_in_all_and_by_address_and_leave_nothing_behind() {
        let counts = ConnectionCounts::new(1);
        let limits = Limits {
            connections_max: 3,
            connections_per_ip_max: 2,
            ..limits()
        };
        let mapped = IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped());
        let held: Vec<_> = [HERE, mapped]
            .map(|address| counts.admit(address, 0, false, &limits))
            .into();
        assert_eq!(
            counts.admit(HERE, 0, false, &limits).err(),
            Some(Refused::TooManyOfAddress)
        );
        let other = counts.admit(THERE, 0, false, &limits);
        assert!(other.is_ok());
        assert_eq!(counts.admit(THERE, 0, false, &limits).err(), Some(Refused::TooMany));
        drop((held, other));
        assert!(counts.with(|counts| counts.by_address.is_empty() && counts.all == 0));
    }
}
