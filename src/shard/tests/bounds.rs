//! What one request may cost: repeats, sums over its parts, waits.

use super::*;
use crate::wire::batch::Codec;

const TOPICS_MAX: usize = 10_000;
const INVALID_CONFIG: i16 = 40;
const INVALID_REQUEST: i16 = 42;
const POLICY_VIOLATION: i16 = 44;
const MESSAGE_TOO_LARGE: i16 = 10;

/// Creates topics of so many partitions with the same configs; the error of each.
pub(super) async fn create_topics(
    connection: &Connection<SimEnv>,
    names: &[String],
    partitions: i32,
    configs: &[(&str, &str)],
    validate_only: bool,
) -> Vec<i16> {
    let topic = |name: &String| CreatableTopic {
        name: name.clone().into(),
        num_partitions: partitions,
        replication_factor: 1,
        configs: configs
            .iter()
            .map(|(name, value)| CreatableTopicConfig {
                name: name.to_string().into(),
                value: Some(value.to_string().into()),
            })
            .collect(),
        ..Default::default()
    };
    let request = CreateTopicsRequest {
        topics: names.iter().map(topic).collect(),
        validate_only,
        ..Default::default()
    };
    let answer = connection.call(&request).await.expect("an answer");
    let response: CreateTopicsResponse<'_> = answer.decode().expect("decodes");
    response.topics.iter().map(|topic| topic.error_code).collect()
}

/// (partition, error, offset)
async fn produced(connection: &Connection<SimEnv>, request: &ProduceRequest<'static>) -> Vec<(i32, i16, i64)> {
    let answer = connection.ask(request, PRODUCE).await.expect("an answer");
    let response: ProduceResponse<'_> = answer.decode().expect("decodes");
    let topics = response.responses.iter();
    let partitions = topics.flat_map(|topic| topic.partition_responses.iter().collect::<Vec<_>>());
    partitions.map(|p| (p.index, p.error_code, p.base_offset)).collect()
}

/// 15 MiB of zeros in a few KiB.
fn bomb() -> Bytes {
    let mut builder = BatchBuilder::new(BatchOptions {
        codec: Codec::Zstd,
        ..Default::default()
    });
    let zeros = vec![0; 15 << 20];
    builder.push(1_000, Some(b"k"), Some(&zeros), &[]).expect("room");
    Bytes::copy_from_slice(builder.finish().expect("compressible"))
}

#[test]
fn what_one_produce_decompresses_is_bounded_in_sum() {
    let world = world(61);
    start(&world);
    world.block_on(CLIENT, |env| async move {
        let client = connect(&env).await;
        let compacted = [("cleanup.policy", "compact")];
        assert_eq!(create_topics(&client, &["t".into()], 40, &compacted, false).await, [0]);
        let bomb = bomb();
        let request =
            |partitions: std::ops::Range<i32>| produce_batches(-1, partitions.map(|index| (index, bomb.clone())));
        let answers = produced(&client, &request(0..40)).await;
        let expected = |index| {
            if index < 34 {
                (index, 0, 0)
            } else {
                (index, MESSAGE_TOO_LARGE, -1)
            }
        };
        assert_eq!(answers, (0..40).map(expected).collect::<Vec<_>>());
        // The next request has all of it again, and nothing was logged of those refused.
        assert_eq!(produced(&client, &request(39..40)).await, [(39, 0, 0)]);
    });
}

#[test]
fn a_partition_named_again_in_a_produce_is_refused_and_the_first_stands() {
    let world = world(62);
    start(&world);
    world.block_on(CLIENT, |env| async move {
        let client = connect(&env).await;
        create(&client).await;
        let mut request = produce(-1, &[(0, "a"), (1, "b"), (0, "c")]);
        let again = produce(-1, &[(2, "d"), (1, "e")]);
        request.topic_data = request.topic_data.iter().chain(again.topic_data.iter()).collect();
        let expected = [
            (0, 0, 0),
            (1, 0, 0),
            (0, INVALID_REQUEST, -1),
            (2, 0, 0),
            (1, INVALID_REQUEST, -1),
        ];
        assert_eq!(produced(&client, &request).await, expected);
        let found = fetched(&client, fetch(&[(0, 0), (1, 0), (2, 0)], 0)).await;
        assert!(
            found
                .iter()
                .all(|(_, error, watermark, _)| (*error, *watermark) == (0, 1))
        );
    });
}

#[test]
fn a_partition_named_again_in_a_fetch_is_read_and_answered_once() {
    let world = world(63);
    start(&world);
    world.block_on(CLIENT, |env| async move {
        let client = connect(&env).await;
        create(&client).await;
        produced(&client, &produce(-1, &[(0, "a"), (1, "b")])).await;
        let one_batch = batch("a").len();
        // The last mention counts, in the place of the first.
        let found = fetched(&client, fetch(&[(0, 7), (1, 0), (0, 0)], 0)).await;
        assert_eq!(found, [(0, 0, 1, one_batch), (1, 0, 1, one_batch)]);
        let many: Vec<_> = (0..1000).map(|item| (item % 4, 0)).collect();
        let expected = [(0, 0, 1, one_batch), (1, 0, 1, one_batch), (2, 0, 0, 0), (3, 0, 0, 0)];
        assert_eq!(fetched(&client, fetch(&many, 0)).await, expected);
        let unknown: Vec<_> = (0..300).map(|item| (item % 100, 0)).collect();
        assert_eq!(fetched(&client, fetch(&unknown, 0)).await.len(), 100);
    });
}

#[test]
fn a_fetch_waits_no_longer_than_a_connection_may_be_idle_nor_ten_minutes() {
    for (idle, waits_ms) in [
        ("connections.max.idle.ms=20000", 20_000),
        ("connections.max.idle.ms=-1", 600_000),
    ] {
        let world = world(64);
        start_with(&world, &[idle]);
        world.block_on(CLIENT, move |env| async move {
            create(&connect(&env).await).await;
            let options = ConnectionOptions {
                request_timeout_ms: 1_000_000,
                ..Default::default()
            };
            let client = Connection::open(&env, &address(), options).await.expect("it serves");
            let began = env.now();
            fetched(&client, fetch(&[(0, 0)], i32::MAX)).await;
            let waited_ms = env.now().ms_since(began);
            assert!((waits_ms..waits_ms + 1000).contains(&waited_ms), "{waited_ms}");
        });
    }
}

/// Partitions 0 and 1 lie on different shards.
#[test]
fn the_bytes_that_a_fetch_waits_for_are_counted_over_all_shards() {
    let world = world(65);
    start(&world);
    world.block_on(CLIENT, |env| async move {
        let (reader, writer) = (connect(&env).await, connect(&env).await);
        create(&writer).await;
        let bytes = batch("a").len();
        for (batches, parts) in [(3, [(0, 2), (1, 1)]), (2, [(1, 1), (0, 1)])] {
            let from = fetched(&writer, fetch(&[(0, 0), (1, 0)], 0)).await;
            let mut wanted = fetch(&[(0, from[0].2), (1, from[1].2)], 5_000);
            wanted.min_bytes = (batches * bytes) as i32;
            let (began, got) = (env.now(), Rc::new(RefCell::new(None)));
            let (task, out) = (reader.clone(), got.clone());
            env.spawn(crate::io::Queue::Foreground, async move {
                *out.borrow_mut() = Some(fetched(&task, wanted).await);
            });
            for (partition, count) in parts {
                assert!(got.borrow().is_none(), "there is not enough");
                for _ in 0..count {
                    produced(&writer, &produce(-1, &[(partition, "a")])).await;
                }
                env.sleep_until(env.now().plus_ms(200)).await;
            }
            let found = got.borrow_mut().take().expect("there is enough");
            assert!(env.now().ms_since(began) < 2_000);
            assert_eq!(found.iter().map(|(.., bytes)| bytes).sum::<usize>(), batches * bytes);
        }
    });
}

#[test]
fn one_request_creates_ten_thousand_topics_at_most_and_sets_nothing_internal() {
    let world = world(66);
    start(&world);
    world.block_on(CLIENT, |env| async move {
        let client = connect(&env).await;
        let names: Vec<_> = (0..TOPICS_MAX + 3).map(|n| format!("n{n}")).collect();
        let errors = create_topics(&client, &names, 1, &[], true).await;
        let of = |code| errors.iter().filter(|error| **error == code).count();
        assert_eq!((of(0), of(POLICY_VIOLATION)), (TOPICS_MAX, 3));
        let internal = [("internal.segment.bytes", "4096")];
        let errors = create_topics(&client, &["t".into()], 1, &internal, false).await;
        assert_eq!(errors, [INVALID_CONFIG]);
    });
}

/// The errors of a DeleteTopics by name.
async fn delete_topics(connection: &Connection<SimEnv>, names: &[&str]) -> Vec<i16> {
    let request = DeleteTopicsRequest {
        topics: names
            .iter()
            .map(|name| DeleteTopicState {
                name: Some(name.to_string().into()),
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    };
    let answer = connection.call(&request).await.expect("an answer");
    let response: DeleteTopicsResponse<'_> = answer.decode().expect("decodes");
    response.responses.iter().map(|topic| topic.error_code).collect()
}

/// The errors of a CreatePartitions to eight each.
async fn create_partitions(connection: &Connection<SimEnv>, names: &[&str]) -> Vec<i16> {
    let request = CreatePartitionsRequest {
        topics: names
            .iter()
            .map(|name| CreatePartitionsTopic {
                name: name.to_string().into(),
                count: 8,
                assignments: None,
            })
            .collect(),
        ..Default::default()
    };
    let answer = connection.call(&request).await.expect("an answer");
    let response: CreatePartitionsResponse<'_> = answer.decode().expect("decodes");
    response.results.iter().map(|topic| topic.error_code).collect()
}

#[test]
fn one_request_deletes_or_grows_ten_thousand_topics_at_most_and_none_that_it_names_twice() {
    const UNKNOWN: i16 = 3;
    let world = world(68);
    start(&world);
    world.block_on(CLIENT, |env| async move {
        let client = connect(&env).await;
        create(&client).await;
        let names: Vec<_> = (0..TOPICS_MAX + 3).map(|n| format!("n{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let twice = ["t", "n1", "t"];
        for (many, few) in [
            (
                create_partitions(&client, &names).await,
                create_partitions(&client, &twice).await,
            ),
            (
                delete_topics(&client, &names).await,
                delete_topics(&client, &twice).await,
            ),
        ] {
            let of = |code| many.iter().filter(|error| **error == code).count();
            assert_eq!((of(UNKNOWN), of(POLICY_VIOLATION)), (TOPICS_MAX, 3));
            assert_eq!(few, [UNKNOWN, INVALID_REQUEST]);
        }
        assert_eq!(create_partitions(&client, &["t"]).await, [0]);
        assert_eq!(delete_topics(&client, &["t"]).await, [0]);
    });
}

/// (resource, error, configs)
async fn described(
    connection: &Connection<SimEnv>,
    resources: &[(i8, &str, &[&'static str])],
) -> Vec<(String, i16, usize)> {
    let resource = |(kind, name, keys): &(i8, &str, &[&'static str])| DescribeConfigsResource {
        resource_type: *kind,
        resource_name: name.to_string().into(),
        configuration_keys: (!keys.is_empty()).then(|| keys.iter().map(|key| (*key).into()).collect()),
    };
    let request = DescribeConfigsRequest {
        resources: resources.iter().map(resource).collect(),
        include_synonyms: true,
        include_documentation: true,
    };
    let answer = connection.call(&request).await.expect("an answer");
    let response: DescribeConfigsResponse<'_> = answer.decode().expect("decodes");
    let results = response.results.iter();
    results
        .map(|r| (r.resource_name.to_string(), r.error_code, r.configs.len()))
        .collect()
}

#[test]
fn described_resources_are_told_once_each_with_the_keys_of_all_mentions() {
    const TOPIC: i8 = 2;
    const BROKER: i8 = 4;
    let world = world(67);
    start(&world);
    world.block_on(CLIENT, |env| async move {
        let client = connect(&env).await;
        create(&client).await;
        let found = described(
            &client,
            &[
                (TOPIC, "t", &["retention.ms"]),
                (BROKER, "01", &[]),
                (TOPIC, "t", &["segment.ms", "retention.ms"]),
                (BROKER, "+1", &[]),
                (BROKER, "1", &["num.partitions"]),
            ],
        )
        .await;
        let expected = [
            ("t", 0, 2),
            ("01", INVALID_REQUEST, 0),
            ("+1", INVALID_REQUEST, 0),
            ("1", 0, 1),
        ];
        assert_eq!(
            found,
            expected.map(|(name, error, configs)| (name.to_owned(), error, configs))
        );
    });
}

/// Answers that in sum are far more than the memory of all answers at once.
#[test]
fn what_an_answer_holds_is_given_back_when_it_is_sent() {
    let world = world(66);
    start_with(&world, &["ringtail.memory.bytes=128m"]);
    world.block_on(CLIENT, |env| async move {
        let connection = connect(&env).await;
        create(&connection).await;
        let value = "v".repeat(900_000);
        produced(&connection, &produce(-1, &[(0, &value)])).await;
        for _ in 0..40 {
            let found = fetched(&connection, fetch(&[(0, 0)], 0)).await;
            assert!(found[0].3 > value.len(), "{found:?}");
        }
    });
}
