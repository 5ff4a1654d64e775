//! What befalls the network between the broker and the hosts of clients.

use std::collections::BTreeMap;

use ringtail::io::sim::World;

use super::nemesis::{Dice, Kind};
use super::party::BROKER;

const MS: u64 = 1_000_000;

pub struct Network {
    client_hosts: usize,
    dice: Dice,
    /// What is to be lifted, and when.
    standing: Vec<(Kind, usize, u64)>,
    next_ns: u64,
}

impl Network {
    pub fn new(client_hosts: usize, dice: Dice) -> Self {
        Self {
            client_hosts,
            dice,
            standing: Vec::new(),
            next_ns: 0,
        }
    }

    /// Lifts what is due and does what is next.
    pub fn step(&mut self, world: &World, now_ns: u64, counts: &mut BTreeMap<Kind, u64>) {
        let due = |standing: &mut (Kind, usize, u64)| standing.2 <= now_ns;
        for (kind, host, _) in self.standing.extract_if(.., due).collect::<Vec<_>>() {
            lift(world, kind, host);
        }
        if self.next_ns == 0 {
            self.next_ns = now_ns + self.dice.within(500, 10_000) * MS;
        }
        if now_ns >= self.next_ns {
            self.next_ns = now_ns + self.dice.within(3_000, 20_000) * MS;
            let kind = self.dice.of(&[
                Kind::Delay,
                Kind::Partition,
                Kind::OneWay,
                Kind::Reset,
                Kind::HalfOpen,
                Kind::Refuse,
            ]);
            tracing::info!(at_ms = now_ns / MS, ?kind, "NEMESIS");
            *counts.entry(kind).or_default() += 1;
            let one = 1 + self.dice.below(self.client_hosts as u64) as usize;
            let all = self.dice.below(4) == 0;
            for host in (1..=self.client_hosts).filter(|host| all || *host == one) {
                self.begin(world, kind, host, now_ns);
            }
        }
    }

    fn begin(&mut self, world: &World, kind: Kind, host: usize, now_ns: u64) {
        let (from, to) = self.dice.of(&[(BROKER, host), (host, BROKER)]);
        match kind {
            Kind::Delay => {
                let most = self.dice.of(&[20, 400, 3_000]);
                world.delay(BROKER, host, MS..most * MS);
            }
            Kind::Partition => world.partition(BROKER, host),
            Kind::OneWay => world.partition_one_way(from, to),
            Kind::Reset => drop(world.reset_connections(from, to)),
            Kind::HalfOpen => drop(world.half_open(from, to)),
            _ => world.refuse_connects(BROKER, true),
        }
        let most = self.dice.of(&[1_000, 6_000, 14_000]);
        self.standing
            .push((kind, host, now_ns + self.dice.within(100, most) * MS));
    }

    pub fn lift_all(&mut self, world: &World) {
        for (kind, host, _) in std::mem::take(&mut self.standing) {
            lift(world, kind, host);
        }
    }
}

fn lift(world: &World, kind: Kind, host: usize) {
    match kind {
        Kind::Delay => world.delay(BROKER, host, 0..0),
        Kind::Partition | Kind::OneWay => world.heal(BROKER, host),
        Kind::Refuse => world.refuse_connects(BROKER, false),
        _ => {}
    }
}
