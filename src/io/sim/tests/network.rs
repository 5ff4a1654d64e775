use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::BytesMut;

use super::*;
use crate::io::sim::host_address;
use crate::io::{Queue, send_all};

fn address(host: usize) -> SocketAddr {
    SocketAddr::new(host_address(host), 9092)
}

/// A server on host 0 that sends everything back.
fn spawn_echo(world: &World) -> crate::io::sim::ProcessId {
    let process = world.spawn_process(0, 2, |env, _| async move {
        let listener = env.listen("[::]:9092".parse().expect("an address")).expect("listens");
        loop {
            let Ok((stream, _)) = env.accept(&listener).await else {
                return;
            };
            let task = env.clone();
            env.spawn(Queue::Foreground, async move {
                loop {
                    let (received, buffer) = task.receive(&stream, BytesMut::with_capacity(1000)).await;
                    if received.unwrap_or(0) == 0 || send_all(&task, &stream, vec![buffer.freeze()]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    world.run_for(1);
    process
}

async fn round_trip(env: &SimEnv, stream: &<SimEnv as Env>::Stream, bytes: usize) -> std::io::Result<()> {
    let data: Vec<u8> = (0..bytes).map(|i| (i * 7 % 251) as u8).collect();
    send_all(
        env,
        stream,
        vec![Bytes::copy_from_slice(&data[..1]), Bytes::copy_from_slice(&data[1..])],
    )
    .await?;
    let mut back = Vec::new();
    while back.len() < bytes {
        let (received, buffer) = env.receive(stream, BytesMut::with_capacity(4096)).await;
        if received? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        back.extend_from_slice(&buffer);
    }
    assert_eq!(back, data);
    Ok(())
}

#[test]
fn bytes_come_back_in_order_however_they_are_split() {
    for seed in 0..20 {
        let world = world(seed);
        spawn_echo(&world);
        world.block_on(1, |env| async move {
            let stream = env.connect(address(0)).await.expect("connected");
            round_trip(&env, &stream, 60_000).await.expect("echoed");
        });
    }
}

#[test]
fn a_send_waits_for_the_window() {
    let world = world(5);
    let sent = Rc::new(Cell::new(0));
    let drained = Rc::new(Cell::new(false));
    world.spawn_process(0, 1, |env, _| {
        let drained = drained.clone();
        async move {
            let listener = env
                .listen("0.0.0.0:9092".parse().expect("an address"))
                .expect("listens");
            let (stream, _) = env.accept(&listener).await.expect("accepted");
            env.sleep_until(env.now().plus_ms(1000)).await;
            let mut total = 0;
            while total < 1_000_000 {
                total += env
                    .receive(&stream, BytesMut::with_capacity(65536))
                    .await
                    .0
                    .expect("received");
            }
            drained.set(true);
        }
    });
    world.spawn_process(1, 1, |env, _| {
        let sent = sent.clone();
        async move {
            env.sleep_until(env.now().plus_ms(1)).await;
            let stream = env.connect(address(0)).await.expect("connected");
            while sent.get() < 1_000_000 {
                let (count, _) = env.send(&stream, vec![Bytes::from(vec![1; 10_000])]).await;
                sent.set(sent.get() + count.expect("sent"));
            }
            std::future::pending::<()>().await;
        }
    });
    world.run_for(900);
    assert!(sent.get() > 0 && sent.get() <= Options::default().network.window_bytes);
    assert!(world.run_until(|| drained.get()));
}

#[test]
fn connections_spread_over_the_listeners_of_a_port() {
    let world = world(9);
    let counts = Rc::new(RefCell::new([0; 2]));
    world.spawn_process(0, 2, |env, shard| {
        let counts = counts.clone();
        async move {
            let listener = env
                .listen("0.0.0.0:9092".parse().expect("an address"))
                .expect("listens");
            loop {
                drop(env.accept(&listener).await.expect("accepted"));
                counts.borrow_mut()[shard] += 1;
            }
        }
    });
    world.run_for(1);
    world.block_on(1, |env| async move {
        for _ in 0..40 {
            drop(env.connect(address(0)).await.expect("connected"));
        }
    });
    world.run_for(10);
    let counts = *counts.borrow();
    assert_eq!(counts[0] + counts[1], 40);
    assert!(counts[0] > 5 && counts[1] > 5, "{counts:?}");
}

#[test]
fn a_detached_stream_goes_on_at_another_shard() {
    let world = world(2);
    let (sender, receiver) = crate::base::mailbox::mailbox(4);
    let (mut sender, mut receiver) = (Some(sender), Some(receiver));
    world.spawn_process(0, 2, |env, shard| {
        let sender = if shard == 0 { sender.take() } else { None };
        let receiver = if shard == 1 { receiver.take() } else { None };
        async move {
            if let Some(sender) = sender {
                let listener = env
                    .listen("0.0.0.0:9092".parse().expect("an address"))
                    .expect("listens");
                let (stream, _) = env.accept(&listener).await.expect("accepted");
                assert!(sender.send(env.detach(stream)).await.is_ok());
            }
            if let Some(mut receiver) = receiver {
                let mut queue = std::collections::VecDeque::new();
                receiver.receive_all(&mut queue).await;
                let stream = env.attach(queue.pop_front().expect("one stream"));
                send_all(&env, &stream, vec![Bytes::from_static(b"hello")])
                    .await
                    .expect("sent");
            }
        }
    });
    world.run_for(1);
    world.block_on(1, |env| async move {
        let stream = env.connect(address(0)).await.expect("connected");
        let mut got = BytesMut::new();
        while got.len() < 5 {
            let (received, buffer) = env.receive(&stream, BytesMut::with_capacity(8)).await;
            assert_ne!(received.expect("received"), 0);
            got.extend_from_slice(&buffer);
        }
        assert_eq!(&got[..], b"hello");
    });
}

#[test]
fn a_partition_holds_bytes_until_it_heals_and_connects_time_out() {
    let world = world(11);
    spawn_echo(&world);
    for one_way in [false, true] {
        let done = Rc::new(Cell::new(0));
        world.spawn_process(1, 1, |env, _| {
            let done = done.clone();
            async move {
                let stream = env.connect(address(0)).await.expect("connected");
                done.set(1);
                env.sleep_until(env.now().plus_ms(100)).await;
                round_trip(&env, &stream, 5000).await.expect("echoed");
                done.set(2);
            }
        });
        assert!(world.run_until(|| done.get() == 1));
        if one_way {
            world.partition_one_way(0, 1);
        } else {
            world.partition(0, 1);
        }
        world.run_for(5000);
        assert_eq!(done.get(), 1);
        let refused = world.block_on(
            1,
            |env| async move { env.connect(address(0)).await.err().map(|e| e.kind()) },
        );
        assert_eq!(refused, Some(ErrorKind::TimedOut));
        world.heal(0, 1);
        assert!(world.run_until(|| done.get() == 2));
    }
}

#[test]
fn connections_end_with_their_process_or_hang_after_a_power_cut() {
    let kind_after = |power: bool| {
        let world = world(12);
        let server = spawn_echo(&world);
        let state = Rc::new(RefCell::new(None));
        world.spawn_process(1, 1, |env, _| {
            let state = state.clone();
            async move {
                let stream = env.connect(address(0)).await.expect("connected");
                round_trip(&env, &stream, 100).await.expect("echoed");
                *state.borrow_mut() = Some(Ok(1));
                let (received, _) = env.receive(&stream, BytesMut::with_capacity(10)).await;
                *state.borrow_mut() = Some(received.map_err(|error| error.kind()));
            }
        });
        assert!(world.run_until(|| state.borrow().is_some()));
        if power {
            world.power_cut(0, crate::io::sim::LossMode::LoseAll);
        } else {
            world.kill(server);
        }
        world.run_for(10_000);
        state.take()
    };
    assert!(matches!(
        kind_after(false),
        Some(Ok(0) | Err(ErrorKind::ConnectionReset))
    ));
    assert_eq!(kind_after(true), Some(Ok(1)), "nobody tells of a power cut");
}

#[test]
fn connects_are_refused_without_listener_or_by_order_and_resets_reach_both_sides() {
    let world = world(13);
    let refused = |world: &World| {
        world.block_on(
            1,
            |env| async move { env.connect(address(0)).await.err().map(|e| e.kind()) },
        )
    };
    assert_eq!(refused(&world), Some(ErrorKind::ConnectionRefused));
    spawn_echo(&world);
    world.refuse_connects(0, true);
    assert_eq!(refused(&world), Some(ErrorKind::ConnectionRefused));
    world.refuse_connects(0, false);
    for half_open in [false, true] {
        let state = Rc::new(RefCell::new(None));
        let client = world.spawn_process(1, 1, |env, _| {
            let state = state.clone();
            async move {
                let stream = env.connect(address(0)).await.expect("connected");
                *state.borrow_mut() = Some(Ok(()));
                env.sleep_until(env.now().plus_ms(100)).await;
                let result = round_trip(&env, &stream, 100).await;
                *state.borrow_mut() = Some(result.map_err(|error| error.kind()));
            }
        });
        assert!(world.run_until(|| state.borrow().is_some()));
        world.run_for(10);
        assert_eq!(
            if half_open {
                world.half_open(0, 1)
            } else {
                world.reset_connections(0, 1)
            },
            1
        );
        assert!(world.run_until(|| !world.is_alive(client)));
        assert_eq!(*state.borrow(), Some(Err(ErrorKind::ConnectionReset)));
    }
}

#[test]
fn shutdown_completes_a_pending_receive_and_ends_the_peer() {
    let world = world(14);
    spawn_echo(&world);
    world.block_on(1, |env| async move {
        let stream = env.connect(address(0)).await.expect("connected");
        let pending = env.receive(&stream, BytesMut::with_capacity(10));
        env.shutdown(&stream);
        assert_eq!(pending.await.0.expect("ended"), 0);
        let (sent, _) = env.send(&stream, vec![Bytes::from_static(b"x")]).await;
        assert_eq!(sent.map_err(|error| error.kind()), Err(ErrorKind::BrokenPipe));
    });
}

#[test]
#[should_panic(expected = "two receives in flight")]
fn two_receives_on_one_connection_are_a_mistake() {
    let world = world(15);
    spawn_echo(&world);
    world.block_on(1, |env| async move {
        let stream = env.connect(address(0)).await.expect("connected");
        let _first = env.receive(&stream, BytesMut::with_capacity(10));
        let _second = env.receive(&stream, BytesMut::with_capacity(10));
    });
}

#[test]
fn a_delay_holds_between_two_hosts_until_it_is_lifted() {
    let world = world(41);
    spawn_echo(&world);
    let took_ms = |from: usize| {
        let began = world.now();
        world.block_on(from, |env| async move {
            let stream = env.connect(address(0)).await.expect("connects");
            round_trip(&env, &stream, 10).await.expect("an answer");
        });
        (world.now() - began) / 1_000_000
    };
    world.delay(1, 0, 50_000_000..60_000_000);
    let late = took_ms(1);
    assert!(
        (200..300).contains(&late),
        "connect and answer, there and back: {late} ms"
    );
    assert!(took_ms(2) < 50, "nobody else is late");
    world.delay(0, 1, 0..0);
    assert!(took_ms(1) < 50);
}
