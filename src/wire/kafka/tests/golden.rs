//! Golden bytes: every described (API, version) that the crate `kafka-protocol` knows, both directions.
//!
//! A random message of ours is encoded, also with tagged fields that nobody knows. Theirs must decode all of it, name
//! every field and value as we do (which a mere comparison of bytes would not show), and encode it to the same bytes.
//! Ours must decode those to the same message. What is fed to the oracle is valid: it allocates what lengths declare.
//! `census` sees to it that the messages hold something; `every_served_version_is_compared` that none is left out.

use std::fmt::Debug;
use std::ops::RangeInclusive;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages as theirs;
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Message as _, VersionRange};

use super::super::api::APIS;
use super::super::decoder::Decoder;
use super::super::message::Message;
use super::super::messages as ours;
use super::census::Census;
use super::{arbitrary, encoded, leaked};
use crate::base::ids::TopicId;

/// Messages of each version, and of all versions of a message at least.
const SEEDS_MIN: u64 = 60;
const MESSAGES_MIN: u64 = 240;

/// Fields at their defaults that theirs has for versions that Kafka does not serve yet.
const UNRELEASED: [&str; 2] = [
    ", enable_2_pc: false, keep_prepared_txn: false",
    ", ongoing_txn_producer_id: -1, ongoing_txn_producer_epoch: -1",
];

/// A `Debug` text without type names, newtypes and unknown tags, with ids as we write them.
fn normalised(text: &str) -> String {
    let mut rest = text;
    let mut out = String::new();
    // For every open parenthesis, whether it was kept.
    let mut parentheses = Vec::new();
    while let Some(first) = rest.chars().next() {
        if let Some(id) = rest.get(..36).and_then(parse_uuid) {
            out.push_str(&format!("{id:?}"));
            rest = &rest[36..];
        } else if first == '"' {
            let end = string_end(rest);
            out.push_str(&rest[..end]);
            rest = &rest[end..];
        } else if first.is_alphabetic() || first == '_' {
            let end = rest
                .find(|c: char| !c.is_alphanumeric() && c != '_')
                .unwrap_or(rest.len());
            let (word, behind) = rest.split_at(end);
            rest = behind;
            if word == "unknown_tagged_fields" {
                rest = &rest[rest.find('}').expect("the map is closed") + 1..];
                out.truncate(out.trim_end_matches([' ', ',']).len());
            } else if let Some(behind) = behind.strip_prefix('(').filter(|_| word != "Some") {
                parentheses.push(false);
                rest = behind;
            } else if let Some(behind) = behind.strip_prefix(" {") {
                out.push('{');
                rest = behind;
            } else {
                out.push_str(word);
            }
        } else {
            rest = &rest[first.len_utf8()..];
            match first {
                '(' => parentheses.push(true),
                ')' if !parentheses.pop().expect("parentheses match") => continue,
                _ => {}
            }
            out.push(first);
        }
    }
    out
}

fn string_end(text: &str) -> usize {
    let mut escaped = false;
    for (index, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return index + 1,
            _ => {}
        }
    }
    text.len()
}

fn parse_uuid(text: &str) -> Option<TopicId> {
    if [8, 13, 18, 23].iter().any(|&index| text.as_bytes()[index] != b'-') {
        return None;
    }
    let hex = text.replace('-', "");
    let bits = u128::from_str_radix(&hex, 16).ok().filter(|_| hex.len() == 32)?;
    Some(TopicId(bits.to_be_bytes()))
}

fn compare<Ours, Theirs>(version: i16, seeds: u64, census: &mut Census)
where
    Ours: Message<'static>,
    Theirs: Encodable + Decodable + Debug,
{
    let name = Ours::NAME;
    for seed in 0..seeds {
        let message: Ours = arbitrary(seed, version);
        census.note(&normalised(&format!("{message:?}")));
        for unknown_tag_count in [0, 3] {
            let bytes = encoded(&message, version, unknown_tag_count);
            let mut unread = Bytes::from(bytes.clone());
            let their_message = Theirs::decode(&mut unread, version)
                .unwrap_or_else(|error| panic!("{name} {version} seed {seed}: theirs: {error}"));
            assert!(
                unread.is_empty(),
                "{name} {version} seed {seed}: {} bytes unread",
                unread.len()
            );
            if unknown_tag_count > 0 && version >= Ours::FLEXIBLE_FROM {
                // (A structure that is a tagged field and at its default is not sent, nor are its tags.)
                let text = format!("{their_message:?}");
                assert!(
                    text.contains("unknown_tagged_fields: {1000: "),
                    "{name} {version}: tags that nobody knows are sent"
                );
            }
            if unknown_tag_count == 0 {
                let mut their_text = normalised(&format!("{their_message:?}"));
                UNRELEASED
                    .iter()
                    .for_each(|fields| their_text = their_text.replace(fields, ""));
                assert_eq!(
                    normalised(&format!("{message:?}")),
                    their_text,
                    "{name} {version} seed {seed}"
                );
            }

            let mut their_bytes = BytesMut::new();
            their_message
                .encode(&mut their_bytes, version)
                .expect("theirs encodes what it decoded");
            assert_eq!(their_bytes, bytes, "{name} {version} seed {seed}");
            let mut decoder = Decoder::new(leaked(their_bytes.to_vec()));
            let decoded = Ours::decode_from(&mut decoder, version)
                .unwrap_or_else(|error| panic!("{name} {version} seed {seed}: ours: {error}"));
            decoder.finish().expect("the whole message is read");
            assert_eq!(decoded, message, "{name} {version} seed {seed}");
        }
    }
}

/// A row of `golden!`.
struct Row {
    key: i16,
    is_request: bool,
    compared: RangeInclusive<i16>,
    /// The versions that theirs has.
    known: VersionRange,
}

fn is_request(name: &str) -> bool {
    name.ends_with("Request")
}

/// One row per message: ours, theirs, the versions that are compared, and fields that none of these carries.
macro_rules! golden {
    ($($test:ident: $ours:ty, $theirs:ident $min:literal..=$max:literal $(, without $apart:expr)?;)*) => {
        fn rows() -> Vec<Row> {
            vec![$(Row {
                key: <$ours as Message>::API_KEY,
                is_request: is_request(stringify!($theirs)),
                compared: $min..=$max,
                known: theirs::$theirs::VERSIONS,
            },)*]
        }

        $(
        #[test]
        fn $test() {
            let versions: RangeInclusive<i16> = $min..=$max;
            let seeds = SEEDS_MIN.max(MESSAGES_MIN / versions.clone().count() as u64);
            let mut census = Census::default();
            for version in versions {
                compare::<$ours, theirs::$theirs>(version, seeds, &mut census);
                let flexible = version >= <$ours as Message>::FLEXIBLE_FROM;
                let is_api_versions_response = stringify!($theirs) == "ApiVersionsResponse";
                let header_version =
                    i16::from(is_request(stringify!($theirs))) + i16::from(flexible && !is_api_versions_response);
                assert_eq!(theirs::$theirs::header_version(version), header_version, "version {version}");
            }
            let apart: Vec<&[&str]> = vec![$($apart)?];
            census.assert_rich(stringify!($theirs), &apart.concat());
        }
    )*};
}

golden! {
    produce_request: ours::ProduceRequest<'static>, ProduceRequest 3..=13;
    produce_response: ours::ProduceResponse<'static>, ProduceResponse 3..=13;
    fetch_request: ours::FetchRequest<'static>, FetchRequest 4..=18;
    fetch_response: ours::FetchResponse<'static>, FetchResponse 4..=18;
    list_offsets_request: ours::ListOffsetsRequest<'static>, ListOffsetsRequest 1..=10;
    list_offsets_response: ours::ListOffsetsResponse<'static>, ListOffsetsResponse 1..=10;
    metadata_request: ours::MetadataRequest<'static>, MetadataRequest 0..=13;
    metadata_response: ours::MetadataResponse<'static>, MetadataResponse 0..=13;
    api_versions_request: ours::ApiVersionsRequest<'static>, ApiVersionsRequest 0..=4;
    api_versions_response: ours::ApiVersionsResponse<'static>, ApiVersionsResponse 0..=4;
    create_topics_request: ours::CreateTopicsRequest<'static>, CreateTopicsRequest 2..=7;
    create_topics_response: ours::CreateTopicsResponse<'static>, CreateTopicsResponse 2..=7;
    delete_topics_request: ours::DeleteTopicsRequest<'static>, DeleteTopicsRequest 1..=6;
    delete_topics_response: ours::DeleteTopicsResponse<'static>, DeleteTopicsResponse 1..=6;
    init_producer_id_request: ours::InitProducerIdRequest<'static>, InitProducerIdRequest 0..=5;
    init_producer_id_response: ours::InitProducerIdResponse, InitProducerIdResponse 0..=5;
    offset_for_leader_epoch_request: ours::OffsetForLeaderEpochRequest<'static>, OffsetForLeaderEpochRequest 2..=4;
    offset_for_leader_epoch_response: ours::OffsetForLeaderEpochResponse<'static>, OffsetForLeaderEpochResponse 2..=4;
    describe_configs_request: ours::DescribeConfigsRequest<'static>, DescribeConfigsRequest 1..=4;
    describe_configs_response: ours::DescribeConfigsResponse<'static>, DescribeConfigsResponse 1..=4;
    create_partitions_request: ours::CreatePartitionsRequest<'static>, CreatePartitionsRequest 0..=3;
    create_partitions_response: ours::CreatePartitionsResponse<'static>, CreatePartitionsResponse 0..=3;
    describe_cluster_request: ours::DescribeClusterRequest, DescribeClusterRequest 0..=2;
    describe_cluster_response: ours::DescribeClusterResponse<'static>, DescribeClusterResponse 0..=2;
    describe_topic_partitions_request: ours::DescribeTopicPartitionsRequest<'static>, DescribeTopicPartitionsRequest 0..=0;
    describe_topic_partitions_response: ours::DescribeTopicPartitionsResponse<'static>, DescribeTopicPartitionsResponse 0..=0;
    offset_commit_request: ours::OffsetCommitRequest<'static>, OffsetCommitRequest 2..=9, without &["topics[].topic_id"];
    offset_commit_response: ours::OffsetCommitResponse<'static>, OffsetCommitResponse 2..=10;
    offset_fetch_request: ours::OffsetFetchRequest<'static>, OffsetFetchRequest 1..=9, without &["groups[].topics[].topic_id"];
    offset_fetch_response: ours::OffsetFetchResponse<'static>, OffsetFetchResponse 1..=10;
    find_coordinator_request: ours::FindCoordinatorRequest<'static>, FindCoordinatorRequest 0..=6;
    find_coordinator_response: ours::FindCoordinatorResponse<'static>, FindCoordinatorResponse 0..=6;
    join_group_request: ours::JoinGroupRequest<'static>, JoinGroupRequest 0..=9;
    join_group_response: ours::JoinGroupResponse<'static>, JoinGroupResponse 0..=9;
    heartbeat_request: ours::HeartbeatRequest<'static>, HeartbeatRequest 0..=4;
    heartbeat_response: ours::HeartbeatResponse, HeartbeatResponse 0..=4;
    leave_group_request: ours::LeaveGroupRequest<'static>, LeaveGroupRequest 0..=5;
    leave_group_response: ours::LeaveGroupResponse<'static>, LeaveGroupResponse 0..=5;
    sync_group_request: ours::SyncGroupRequest<'static>, SyncGroupRequest 0..=5;
    sync_group_response: ours::SyncGroupResponse<'static>, SyncGroupResponse 0..=5;
    describe_groups_request: ours::DescribeGroupsRequest<'static>, DescribeGroupsRequest 0..=6;
    describe_groups_response: ours::DescribeGroupsResponse<'static>, DescribeGroupsResponse 0..=6;
    list_groups_request: ours::ListGroupsRequest<'static>, ListGroupsRequest 0..=5;
    list_groups_response: ours::ListGroupsResponse<'static>, ListGroupsResponse 0..=5;
    delete_records_request: ours::DeleteRecordsRequest<'static>, DeleteRecordsRequest 0..=2;
    delete_records_response: ours::DeleteRecordsResponse<'static>, DeleteRecordsResponse 0..=2;
    incremental_alter_configs_request: ours::IncrementalAlterConfigsRequest<'static>, IncrementalAlterConfigsRequest 0..=1;
    incremental_alter_configs_response: ours::IncrementalAlterConfigsResponse<'static>, IncrementalAlterConfigsResponse 0..=1;
}

/// Key and version of what is served and the oracle does not know: by hand, below.
const BY_HAND: &[(i16, i16)] = &[(2, 11)];

/// A version that is served and never held against anything would be found out by clients.
#[test]
fn every_served_version_is_compared() {
    let rows = rows();
    let mut unknown = Vec::new();
    for api in APIS {
        let key = api.key as i16;
        for wants_request in [true, false] {
            let row = rows
                .iter()
                .find(|row| row.key == key && row.is_request == wants_request);
            let row = row.unwrap_or_else(|| panic!("{}: no row (request: {wants_request})", api.name));
            for version in api.version_min..=api.version_max {
                if row.compared.contains(&version) {
                    continue;
                }
                let known = (row.known.min..=row.known.max).contains(&version);
                assert!(
                    !known,
                    "{} {version} is not compared (request: {wants_request})",
                    api.name
                );
                unknown.push((key, version));
            }
        }
    }
    unknown.sort_unstable();
    unknown.dedup();
    assert_eq!(
        unknown, BY_HAND,
        "what the oracle does not know has a test by hand, and a place in BY_HAND"
    );
}

/// Versions that the oracle does not know, by hand.
#[test]
fn list_offsets_11() {
    let request = ours::ListOffsetsRequest {
        replica_id: -1,
        isolation_level: 1,
        topics: vec![ours::ListOffsetsTopic {
            name: "logs".into(),
            partitions: vec![ours::ListOffsetsPartition {
                partition_index: 5,
                current_leader_epoch: 7,
                timestamp: ours::list_offsets_timestamp::EARLIEST_PENDING_UPLOAD,
            }]
            .into(),
        }]
        .into(),
        timeout_ms: 1000,
    };
    let golden =
        b"\xff\xff\xff\xff\x01\x02\x05logs\x02\0\0\0\x05\0\0\0\x07\xff\xff\xff\xff\xff\xff\xff\xfa\0\0\0\0\x03\xe8\0";
    assert_eq!(encoded(&request, 11, 0), golden);
    assert_eq!(
        ours::ListOffsetsRequest::decode(&mut Decoder::new(golden), 11),
        Ok(request)
    );

    let response = ours::ListOffsetsResponse {
        throttle_time_ms: 2,
        topics: vec![ours::ListOffsetsTopicResponse {
            name: "logs".into(),
            partitions: vec![ours::ListOffsetsPartitionResponse {
                partition_index: 5,
                error_code: 0,
                timestamp: -1,
                offset: 258,
                leader_epoch: 7,
            }]
            .into(),
        }]
        .into(),
    };
    let golden =
        b"\0\0\0\x02\x02\x05logs\x02\0\0\0\x05\0\0\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0\0\0\x01\x02\0\0\0\x07\0\0\0";
    assert_eq!(encoded(&response, 11, 0), golden);
    assert_eq!(
        ours::ListOffsetsResponse::decode(&mut Decoder::new(golden), 11),
        Ok(response)
    );
}

#[test]
fn offset_commit_10() {
    let request = ours::OffsetCommitRequest {
        group_id: "g".into(),
        generation_id_or_member_epoch: 3,
        member_id: "m".into(),
        topics: vec![ours::OffsetCommitRequestTopic {
            topic_id: TopicId(*b"sixteen bytes id"),
            partitions: vec![ours::OffsetCommitRequestPartition {
                partition_index: 1,
                committed_offset: 2,
                committed_leader_epoch: 4,
                committed_metadata: None,
            }]
            .into(),
            ..Default::default()
        }]
        .into(),
        ..Default::default()
    };
    let golden = b"\x02g\0\0\0\x03\x02m\0\x02sixteen bytes id\x02\0\0\0\x01\0\0\0\0\0\0\0\x02\0\0\0\x04\0\0\0\0";
    assert_eq!(encoded(&request, 10, 0), golden);
    assert_eq!(
        ours::OffsetCommitRequest::decode(&mut Decoder::new(golden), 10),
        Ok(request)
    );
}

#[test]
fn offset_fetch_10() {
    let topic = ours::OffsetFetchRequestTopics {
        topic_id: TopicId(*b"sixteen bytes id"),
        partition_indexes: vec![6].into(),
        ..Default::default()
    };
    let group = ours::OffsetFetchRequestGroup {
        group_id: "g".into(),
        topics: Some(vec![topic].into()),
        ..Default::default()
    };
    let request = ours::OffsetFetchRequest {
        groups: vec![group].into(),
        require_stable: true,
        ..Default::default()
    };
    let golden = b"\x02\x02g\0\xff\xff\xff\xff\x02sixteen bytes id\x02\0\0\0\x06\0\0\x01\0";
    assert_eq!(encoded(&request, 10, 0), golden);
    assert_eq!(
        ours::OffsetFetchRequest::decode(&mut Decoder::new(golden), 10),
        Ok(request)
    );
}
