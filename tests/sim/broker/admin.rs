//! The administrator: topics that stay, made before anything else, and topics that come and go.

use ringtail::base::ids::TopicId;
use ringtail::client::ClientError;
use ringtail::io::sim::SimEnv;
use ringtail::storage::DurabilityClass;
use ringtail::wire::kafka::ErrorCode;
use ringtail::wire::kafka::messages::*;

use super::party::{Caller, Shared, goes_on, pause};
use super::payload::below;
use super::recorder::Known;

const CREATE: i16 = 7;
const DELETE: i16 = 6;
const METADATA: i16 = 12;
/// Topics that come and go, at once.
const SLOTS: usize = 3;

/// A topic to be made.
#[derive(Clone, Debug)]
pub struct TopicPlan {
    pub name: String,
    pub partitions: i32,
    pub class: DurabilityClass,
    /// Segments are rolled at this age: their size has a lower bound of 1 MiB, which few reach.
    pub segment_ms: u64,
    pub retention_bytes: Option<u64>,
    pub retention_ms: Option<u64>,
}

impl TopicPlan {
    fn configs(&self) -> Vec<(&'static str, String)> {
        let class = match self.class {
            DurabilityClass::Flushed => "flushed",
            DurabilityClass::Written => "written",
        };
        let mut configs = vec![
            ("ringtail.durability", class.to_owned()),
            ("segment.bytes", (1 << 20).to_string()),
            ("segment.ms", self.segment_ms.to_string()),
            (
                "retention.ms",
                self.retention_ms.map_or("-1".into(), |ms| ms.to_string()),
            ),
        ];
        configs.extend(self.retention_bytes.map(|bytes| ("retention.bytes", bytes.to_string())));
        configs
    }
}

async fn create(caller: &mut Caller, plan: &TopicPlan) -> Result<TopicId, ClientError> {
    let config = |(name, value): (&'static str, String)| CreatableTopicConfig {
        name: name.into(),
        value: Some(value.into()),
    };
    let request = CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: plan.name.clone().into(),
            num_partitions: plan.partitions,
            replication_factor: 1,
            configs: plan.configs().into_iter().map(config).collect(),
            ..Default::default()
        }]
        .into(),
        timeout_ms: 3_000,
        validate_only: false,
    };
    let answer = caller.ask(&request, CREATE).await?;
    let response: CreateTopicsResponse<'_> = answer.decode()?;
    let result = response.topics.first().unwrap_or_default();
    caller.party.error(result.error_code);
    ClientError::check(
        result.error_code,
        || format!("create {}", plan.name),
        result.error_message.as_deref(),
    )?;
    Ok(result.topic_id)
}

fn register(party: &Shared, plan: &TopicPlan, id: TopicId, stays: bool) {
    for index in 0..plan.partitions {
        party.recorder.borrow_mut().add(Known {
            topic: plan.name.clone(),
            id,
            index,
            class: plan.class,
            expires: plan.retention_bytes.is_some() || plan.retention_ms.is_some(),
            stays,
        });
    }
}

/// Makes the topics that stay, on a broker without faults.
pub async fn prepare(env: SimEnv, party: Shared, plans: Vec<TopicPlan>) {
    let mut caller = Caller::new(&env, &party);
    for plan in plans {
        let id = loop {
            match create(&mut caller, &plan).await {
                Ok(id) => break id,
                Err(error) => assert!(error.is_retriable(), "{plan:?}: {error}"),
            }
        };
        register(&party, &plan, id, true);
    }
}

/// A name whose topic is there or not, for certain.
struct Slot {
    name: String,
    there: Option<TopicId>,
}

struct Admin {
    caller: Caller,
    name: String,
    slots: Vec<Slot>,
    names: u32,
}

impl Admin {
    fn fresh_name(&mut self) -> String {
        self.names += 1;
        format!("churn-{}", self.names)
    }

    fn find(&self, what: String) {
        self.caller
            .party
            .find(&self.caller.env, format!("{}: {what}", self.name));
    }

    /// What a request came to whose answer did not come, or does not say what happened: the name is never used again, because a request
    /// that is still under way may act on it at any time.
    fn give_up_name(&mut self, slot: usize) {
        let name = self.fresh_name();
        self.slots[slot] = Slot { name, there: None };
    }

    async fn create(&mut self, slot: usize) {
        let env = self.caller.env.clone();
        let plan = TopicPlan {
            name: self.slots[slot].name.clone(),
            partitions: 1 + below(&env, 3) as i32,
            class: [DurabilityClass::Flushed, DurabilityClass::Written][below(&env, 2) as usize],
            segment_ms: 2_000 << below(&env, 6),
            retention_bytes: None,
            retention_ms: None,
        };
        match create(&mut self.caller, &plan).await {
            Ok(id) => {
                self.slots[slot].there = Some(id);
                register(&self.caller.party, &plan, id, false);
                self.caller.party.success(&env, &self.name);
            }
            Err(error) => {
                if error.code() == Some(ErrorCode::TopicAlreadyExists) || error.code().is_some_and(|c| !is_passing(c)) {
                    self.find(format!("{error}, and it was not there"));
                }
                self.give_up_name(slot);
            }
        }
    }

    async fn delete(&mut self, slot: usize, id: TopicId) {
        let (env, party) = (self.caller.env.clone(), self.caller.party.clone());
        party.recorder.borrow_mut().topic_gone(id);
        let state = match below(&env, 2) {
            0 => DeleteTopicState {
                name: Some(self.slots[slot].name.clone().into()),
                ..Default::default()
            },
            _ => DeleteTopicState {
                name: None,
                topic_id: id,
            },
        };
        let request = DeleteTopicsRequest {
            topics: vec![state].into(),
            timeout_ms: 3_000,
            ..Default::default()
        };
        let outcome = self.caller.ask(&request, DELETE).await.and_then(|answer| {
            let response: DeleteTopicsResponse<'_> = answer.decode()?;
            let result = response.responses.first().unwrap_or_default();
            party.error(result.error_code);
            ClientError::check(result.error_code, || "delete".into(), None)
        });
        match outcome {
            Ok(()) => {
                self.slots[slot].there = None;
                party.success(&env, &self.name);
            }
            Err(error) => {
                if error.code().is_some_and(|code| !is_passing(code)) {
                    self.find(format!("{error}, and {} was there", self.slots[slot].name));
                }
                self.give_up_name(slot);
            }
        }
    }

    /// What the broker lists against what is known for certain.
    async fn compare(&mut self) {
        let Ok(listed) = topics(&mut self.caller).await else {
            return;
        };
        for slot in &self.slots {
            let found = listed
                .iter()
                .find(|topic| topic.name == slot.name)
                .map(|topic| topic.id);
            if found != slot.there {
                self.find(format!(
                    "{} is listed as {found:?} and should be {:?}",
                    slot.name, slot.there
                ));
            }
        }
        let recorder = self.caller.party.recorder.borrow();
        for partition in recorder.live() {
            let known = recorder.known(partition);
            let found = listed.iter().find(|topic| topic.id == known.id);
            if found.is_none_or(|topic| topic.leaders.len() as i32 <= known.index) {
                self.find(format!("{known:?} is listed as {found:?}"));
            }
        }
        self.caller.party.success(&self.caller.env, &self.name);
    }
}

/// Codes that faults explain: of a disk that is full or broken, or of a broker that stops.
fn is_passing(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::KafkaStorageError | ErrorCode::RequestTimedOut | ErrorCode::NotController
    )
}

/// A topic as Metadata lists it: the leader and its epoch of each partition.
#[derive(Clone, Debug)]
pub struct Listed {
    pub name: String,
    pub id: TopicId,
    pub leaders: Vec<(i32, i32)>,
}

/// All topics.
pub async fn topics(caller: &mut Caller) -> Result<Vec<Listed>, ClientError> {
    let request = MetadataRequest {
        topics: None,
        allow_auto_topic_creation: false,
        ..Default::default()
    };
    let answer = caller.ask(&request, METADATA).await?;
    let response: MetadataResponse<'_> = answer.decode()?;
    let listed = response.topics.iter().map(|topic| {
        let mut leaders: Vec<(i32, i32, i32)> = topic
            .partitions
            .iter()
            .map(|p| (p.partition_index, p.leader_id, p.leader_epoch))
            .collect();
        leaders.sort_unstable();
        Listed {
            name: topic.name.as_deref().unwrap_or_default().to_owned(),
            id: topic.topic_id,
            leaders: leaders.into_iter().map(|(_, leader, epoch)| (leader, epoch)).collect(),
        }
    });
    Ok(listed.collect())
}

pub async fn run(env: SimEnv, party: Shared, name: String) {
    let mut admin = Admin {
        caller: Caller::new(&env, &party),
        name,
        slots: Vec::new(),
        names: 0,
    };
    for _ in 0..SLOTS {
        let name = admin.fresh_name();
        admin.slots.push(Slot { name, there: None });
    }
    while goes_on(&party) {
        pause(&env, 2_500).await;
        let slot = below(&env, SLOTS as u64) as usize;
        match (below(&env, 3), admin.slots[slot].there) {
            (0, None) | (1, _) => admin.compare().await,
            (_, None) => admin.create(slot).await,
            (_, Some(id)) if below(&env, 2) == 0 => admin.delete(slot, id).await,
            _ => admin.compare().await,
        }
    }
}
