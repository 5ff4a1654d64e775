use super::*;
use crate::cluster::{
    ConfigChange, ConfigOperation, ConfigOperationKind, DirectoryId, SetBrokerConfigs, SetTopicConfigs,
};
use crate::config::{BrokerConfig, Input, Machine, load};
use crate::wire::kafka::ErrorCode;

/// A configuration from properties.
pub fn config(text: &str) -> BrokerConfig {
    let machine = Machine {
        host_name: "h".into(),
        cpus: 2,
        memory_bytes: 4 << 30,
    };
    load(Input {
        file: Some(("f", text)),
        environment: [],
        arguments: &[],
        machine,
    })
    .unwrap()
    .config
}

/// A wish for a topic with the broker's defaults.
pub fn create(seed: u8, name: &str) -> CreateTopic {
    CreateTopic {
        id: TopicId([seed; 16]),
        name: name.into(),
        partition_count: -1,
        replication_factor: -1,
        assignments: Vec::new(),
        configs: Vec::new(),
        validate_only: false,
    }
}

const DIRECTORIES: [DirectoryId; 2] = [DirectoryId([1; 16]), DirectoryId([2; 16])];

struct World {
    image: Image,
    config: BrokerConfig,
}

impl World {
    fn new(text: &str) -> Self {
        Self {
            image: Image::default(),
            config: config(text),
        }
    }

    fn decide(&self, command: Command) -> Result<Decision, DecideError> {
        let before = self.image.clone();
        let decision = decide(
            &self.image,
            Context {
                config: &self.config,
                directories: &DIRECTORIES,
            },
            &command,
        );
        assert_eq!(self.image, before);
        decision
    }

    fn run(&mut self, command: Command) -> Response {
        let decision = self.decide(command).unwrap();
        decision.records.iter().for_each(|record| self.image.apply(record));
        decision.response
    }

    fn code(&self, command: Command) -> ErrorCode {
        self.decide(command).unwrap_err().code()
    }
}

#[test]
fn a_topic_is_made_with_the_defaults_and_found_by_name_and_id() {
    let mut world = World::new("num.partitions=3");
    let response = world.run(Command::CreateTopic(create(7, "a.b")));
    let id = TopicId([7; 16]);
    assert_eq!(
        response,
        Response::TopicCreated {
            id,
            partition_count: 3,
            replication_factor: 1
        }
    );
    let topic = world.image.topic("a.b").unwrap();
    assert_eq!(topic.partitions, [DIRECTORIES[0], DIRECTORIES[1], DIRECTORIES[0]]);
    assert_eq!(world.image.topic_by_id(id), Some(topic));
    assert_eq!(
        world.code(Command::CreateTopic(create(8, "a.b"))),
        ErrorCode::TopicAlreadyExists
    );
    assert_eq!(
        world.code(Command::CreateTopic(create(8, "a_b"))),
        ErrorCode::InvalidTopicException
    );
    let response = world.run(Command::DeleteTopic(TopicRef::Id(id)));
    assert_eq!(response, Response::TopicDeleted { id, name: "a.b".into() });
    assert_eq!(
        world.code(Command::DeleteTopic(TopicRef::Id(id))),
        ErrorCode::UnknownTopicId
    );
    assert_eq!(
        world.code(Command::DeleteTopic(TopicRef::Name("a.b".into()))),
        ErrorCode::UnknownTopicOrPartition
    );
    world.run(Command::CreateTopic(create(8, "a_b")));
}

#[test]
fn names_follow_kafkas_rules() {
    let long = "x".repeat(249);
    for good in ["a", "A-z_0.9", "...", "__x", long.as_str()] {
        assert_eq!(check_topic_name(good), Ok(()), "{good}");
    }
    let longer = "x".repeat(250);
    for bad in ["", ".", "..", "a b", "a/b", "é", "a\0", longer.as_str()] {
        assert!(check_topic_name(bad).is_err(), "{bad}");
    }
}

#[test]
fn what_a_topic_cannot_be_is_refused_with_kafkas_codes() {
    let world = World::new("");
    let with = |change: &dyn Fn(&mut CreateTopic)| {
        let mut command = create(1, "t");
        change(&mut command);
        Command::CreateTopic(command)
    };
    let config = |name: &str, value: Option<&str>| vec![(name.to_owned(), value.map(str::to_owned))];
    let refused: Vec<(Command, ErrorCode)> = vec![
        (with(&|c| c.partition_count = 0), ErrorCode::InvalidPartitions),
        (with(&|c| c.partition_count = -2), ErrorCode::InvalidPartitions),
        (with(&|c| c.partition_count = 10_001), ErrorCode::PolicyViolation),
        (with(&|c| c.replication_factor = 0), ErrorCode::InvalidReplicationFactor),
        (with(&|c| c.replication_factor = 3), ErrorCode::InvalidReplicationFactor),
        (
            with(&|c| c.assignments = vec![(0, vec![2])]),
            ErrorCode::InvalidReplicaAssignment,
        ),
        (
            with(&|c| c.assignments = vec![(0, vec![1, 1])]),
            ErrorCode::InvalidReplicaAssignment,
        ),
        (
            with(&|c| c.assignments = vec![(0, vec![1]), (0, vec![1])]),
            ErrorCode::InvalidReplicaAssignment,
        ),
        (
            with(&|c| c.assignments = vec![(1, vec![1])]),
            ErrorCode::InvalidReplicaAssignment,
        ),
        (
            with(&|c| c.assignments = vec![(-1, vec![1])]),
            ErrorCode::InvalidReplicaAssignment,
        ),
        (
            with(&|c| (c.assignments, c.partition_count) = (vec![(0, vec![1])], 1)),
            ErrorCode::InvalidRequest,
        ),
        (
            with(&|c| c.configs = config("dummy.doesntexist", Some("1"))),
            ErrorCode::InvalidConfig,
        ),
        (
            with(&|c| c.configs = config("retention.ms", None)),
            ErrorCode::InvalidConfig,
        ),
        (
            with(&|c| c.configs = config("retention.ms", Some("soon"))),
            ErrorCode::InvalidConfig,
        ),
        (with(&|c| c.name = "a b".into()), ErrorCode::InvalidTopicException),
    ];
    for (command, code) in refused {
        assert_eq!(world.code(command.clone()), code, "{command:?}");
    }
    let assigned = world
        .decide(with(&|c| c.assignments = vec![(1, vec![1]), (0, vec![1])]))
        .unwrap();
    let expected = Response::TopicCreated {
        id: TopicId([1; 16]),
        partition_count: 2,
        replication_factor: 1,
    };
    assert_eq!(assigned.response, expected);
    let context = Context {
        config: &world.config,
        directories: &[],
    };
    assert_eq!(
        decide(&world.image, context, &with(&|_| {})).unwrap_err().code(),
        ErrorCode::KafkaStorageError
    );
}

#[test]
fn validate_only_answers_and_records_nothing() {
    let world = World::new("");
    let decision = world
        .decide(Command::CreateTopic(CreateTopic {
            validate_only: true,
            ..create(1, "t")
        }))
        .unwrap();
    let expected = Response::TopicCreated {
        id: TopicId::ZERO,
        partition_count: 1,
        replication_factor: 1,
    };
    assert_eq!((decision.records.len(), decision.response), (0, expected));
}

#[test]
fn deletion_can_be_forbidden() {
    let mut world = World::new("delete.topic.enable=false");
    world.run(Command::CreateTopic(create(1, "t")));
    assert_eq!(
        world.code(Command::DeleteTopic(TopicRef::Name("t".into()))),
        ErrorCode::TopicDeletionDisabled
    );
}

#[test]
fn partitions_only_grow() {
    let mut world = World::new("");
    world.run(Command::CreateTopic(create(1, "t")));
    let grow = |count, assignments| {
        Command::CreatePartitions(CreatePartitions {
            topic: "t".into(),
            count,
            assignments,
            validate_only: false,
        })
    };
    for (command, code) in [
        (grow(1, None), ErrorCode::InvalidPartitions),
        (grow(-1, None), ErrorCode::InvalidPartitions),
        (grow(10_001, None), ErrorCode::PolicyViolation),
        (grow(3, Some(vec![vec![1]])), ErrorCode::InvalidReplicaAssignment),
        (grow(2, Some(vec![vec![7]])), ErrorCode::InvalidReplicaAssignment),
    ] {
        assert_eq!(world.code(command), code);
    }
    assert_eq!(
        world.run(grow(4, Some(vec![vec![1]; 3]))),
        Response::PartitionsCreated { count: 4 }
    );
    let topic = world.image.topic("t").unwrap();
    assert_eq!(
        topic.partitions,
        [DIRECTORIES[0], DIRECTORIES[1], DIRECTORIES[0], DIRECTORIES[1]]
    );
}

fn operation(name: &str, kind: ConfigOperationKind, value: Option<&str>) -> ConfigOperation {
    ConfigOperation {
        name: name.into(),
        kind,
        value: value.map(str::to_owned),
    }
}

fn alter(change: ConfigChange) -> Command {
    Command::SetTopicConfigs(SetTopicConfigs {
        topic: "t".into(),
        change,
        validate_only: false,
    })
}

#[test]
fn topic_configs_change_one_by_one_or_all_at_once() {
    use ConfigOperationKind::{Append, Delete, Set, Subtract};
    let mut world = World::new("log.cleanup.policy=delete");
    assert_eq!(
        world.code(alter(ConfigChange::Replace(vec![]))),
        ErrorCode::UnknownTopicOrPartition
    );
    world.run(Command::CreateTopic(create(1, "t")));
    world.run(alter(ConfigChange::Incremental(vec![
        operation("retention.ms", Set, Some(" 5 ")),
        operation("cleanup.policy", Append, Some("compact")),
        operation("segment.ms", Delete, None),
    ])));
    let configs = world.image.topic("t").unwrap().configs.clone();
    assert_eq!(
        (configs["retention.ms"].as_str(), configs["cleanup.policy"].as_str()),
        ("5", "delete,compact")
    );
    world.run(alter(ConfigChange::Incremental(vec![operation(
        "cleanup.policy",
        Subtract,
        Some("delete"),
    )])));
    assert_eq!(world.image.topic("t").unwrap().configs["cleanup.policy"], "compact");
    for (change, code) in [
        (
            vec![operation("retention.ms", Append, Some("1"))],
            ErrorCode::InvalidConfig,
        ),
        (vec![operation("retention.ms", Set, None)], ErrorCode::InvalidRequest),
        (
            vec![operation("retention.ms", Set, Some("1")); 2],
            ErrorCode::InvalidRequest,
        ),
        (
            vec![operation("cleanup.policy", Append, Some("shred"))],
            ErrorCode::InvalidConfig,
        ),
        (
            vec![operation("nothing.known", Set, Some("1"))],
            ErrorCode::InvalidConfig,
        ),
    ] {
        assert_eq!(world.code(alter(ConfigChange::Incremental(change))), code);
    }
    world.run(alter(ConfigChange::Replace(vec![(
        "segment.ms".into(),
        Some("9".into()),
    )])));
    let configs = &world.image.topic("t").unwrap().configs;
    assert_eq!(
        configs
            .iter()
            .map(|(n, v)| (n.as_str(), v.as_str()))
            .collect::<Vec<_>>(),
        [("segment.ms", "9")]
    );
    let huge = Some("1:2,".repeat(300_000));
    let change = ConfigChange::Replace(vec![("leader.replication.throttled.replicas".into(), huge)]);
    assert_eq!(world.code(alter(change)), ErrorCode::InvalidConfig);
}

#[test]
fn broker_configs_change_only_what_a_running_broker_can_take() {
    let mut world = World::new("node.id=1");
    let set = |node_id, name: &str, value: &str| {
        let change = ConfigChange::Incremental(vec![operation(name, ConfigOperationKind::Set, Some(value))]);
        Command::SetBrokerConfigs(SetBrokerConfigs {
            node_id,
            change,
            validate_only: false,
        })
    };
    world.run(set(Some(1), "log.retention.ms", "7"));
    world.run(set(None, "sasl.kerberos.min.time.before.relogin", "59000"));
    assert_eq!(
        world.image.broker_configs(Some(1)).collect::<Vec<_>>(),
        [("log.retention.ms", "7")]
    );
    assert_eq!(
        world.code(set(Some(2), "log.retention.ms", "7")),
        ErrorCode::InvalidRequest
    );
    assert_eq!(world.code(set(Some(1), "log.dirs", "/x")), ErrorCode::InvalidRequest);
    assert_eq!(
        world.code(set(Some(1), "log.retention.ms", "x")),
        ErrorCode::InvalidConfig
    );
    assert_eq!(world.code(set(Some(1), "who.knows", "x")), ErrorCode::InvalidConfig);
}

#[test]
fn producer_ids_come_in_blocks_that_never_overlap() {
    let mut world = World::new("");
    assert_eq!(world.run(Command::AllocateProducerIds), Response::ProducerIds(0..1000));
    assert_eq!(
        world.run(Command::AllocateProducerIds),
        Response::ProducerIds(1000..2000)
    );
    world.image.apply(&Record::ProducerIdsAllocated { end: i64::MAX - 1 });
    assert_eq!(world.code(Command::AllocateProducerIds), ErrorCode::InvalidRequest);
}
