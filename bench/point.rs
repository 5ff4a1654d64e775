//! Points of a log, drawn by lot: single batches by offset, offsets by time. One connection, one question at a time: its latency.

use clap::{Args, ValueEnum};
use ringtail::client::{Admin, Client, ClientOptions, OffsetSpec, Purpose};
use ringtail::io::Env;
use ringtail::io::uring::UringEnv;
use ringtail::wire::kafka::messages::*;
use ringtail::wire::kafka::{Message, Str};

use crate::load::{LoadOptions, Window};
use crate::report::Tally;

#[derive(Clone, Copy, ValueEnum)]
enum Question {
    /// Fetches the batch at an offset.
    Fetch,
    /// Looks up the offset of a time.
    Time,
}

#[derive(Args)]
pub struct Point {
    question: Question,
    #[arg(long, short = 'b', default_value = "localhost:9092")]
    bootstrap_server: String,
    #[arg(long, default_value = "ringtail-bench")]
    topic: String,
    /// The partition that is asked about.
    #[arg(long, default_value_t = 0)]
    partition: i32,
    /// Offsets are drawn from the multiples of this.
    #[arg(long, default_value_t = 1)]
    step: u64,
    /// Offsets are drawn from the last so many.
    #[arg(long)]
    last: Option<u64>,
    /// Time of offset 0, milliseconds since 1970, and of each further one.
    #[arg(long, default_value_t = 0)]
    first_ms: i64,
    #[arg(long, default_value_t = 0)]
    each_ms: i64,
    /// Of a fetch.
    #[arg(long, default_value_t = 1 << 20)]
    bytes_max: i32,
    #[command(flatten)]
    load: LoadOptions,
}

impl Point {
    pub fn run(self) -> Result<(), String> {
        let parameters = vec![("step", self.step.into()), ("bytes_max", self.bytes_max.into())];
        let mut load = self.load.clone();
        (load.connections, load.threads) = (1, 1);
        let (measured, json) = (load.clone(), load.json);
        let name = match self.question {
            Question::Fetch => "point-fetch",
            Question::Time => "point-time",
        };
        let shared = std::sync::Arc::new(self);
        let work = move |env: UringEnv, _: usize, window: Window| {
            let shared = shared.clone();
            async move { shared.ask(env, window).await.map_err(|error| error.to_string()) }
        };
        measured.measure(name, parameters, work)?.print(json);
        Ok(())
    }

    async fn ask(&self, env: UringEnv, window: Window) -> Result<Tally, ringtail::client::ClientError> {
        let options = ClientOptions {
            bootstrap_servers: vec![self.bootstrap_server.clone()],
            ..ClientOptions::default()
        };
        let client = Client::new(env.clone(), options);
        let admin = Admin::new(client.clone());
        let end = admin
            .list_offsets(&self.topic, &[self.partition], OffsetSpec::Latest)
            .await?;
        let end = end.get(&self.partition).and_then(|listed| listed.offset).unwrap_or(0) as u64;
        let mut tally = Tally::default();
        // The same places in every run.
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        while env.now() < window.end && !env.stop().is_requested() {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let from = end - self.last.unwrap_or(end).min(end);
            let offset = from + (state % ((end - from) / self.step).max(1)) * self.step;
            let asked = env.now();
            let bytes = match self.question {
                Question::Fetch => self.fetch(&client, offset as i64).await?,
                Question::Time => self.look_up(&admin, offset as i64).await?,
            };
            if window.holds(asked) {
                match bytes {
                    Some(bytes) => tally.add(env.now().0 - asked.0, 1, bytes),
                    None => tally.errors += 1,
                }
            }
        }
        client.close();
        Ok(tally)
    }

    /// Bytes of the batch at `offset`; none if it does not come.
    async fn fetch(
        &self,
        client: &Client<UringEnv>,
        offset: i64,
    ) -> Result<Option<u64>, ringtail::client::ClientError> {
        let leader = client.leader(&self.topic, self.partition).await?;
        let connection = client.connection(leader.node_id, Purpose::Fetch).await?;
        let partition = FetchPartition {
            partition: self.partition,
            fetch_offset: offset,
            partition_max_bytes: self.bytes_max,
            ..Default::default()
        };
        let request = FetchRequest {
            replica_id: -1,
            max_bytes: self.bytes_max,
            topics: vec![FetchTopic {
                topic: Str::Borrowed(&self.topic),
                topic_id: leader.topic_id,
                partitions: vec![partition].into(),
            }]
            .into(),
            ..Default::default()
        };
        let version = connection.version::<FetchRequest<'_>>(<FetchRequest<'_> as Message>::VERSION_MAX)?;
        let answer = connection.ask(&request, version).await?;
        let response: FetchResponse<'_> = answer.decode()?;
        let topic = response.responses.first().unwrap_or_default();
        let found = topic.partitions.first().unwrap_or_default();
        let records = found
            .records
            .as_ref()
            .and_then(|records| records.as_wire())
            .unwrap_or_default();
        let base = records.first_chunk().map(|base| i64::from_be_bytes(*base));
        let is_there = found.error_code == 0 && base.is_some_and(|base| base <= offset);
        Ok(is_there.then_some(records.len() as u64))
    }

    async fn look_up(
        &self,
        admin: &Admin<UringEnv>,
        offset: i64,
    ) -> Result<Option<u64>, ringtail::client::ClientError> {
        let spec = OffsetSpec::AtTime(self.first_ms + offset * self.each_ms);
        let found = admin.list_offsets(&self.topic, &[self.partition], spec).await?;
        let found = found.get(&self.partition).and_then(|listed| listed.offset);
        Ok((found == Some(offset)).then_some(0))
    }
}
