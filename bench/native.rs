//! The loads' requests and answers in the native protocol.

use bytes::Bytes;
use ringtail::wire::native::{Builder, Parts, Payload, begin_request, fb, read_answer};

use crate::fetch::{Part, Place};
use crate::target::Target;

const TIMEOUT_MS: u32 = 30_000;

/// `batch` to each of `partitions`. Answers come in the order of the requests: they all have the id 0.
pub fn produce(target: &Target, partitions: &[i32], batch: &Bytes, acks: i16) -> Result<Vec<Bytes>, String> {
    let mut builder = Builder::new();
    let append = |partition: &i32| fb::Append::new(&target.topic_id.into(), *partition, batch.len() as u32);
    let appends: Vec<_> = partitions.iter().map(append).collect();
    let args = fb::ProduceArgs {
        acks: acks as i8,
        timeout_ms: TIMEOUT_MS,
        batches: Some(builder.create_vector(&appends)),
    };
    let body = fb::Produce::create(&mut builder, &args).as_union_value();
    let payload = vec![batch.clone(); partitions.len()];
    let begin = begin_request(builder, 0, fb::Ask::Produce, body, batch.len() * payload.len());
    let begin = begin.map_err(|error| error.to_string())?;
    Ok(std::iter::once(begin).chain(payload).collect())
}

/// How many batches of a produce answer were refused.
pub fn refusals(answer: &Bytes) -> Result<usize, String> {
    let parts = Parts::of(answer.clone()).map_err(|error| error.to_string())?;
    let answer = read_answer(&parts.header).map_err(|error| error.to_string())?;
    match (answer.told_as_produced(), answer.told_as_failure()) {
        (Some(produced), _) => Ok(produced.results().iter().filter(|result| result.error() != 0).count()),
        (_, Some(failure)) => Err(failure.text().to_owned()),
        _ => Err("an answer to something else".into()),
    }
}

pub fn fetch(
    target: &Target,
    places: &[Place],
    (wait_ms, bytes_max, part_max): (u32, u32, u32),
) -> Result<Vec<Bytes>, String> {
    let mut builder = Builder::new();
    let position =
        |place: &Place| fb::Position::new(&target.topic_id.into(), place.partition, -1, place.offset, part_max, -1);
    let positions: Vec<_> = places.iter().map(position).collect();
    let args = fb::FetchArgs {
        wait_ms,
        bytes_min: 1,
        bytes_max,
        positions: Some(builder.create_vector(&positions)),
    };
    let body = fb::Fetch::create(&mut builder, &args).as_union_value();
    let begin = begin_request(builder, 0, fb::Ask::Fetch, body, 0);
    Ok(vec![begin.map_err(|error| error.to_string())?])
}

/// What a fetch answer brought, in the order of the request.
pub fn fetched(answer: &Bytes, places: &[Place]) -> Result<Vec<Part>, String> {
    let parts = Parts::of(answer.clone()).map_err(|error| error.to_string())?;
    let answer = read_answer(&parts.header).map_err(|error| error.to_string())?;
    let fetched = answer.told_as_fetched().ok_or("an answer to something else")?;
    let mut payload = Payload::new(parts.payload.clone());
    let part = |(part, place): (&fb::Part, &Place)| {
        Ok(Part {
            partition: place.partition,
            error_code: part.error(),
            high_watermark: part.high_watermark(),
            log_start: part.log_start(),
            batches: payload.take(part.bytes()).map_err(|error| error.to_string())?,
        })
    };
    fetched.parts().iter().zip(places).map(part).collect()
}

/// Everything from the start on, as much as one answer carries.
pub fn large_fetch(target: &Target) -> Result<Vec<Bytes>, String> {
    let partitions = target.nodes.iter().flat_map(|node| &node.partitions);
    let places: Vec<Place> = partitions.map(Place::start).collect();
    fetch(target, &places, (0, u32::MAX, u32::MAX))
}

/// Much work for one request: look-ups by time, positions of partitions that are not there, names of topics.
pub fn heavy(target: &Target, count: usize) -> Result<Vec<Vec<Bytes>>, String> {
    let partitions: Vec<i32> = target.nodes.iter().flat_map(|node| node.partitions.clone()).collect();
    let framed = |builder, kind, body| {
        let begin = begin_request(builder, 0, kind, body, 0).map_err(|error| error.to_string())?;
        Ok::<_, String>(vec![begin])
    };
    let mut builder = Builder::new();
    // Each another time: no two are the same question.
    let query = |(time, index): (usize, &i32)| fb::TimeQuery::new(&target.topic_id.into(), *index, -1, time as i64);
    let queries: Vec<_> = partitions.iter().cycle().take(count).enumerate().map(query).collect();
    let args = fb::FindOffsetsArgs {
        queries: Some(builder.create_vector(&queries)),
    };
    let body = fb::FindOffsets::create(&mut builder, &args).as_union_value();
    let times = framed(builder, fb::Ask::FindOffsets, body)?;
    let places: Vec<Place> = (0..count as i32).map(|index| Place::start(&index)).collect();
    let positions = fetch(target, &places, (60_000, u32::MAX, 1))?;
    let mut builder = Builder::new();
    let names: Vec<_> = (0..count)
        .map(|number| builder.create_string(&format!("{}{number}", target.topic)))
        .collect();
    let args = fb::DescribeArgs {
        topics: Some(builder.create_vector(&names)),
        may_create: false,
    };
    let body = fb::Describe::create(&mut builder, &args).as_union_value();
    let names = framed(builder, fb::Ask::Describe, body)?;
    Ok(vec![times, positions, names])
}
