//! Leader epochs over a restart: every API tells and checks the same one, and a client that follows Kafka's protocol goes on.

use super::*;

const FENCED_LEADER_EPOCH: i16 = 74;
const UNKNOWN_LEADER_EPOCH: i16 = 75;

/// What Metadata says of the partitions of `t`: (error, leader, epoch).
pub(super) async fn leaders(connection: &Connection<SimEnv>) -> Vec<(i16, i32, i32)> {
    let named = MetadataRequestTopic {
        name: Some("t".into()),
        ..Default::default()
    };
    let request = MetadataRequest {
        topics: Some(vec![named].into()),
        allow_auto_topic_creation: false,
        ..Default::default()
    };
    let answer = connection.call(&request).await.expect("an answer");
    let response: MetadataResponse<'_> = answer.decode().expect("decodes");
    let topic = response.topics.first().expect("the topic asked for");
    let told = topic.partitions.iter();
    told.map(|p| (p.error_code, p.leader_id, p.leader_epoch)).collect()
}

async fn described_epochs(connection: &Connection<SimEnv>) -> Vec<i32> {
    let request = DescribeTopicPartitionsRequest::default();
    let answer = connection.call(&request).await.expect("an answer");
    let response: DescribeTopicPartitionsResponse<'_> = answer.decode().expect("decodes");
    let topic = response.topics.first().expect("the only topic");
    topic.partitions.iter().map(|p| p.leader_epoch).collect()
}

/// A fetch that names the epochs the client believes in: (error, diverging epoch and its end, the first batch's epoch).
async fn fetched_in(
    connection: &Connection<SimEnv>,
    partition: i32,
    offset: i64,
    (current, last): (i32, i32),
) -> (i16, (i32, i64), Option<i32>) {
    let wanted = FetchPartition {
        partition,
        fetch_offset: offset,
        partition_max_bytes: 1 << 20,
        current_leader_epoch: current,
        last_fetched_epoch: last,
        ..Default::default()
    };
    let request = FetchRequest {
        topics: vec![FetchTopic {
            topic: "t".into(),
            partitions: vec![wanted].into(),
            ..Default::default()
        }]
        .into(),
        ..Default::default()
    };
    let answer = connection.ask(&request, FETCH).await.expect("an answer");
    let response: FetchResponse<'_> = answer.decode().expect("decodes");
    let topic = response.responses.first().expect("one topic");
    let told = topic.partitions.first().expect("one partition");
    let batches = told
        .records
        .and_then(|r| r.as_wire().map(<[u8]>::to_vec))
        .unwrap_or_default();
    let header = crate::wire::batch::BatchHeader::parse(&batches).ok();
    (
        told.error_code,
        (told.diverging_epoch.epoch, told.diverging_epoch.end_offset),
        header.map(|header| header.partition_leader_epoch()),
    )
}

/// (error, epoch, end offset)
pub(super) async fn epoch_end(
    connection: &Connection<SimEnv>,
    partition: i32,
    current: i32,
    epoch: i32,
) -> (i16, i32, i64) {
    let asked = OffsetForLeaderPartition {
        partition,
        current_leader_epoch: current,
        leader_epoch: epoch,
    };
    let request = OffsetForLeaderEpochRequest {
        replica_id: -1,
        topics: vec![OffsetForLeaderTopic {
            topic: "t".into(),
            partitions: vec![asked].into(),
        }]
        .into(),
    };
    let answer = connection.call(&request).await.expect("an answer");
    let response: OffsetForLeaderEpochResponse<'_> = answer.decode().expect("decodes");
    let topic = response.topics.first().expect("one topic");
    let told = topic.partitions.first().expect("one partition");
    (told.error_code, told.leader_epoch, told.end_offset)
}

/// (error, offset, epoch)
pub(super) async fn latest(connection: &Connection<SimEnv>, partition: i32, current: i32) -> (i16, i64, i32) {
    let asked = ListOffsetsPartition {
        partition_index: partition,
        current_leader_epoch: current,
        timestamp: -1,
    };
    let request = ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic {
            name: "t".into(),
            partitions: vec![asked].into(),
        }]
        .into(),
        ..Default::default()
    };
    let answer = connection.call(&request).await.expect("an answer");
    let response: ListOffsetsResponse<'_> = answer.decode().expect("decodes");
    let topic = response.topics.first().expect("one topic");
    let told = topic.partitions.first().expect("one partition");
    (told.error_code, told.offset, told.leader_epoch)
}

/// After the restart: the epoch the client remembers is fenced, the one of fresh metadata is served.
async fn after_restart(env: SimEnv) {
    let connection = connect(&env).await;
    assert_eq!(leaders(&connection).await, [(0, 1, 1); 4]);
    assert_eq!(described_epochs(&connection).await, [1; 4]);
    for partition in 0..4 {
        let fetch = async |offset, epochs| fetched_in(&connection, partition, offset, epochs).await;
        assert_eq!(fetch(1, (0, 0)).await.0, FENCED_LEADER_EPOCH);
        assert_eq!(fetch(1, (2, 0)).await.0, UNKNOWN_LEADER_EPOCH);
        assert_eq!(latest(&connection, partition, 0).await.0, FENCED_LEADER_EPOCH);
        assert_eq!(epoch_end(&connection, partition, 0, 0).await.0, FENCED_LEADER_EPOCH);
        // What a consumer validates its position with, in the new epoch.
        assert_eq!(epoch_end(&connection, partition, 1, 0).await, (0, 0, 1));
        assert_eq!(latest(&connection, partition, 1).await, (0, 1, 1));
        assert_eq!(fetch(1, (1, 0)).await, (0, (-1, -1), None));
        connection
            .ask(&produce(-1, &[(partition, "after")]), PRODUCE)
            .await
            .expect("acknowledged");
        assert_eq!(fetch(0, (1, -1)).await.2, Some(0));
        assert_eq!(fetch(1, (1, 0)).await.2, Some(1), "new batches bear the new epoch");
        assert_eq!(epoch_end(&connection, partition, 1, 1).await, (0, 1, 2));
        // A client that read more of epoch 0 than there is learns where its log parted from ours.
        assert_eq!(fetch(2, (1, 0)).await.1, (0, 1));
    }
}

#[test]
fn the_leader_epoch_rises_at_a_restart_and_every_api_says_the_same() {
    let world = world(21);
    let broker = start(&world);
    world.block_on(CLIENT, |env| async move {
        let connection = connect(&env).await;
        create(&connection).await;
        assert_eq!(leaders(&connection).await, [(0, 1, 0); 4]);
        let all = produce(-1, &[(0, "a"), (1, "b"), (2, "c"), (3, "d")]);
        connection.ask(&all, PRODUCE).await.expect("acknowledged");
        assert_eq!(fetched_in(&connection, 2, 0, (0, -1)).await.2, Some(0));
    });
    world.kill(broker.id);
    world.run_for(100);
    start(&world);
    world.block_on(CLIENT, after_restart);
}
