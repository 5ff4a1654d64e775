//! Any bytes as a frame of the native protocol: a request, an answer. Claims: no panic; parts, headers and payloads within the budget;
//! whatever a verified header holds can be walked, and as much of the payload is taken as its lengths say.

use bytes::Bytes;
use ringtail::wire::native::{Malformed, Parts, Payload, fb, read_answer, read_request};
use ringtail::wire::{Framing, LENGTH_BYTES, Protocol};

use super::memory::bounded;

pub fn run(input: &[u8]) {
    let Ok(Framing::Frame { end }) = Protocol::Native.next_frame(input, 1 << 20) else {
        return;
    };
    assert!(end <= input.len());
    let frame = Bytes::copy_from_slice(&input[LENGTH_BYTES..end]);
    bounded(input.len(), || {
        let Ok(Parts { header, payload }) = Parts::of(frame.clone()) else {
            return;
        };
        assert_eq!(4 + header.len() + payload.len(), frame.len());
        if let Ok(request) = read_request(&header) {
            match walk_request(&request, Payload::new(payload.clone())) {
                Ok(0) => {}
                Ok(bytes) => assert_eq!(bytes, payload.len()),
                Err(error) => assert_eq!(error, Malformed::Payload),
            }
        }
        if let Ok(answer) = read_answer(&header) {
            walk_answer(&answer, Payload::new(payload.clone()));
        }
    });
}

/// Reads every field; the bytes of all batches.
fn walk_request(request: &fb::Request<'_>, mut payload: Payload) -> Result<usize, Malformed> {
    let mut bytes = 0;
    if let Some(produce) = request.ask_as_produce() {
        for append in produce.batches() {
            bytes += payload.take(append.bytes())?.len();
            let _ = (append.topic().bytes(), append.partition());
        }
        payload.end()?;
    }
    if let Some(describe) = request.ask_as_describe() {
        let names = describe.topics().into_iter().flatten();
        let read: usize = names.map(|name| name.chars().count()).sum();
        assert!(read <= 4 * (1 << 20));
    }
    if let Some(fetch) = request.ask_as_fetch() {
        let sum = |position: &fb::Position| position.offset() ^ i64::from(position.partition());
        let _ = fetch.positions().iter().map(sum).fold(0, |all, one| all ^ one);
    }
    if let Some(find) = request.ask_as_find_offsets() {
        let _ = find.queries().iter().fold(0, |all, query| all ^ query.timestamp_ms());
    }
    if let Some(producer) = request.ask_as_new_producer() {
        let _ = (producer.producer_id(), producer.producer_epoch());
    }
    Ok(bytes)
}

fn walk_answer(answer: &fb::Answer<'_>, mut payload: Payload) {
    if let Some(described) = answer.told_as_described() {
        for node in described.nodes() {
            let _ = (node.host().len(), node.rack().map(str::len), node.port());
        }
        for topic in described.topics() {
            let partitions = topic.partitions().into_iter().flatten();
            let _ = (
                topic.name().map(str::len),
                partitions.fold(0, |all, one| all ^ one.leader()),
            );
        }
    }
    if let Some(produced) = answer.told_as_produced() {
        let _ = produced.results().iter().fold(0, |all, one| all ^ one.base_offset());
        let refusals = produced.refusals().into_iter().flatten();
        let _ = refusals.fold(0, |all, one| all ^ one.text().len());
    }
    if let Some(fetched) = answer.told_as_fetched() {
        for part in fetched.parts() {
            if payload.take(part.bytes()).is_err() {
                break;
            }
        }
    }
    if let Some(found) = answer.told_as_found_offsets() {
        let _ = found.found().iter().fold(0, |all, one| all ^ one.offset());
    }
    if let Some(failure) = answer.told_as_failure() {
        let _ = (failure.error(), failure.text().len());
    }
}
