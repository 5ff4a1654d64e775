//! Seeds of the native protocol: one frame of each kind, and what is wrong with one.

use flatbuffers::{UnionWIPOffset, WIPOffset};
use ringtail::base::ids::TopicId;
use ringtail::wire::native::{Builder, begin_answer, begin_request, fb};

use super::{Seeds, put};

const TOPIC: TopicId = TopicId([7; 16]);

type Body = WIPOffset<UnionWIPOffset>;

fn request(folder: &mut Seeds, name: &str, kind: fb::Ask, payload: &[u8], body: impl Fn(&mut Builder) -> Body) {
    let mut builder = Builder::new();
    let body = body(&mut builder);
    let begin = begin_request(builder, 9, kind, body, payload.len()).expect("short");
    put(folder, name, &[&begin[..], payload].concat());
}

fn answer(folder: &mut Seeds, name: &str, kind: fb::Told, payload: &[u8], body: impl Fn(&mut Builder) -> Body) {
    let mut builder = Builder::new();
    let body = body(&mut builder);
    let begin = begin_answer(builder, 9, kind, body, payload.len()).expect("short");
    put(folder, name, &[&begin[..], payload].concat());
}

pub fn frames(folder: &mut Seeds) {
    requests(folder);
    answers(folder);
    let whole = folder["produce"].clone();
    put(folder, "cut", &whole[..whole.len() - 1]);
    put(folder, "no-header", &[&whole[..4], &[0; 4], &whole[8..]].concat());
    put(
        folder,
        "odd-header",
        &[&whole[..4], &[9, 0, 0, 0], &whole[8..]].concat(),
    );
    put(folder, "long-header", &[&whole[..4], &[0xf8; 4], &whole[8..]].concat());
    put(folder, "wild-root", &[&whole[..8], &[0xff; 4], &whole[12..]].concat());
}

fn requests(folder: &mut Seeds) {
    request(folder, "produce", fb::Ask::Produce, b"onetwo", |b| {
        let appends = [
            fb::Append::new(&TOPIC.into(), 0, 3),
            fb::Append::new(&TOPIC.into(), 1, 3),
        ];
        let args = fb::ProduceArgs {
            acks: 1,
            timeout_ms: 7,
            batches: Some(b.create_vector(&appends)),
        };
        fb::Produce::create(b, &args).as_union_value()
    });
    request(folder, "produce-short", fb::Ask::Produce, b"on", |b| {
        let args = fb::ProduceArgs {
            batches: Some(b.create_vector(&[fb::Append::new(&TOPIC.into(), 0, 3)])),
            ..Default::default()
        };
        fb::Produce::create(b, &args).as_union_value()
    });
    request(folder, "describe", fb::Ask::Describe, b"", |b| {
        let names = [b.create_string("one"), b.create_string("two")];
        let args = fb::DescribeArgs {
            topics: Some(b.create_vector(&names)),
            may_create: true,
        };
        fb::Describe::create(b, &args).as_union_value()
    });
    request(folder, "fetch", fb::Ask::Fetch, b"", |b| {
        let positions = [fb::Position::new(&TOPIC.into(), 1, 2, 3, 4, 5)];
        let args = fb::FetchArgs {
            positions: Some(b.create_vector(&positions)),
            ..Default::default()
        };
        fb::Fetch::create(b, &args).as_union_value()
    });
    request(folder, "find-offsets", fb::Ask::FindOffsets, b"", |b| {
        let args = fb::FindOffsetsArgs {
            queries: Some(b.create_vector(&[fb::TimeQuery::new(&TOPIC.into(), 1, 2, -1)])),
        };
        fb::FindOffsets::create(b, &args).as_union_value()
    });
    request(folder, "new-producer", fb::Ask::NewProducer, b"", |b| {
        fb::NewProducer::create(b, &fb::NewProducerArgs::default()).as_union_value()
    });
}

fn answers(folder: &mut Seeds) {
    answer(folder, "described", fb::Told::Described, b"", |b| {
        let host = Some(b.create_string("h"));
        let node = fb::NodeArgs {
            id: 1,
            host,
            port: 9094,
            rack: None,
        };
        let node = fb::Node::create(b, &node);
        let topic = fb::TopicArgs {
            name: Some(b.create_string("t")),
            id: Some(&TOPIC.into()),
            error: 0,
            is_internal: false,
            partitions: Some(b.create_vector(&[fb::PartitionOf::new(1, 2, 0)])),
        };
        let topic = fb::Topic::create(b, &topic);
        let args = fb::DescribedArgs {
            cluster_id: Some(b.create_string("c")),
            controller: 1,
            frame_bytes_max: 1 << 20,
            nodes: Some(b.create_vector(&[node])),
            topics: Some(b.create_vector(&[topic])),
        };
        fb::Described::create(b, &args).as_union_value()
    });
    answer(folder, "produced", fb::Told::Produced, b"", |b| {
        let text = Some(b.create_string("why"));
        let refusal = fb::Refusal::create(b, &fb::RefusalArgs { index: 1, text });
        let results = [fb::Appended::new(1, 2, 3, 0), fb::Appended::new(-1, -1, -1, 2)];
        let args = fb::ProducedArgs {
            results: Some(b.create_vector(&results)),
            refusals: Some(b.create_vector(&[refusal])),
        };
        fb::Produced::create(b, &args).as_union_value()
    });
    answer(folder, "fetched", fb::Told::Fetched, b"batches", |b| {
        let args = fb::FetchedArgs {
            parts: Some(b.create_vector(&[fb::Part::new(9, 0, -1, -1, 7, 0)])),
        };
        fb::Fetched::create(b, &args).as_union_value()
    });
    answer(folder, "found-offsets", fb::Told::FoundOffsets, b"", |b| {
        let args = fb::FoundOffsetsArgs {
            found: Some(b.create_vector(&[fb::FoundOffset::new(1, 2, 3, 0)])),
        };
        fb::FoundOffsets::create(b, &args).as_union_value()
    });
    answer(folder, "producer", fb::Told::Producer, b"", |b| {
        let args = fb::ProducerArgs {
            producer_id: 1,
            producer_epoch: 0,
            error: 0,
        };
        fb::Producer::create(b, &args).as_union_value()
    });
    answer(folder, "failure", fb::Told::Failure, b"", |b| {
        let text = Some(b.create_string("why"));
        fb::Failure::create(b, &fb::FailureArgs { error: 35, text }).as_union_value()
    });
}
