use std::cell::Cell;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};

use super::*;
use crate::base::buffer::AlignedBuf;
use crate::base::sync::{join_all, race};
use crate::io::{Env, OpenOptions, PINNED_BYTES_MAX, Queue, send_all};

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

async fn echo(env: UringEnv, stream: super::super::Stream) {
    let mut buffer = BytesMut::with_capacity(4096);
    loop {
        buffer.reserve(4096);
        let (count, received) = env.receive(&stream, buffer).await;
        buffer = received;
        if !matches!(count, Ok(1..)) {
            return;
        }
        let pieces = vec![buffer.split().freeze()];
        if send_all(&env, &stream, pieces).await.is_err() {
            return;
        }
    }
}

/// Accepts for ever, echoing on each connection.
fn serve(env: &UringEnv) -> SocketAddr {
    let listener = env.listen(LOOPBACK).unwrap();
    let address = env.local_address(&listener).unwrap();
    let world = env.clone();
    env.spawn(Queue::Foreground, async move {
        loop {
            let (stream, _) = world.accept(&listener).await.unwrap();
            world.spawn(Queue::Foreground, echo(world.clone(), stream));
        }
    });
    address
}

async fn receive_exactly(env: &UringEnv, stream: &super::super::Stream, bytes: usize) -> BytesMut {
    let mut buffer = BytesMut::with_capacity(bytes);
    while buffer.len() < bytes {
        let (count, received) = env.receive(stream, buffer).await;
        buffer = received;
        assert_ne!(count.unwrap(), 0, "ended early");
    }
    buffer
}

#[test]
fn echo_over_a_hundred_connections() {
    on_one(|env| async move {
        let address = serve(&env);
        let client = |i: u8| {
            let env = env.clone();
            async move {
                let stream = env.connect(address).await.unwrap();
                for round in 0..20 {
                    let word = Bytes::from(vec![i ^ round; 700]);
                    // Several pieces go out as one message.
                    let pieces = vec![word.slice(..10), Bytes::new(), word.slice(10..)];
                    send_all(&env, &stream, pieces).await.unwrap();
                    assert_eq!(receive_exactly(&env, &stream, 700).await, word);
                }
            }
        };
        join_all((0..100).map(client).collect()).await;
        let counters = env.ring_counters();
        assert!(
            counters.enters < counters.operations,
            "{counters:?}: submissions do not batch"
        );
    });
}

#[test]
fn large_sends_arrive_whole() {
    on_one(|env| async move {
        let address = serve(&env);
        let stream = env.connect(address).await.unwrap();
        let content: Bytes = (0..8 << 20).map(|i: u32| (i / 7) as u8).collect();
        let pieces: Vec<_> = (0..2048).map(|i| content.slice(i * 4096..(i + 1) * 4096)).collect();
        let both: Vec<Pin<Box<dyn Future<Output = Option<BytesMut>> + '_>>> = vec![
            Box::pin(async { send_all(&env, &stream, pieces).await.map(|()| None).unwrap() }),
            Box::pin(async { Some(receive_exactly(&env, &stream, content.len()).await) }),
        ];
        let got = join_all(both).await.pop().flatten().unwrap();
        assert!(got == content);
    });
}

#[test]
fn accepted_sockets_do_not_delay_and_know_their_peer() {
    on_one(|env| async move {
        let listener = env.listen(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0)).unwrap();
        let port = env.local_address(&listener).unwrap().port();
        // Dual-stack: an IPv4 client reaches the IPv6 wildcard.
        let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
        let client = std::net::TcpStream::connect(address).unwrap();
        let (stream, peer) = env.accept(&listener).await.unwrap();
        assert_eq!(peer.port(), client.local_addr().unwrap().port());
        let detached = env.detach(stream);
        assert!(detached.is_undelayed());
        let _stream = env.attach(detached);
    });
}

#[test]
fn a_peer_that_dies_ends_a_send() {
    on_one(|env| async move {
        let listener = env.listen(LOOPBACK).unwrap();
        let address = env.local_address(&listener).unwrap();
        let peer = std::net::TcpStream::connect(address).unwrap();
        let (stream, _) = env.accept(&listener).await.unwrap();
        let sending = env.send(&stream, vec![Bytes::from(vec![1; 64 << 20])]);
        env.sleep_until(env.now().plus_ms(20)).await;
        // Unread bytes on the peer's side turn its close into a reset.
        drop(peer);
        let (sent, pieces) = sending.await;
        assert!(!matches!(sent, Ok(n) if n == pieces[0].len()), "{sent:?}");
        let (again, _) = env.send(&stream, pieces).await;
        assert!(again.is_err());
    });
}

#[test]
fn shutdown_completes_what_is_pending() {
    on_one(|env| async move {
        let address = serve(&env);
        let stream = env.connect(address).await.unwrap();
        let receiving = env.receive(&stream, BytesMut::with_capacity(10));
        env.shutdown(&stream);
        assert_eq!(receiving.await.0.unwrap(), 0);
    });
}

#[test]
fn a_dropped_receive_lets_the_connection_close() {
    on_one(|env| async move {
        let listener = env.listen(LOOPBACK).unwrap();
        let address = env.local_address(&listener).unwrap();
        let mut peer = std::net::TcpStream::connect(address).unwrap();
        let (stream, _) = env.accept(&listener).await.unwrap();
        let timeout = async { env.sleep_until(env.now().plus_ms(1)).await };
        let receiving = env.receive(&stream, BytesMut::with_capacity(10));
        race(timeout, async { drop(receiving.await) }).await;
        drop(stream);
        // Joined through a flag, as the peer blocks its thread.
        let ended = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let told = ended.clone();
        let thread = std::thread::spawn(move || {
            let count = std::io::Read::read(&mut peer, &mut [0; 1]).unwrap();
            told.store(true, std::sync::atomic::Ordering::Release);
            count
        });
        while !ended.load(std::sync::atomic::Ordering::Acquire) {
            env.sleep_until(env.now().plus_ms(1)).await;
        }
        assert_eq!(thread.join().unwrap(), 0);
    });
}

#[test]
fn refused_connections_are_errors() {
    on_one(|env| async move {
        let listener = env.listen(LOOPBACK).unwrap();
        let address = env.local_address(&listener).unwrap();
        drop(listener);
        let refused = env.connect(address).await.err().unwrap();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        let found = env.resolve("localhost", 9092).await.unwrap();
        assert!(found.iter().all(|a| a.ip().is_loopback() && a.port() == 9092) && !found.is_empty());
    });
}

#[test]
fn a_shard_ends_with_its_tasks_and_connections() {
    let witness = Rc::new(Cell::new(0));
    struct Count(Rc<Cell<u32>>);
    impl Drop for Count {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }
    let seen = witness.clone();
    on_one(|env| async move {
        let address = serve(&env);
        for _ in 0..3 {
            let (world, count) = (env.clone(), Count(seen.clone()));
            env.spawn(Queue::Background, async move {
                let stream = world.connect(address).await.unwrap();
                let _count = count;
                // Nothing ever comes.
                let _ = world.receive(&stream, BytesMut::with_capacity(1)).await;
            });
        }
        env.sleep_until(env.now().plus_ms(5)).await;
    });
    assert_eq!(witness.get(), 3);
}

/// More than both sockets hold, to a peer that reads when it likes; bytes before and behind keep their places.
#[test]
fn what_is_pinned_arrives_between_what_was_sent() {
    let scratch = Scratch::new("pinned");
    let path = scratch.path("log");
    let content: Vec<u8> = (0..16 * PINNED_BYTES_MAX).map(|i| (i / 7 + i / 4096) as u8).collect();
    std::fs::write(&path, &content).unwrap();
    on_one(|env| async move {
        let file = env.open(&path, OpenOptions::READ_CACHED).await.unwrap();
        let (count, _) = env.read_at(&file, AlignedBuf::new(content.len()), 0).await;
        assert_eq!(count.unwrap(), content.len());
        let listener = env.listen(LOOPBACK).unwrap();
        let address = env.local_address(&listener).unwrap();
        let far = env.connect(address).await.unwrap();
        let (near, _) = env.accept(&listener).await.unwrap();
        let send = async {
            for from in (0..content.len()).step_by(PINNED_BYTES_MAX) {
                send_all(&env, &near, vec![Bytes::from_static(b"head")]).await.unwrap();
                let mut pinned = env.pin(&file, from as u64, PINNED_BYTES_MAX).unwrap();
                while !pinned.is_empty() {
                    let sent = env.send_pinned(&near, &pinned).await.unwrap();
                    pinned.advance(sent);
                }
            }
            env.shutdown(&near);
        };
        let mut received = Vec::new();
        let receive = async {
            loop {
                let (count, buffer) = env.receive(&far, BytesMut::with_capacity(100_000)).await;
                match count.unwrap() {
                    0 => break,
                    _ => received.extend_from_slice(&buffer),
                }
                env.yield_now().await;
            }
        };
        let parts: Vec<Pin<Box<dyn Future<Output = ()> + '_>>> = vec![Box::pin(send), Box::pin(receive)];
        join_all(parts).await;
        let expected: Vec<u8> = content
            .chunks(PINNED_BYTES_MAX)
            .flat_map(|part| [b"head", part].concat())
            .collect();
        assert!(received == expected, "{} bytes of {}", received.len(), expected.len());
    });
}

#[test]
fn a_peer_that_is_gone_fails_what_is_pinned_for_it() {
    let scratch = Scratch::new("pinned-gone");
    let path = scratch.path("log");
    std::fs::write(&path, vec![1; PINNED_BYTES_MAX]).unwrap();
    on_one(|env| async move {
        let file = env.open(&path, OpenOptions::READ_CACHED).await.unwrap();
        let listener = env.listen(LOOPBACK).unwrap();
        let address = env.local_address(&listener).unwrap();
        let far = env.connect(address).await.unwrap();
        let (near, _) = env.accept(&listener).await.unwrap();
        let end = Cell::new(None);
        let send = async {
            // Until the peer takes no more, and then is gone.
            loop {
                let pinned = env.pin(&file, 0, PINNED_BYTES_MAX).unwrap();
                if let Err(error) = env.send_pinned(&near, &pinned).await {
                    break end.set(Some(error.kind()));
                }
            }
        };
        let leave = async {
            for _ in 0..100 {
                env.yield_now().await;
            }
            env.shutdown(&far);
            drop(far);
        };
        let parts: Vec<Pin<Box<dyn Future<Output = ()> + '_>>> = vec![Box::pin(send), Box::pin(leave)];
        join_all(parts).await;
        let kind = end.get().expect("it failed");
        assert!(
            matches!(
                kind,
                std::io::ErrorKind::BrokenPipe | std::io::ErrorKind::ConnectionReset
            ),
            "{kind:?}"
        );
    });
}
