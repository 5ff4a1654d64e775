use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::super::{ShardPlacement, cpus, memory_bytes, process_resident_bytes, run};
use super::*;
use crate::base::buffer::{AlignedBuf, BLOCK_BYTES};
use crate::base::mailbox::{Receiver, Sender, mailbox};
use crate::io::{Env, Monotonic, OpenOptions, Queue};

#[test]
fn mailboxes_wake_the_other_shard() {
    type Ends = (Sender<u64>, Receiver<u64>);
    let (there, here) = (mailbox(4), mailbox(4));
    let ends: [Option<Ends>; 2] = [Some((there.0, here.1)), Some((here.0, there.1))];
    let ends = Arc::new(Mutex::new(ends));
    let rounds = 2000;
    let results = run(ShardPlacement::first(2), Options::default(), move |_env, shard| {
        let (sender, mut receiver) = ends.lock().unwrap()[shard].take().unwrap();
        async move {
            let (mut inbox, mut sum) = (VecDeque::new(), 0);
            if shard == 0 {
                sender.send(0).await.unwrap();
            }
            // Each waits for the other in turn, so every step is a wake-up from another thread.
            while receiver.receive_all(&mut inbox).await {
                for n in inbox.drain(..) {
                    sum += n;
                    if n < rounds && sender.send(n + 1).await.is_err() {
                        return sum;
                    }
                    if n >= rounds - 1 {
                        return sum;
                    }
                }
            }
            sum
        }
    });
    let sums = results.unwrap();
    assert_eq!(sums.iter().sum::<u64>(), rounds * (rounds + 1) / 2);
}

/// An operation ends each sleep, and the bell none: glommio counts the wakers that wait for the bell in 16 bits.
#[test]
fn a_driver_may_be_called_off_its_sleep_as_often_as_one_likes() {
    let scratch = Scratch::new("sleeps");
    let path = scratch.path("empty");
    let parks = on_one(|env| async move {
        let file = env.open(&path, OpenOptions::CREATE_DIRECT).await.unwrap();
        let mut buffer = AlignedBuf::new(BLOCK_BYTES);
        for _ in 0..40_000 {
            env.yield_now().await;
            env.yield_now().await;
            let (read, back) = env.read_at(&file, buffer, 0).await;
            assert_eq!(read.unwrap(), 0);
            buffer = back;
        }
        env.ring_counters().parks
    });
    assert!(parks > 33_000, "{parks}");
}

#[test]
fn timers_fire_in_order_and_not_early() {
    on_one(|env| async move {
        let start = env.now();
        let order = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
        for ms in [9, 1, 5] {
            let (world, order) = (env.clone(), order.clone());
            env.spawn(Queue::Background, async move {
                world.sleep_until(start.plus_ms(ms)).await;
                assert!(world.now() >= start.plus_ms(ms));
                order.borrow_mut().push(ms);
            });
        }
        env.sleep_until(Monotonic(0)).await;
        while order.borrow().len() < 3 {
            env.sleep_until(env.now().plus_ms(1)).await;
        }
        assert_eq!(*order.borrow(), [1, 5, 9]);
        assert!(env.now().ms_since(start) >= 9);
        assert_ne!(env.random(), env.random());
        assert!(env.wall_ms() > 1_700_000_000_000);
    });
}

#[test]
fn a_busy_task_does_not_keep_timers_and_the_background_from_running() {
    on_one(|env| async move {
        let done = std::rc::Rc::new(std::cell::Cell::new(false));
        let (world, flag) = (env.clone(), done.clone());
        env.spawn(Queue::Background, async move {
            world.sleep_until(world.now().plus_ms(1)).await;
            flag.set(true);
        });
        while !done.get() {
            env.yield_now().await;
        }
    });
}

#[test]
fn a_panic_on_one_shard_stops_the_run_with_an_error() {
    let result = run(ShardPlacement::first(2), Options::default(), |env, shard| async move {
        if shard == 1 {
            panic!("planted");
        }
        env.stop().requested().await;
    });
    let error = result.unwrap_err().to_string();
    assert_eq!(error, "shard 1 panicked: planted");
}

#[test]
fn a_stop_reaches_every_shard() {
    let options = Options {
        spin: Some(Duration::from_micros(50)),
        ..Options::default()
    };
    let stopped = run(ShardPlacement::first(3), options, |env, shard| async move {
        if shard == 2 {
            env.sleep_until(env.now().plus_ms(5)).await;
            env.stop().request();
        }
        env.stop().requested().await;
        shard
    });
    assert_eq!(stopped.unwrap(), [0, 1, 2]);
}

#[test]
fn the_machine_is_known() {
    assert!(!cpus().is_empty());
    let resident = process_resident_bytes().unwrap();
    assert!(resident > 0 && resident < memory_bytes().unwrap());
}
