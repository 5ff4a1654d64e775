//! `ringtail consume`

use std::collections::BTreeMap;
use std::io::IsTerminal;

use clap::Args;

use crate::base::sync::race;
use crate::client::{Admin, Client, ClientError, Fetched, OffsetSpec, Reader, ReaderOptions, StartAt};
use crate::io::Env;
use crate::io::uring::UringEnv;

use super::failure::Failure;
use super::format::{self, Template, record_json};
use super::output::{Output, Progress};
use super::session::Connect;
use super::topic::partitions_of;

/// How long one look for records takes at most.
const POLL_MS: u64 = 500;

#[derive(Args)]
#[command(after_help = format::FIELDS)]
pub struct Consume {
    #[command(flatten)]
    connect: Connect,
    topic: String,
    /// Begins with the oldest record; otherwise with what is written from now on.
    #[arg(long, conflicts_with = "offset")]
    from_beginning: bool,
    /// Only these partitions; all, if absent.
    #[arg(long = "partition", short, value_name = "N")]
    partitions: Vec<i32>,
    /// Where to begin: `earliest`, `latest`, an offset, -N for the last N of each partition, or @MS for a time since 1970.
    #[arg(long, short, allow_hyphen_values = true)]
    offset: Option<String>,
    /// Ends after so many records.
    #[arg(long, short = 'n', value_name = "N")]
    max_messages: Option<u64>,
    /// Ends when everything is read that was there at the start.
    #[arg(long, short)]
    exit_at_end: bool,
    /// Prints keys, and a tab before the value.
    #[arg(long, short)]
    keys: bool,
    /// Prints headers, and a tab.
    #[arg(long, short = 'H')]
    headers: bool,
    /// Prints partition, offset and timestamp, each with a tab.
    #[arg(long)]
    offsets: bool,
    /// Prints records in this form instead.
    #[arg(long, short)]
    format: Option<String>,
}

#[derive(Clone, Copy)]
enum Begin {
    At(StartAt),
    /// So many before the end.
    Last(i64),
}

fn begin(text: &str) -> Result<Begin, Failure> {
    let wrong = || Failure::usage(format!("`{text}` is no place to begin: earliest, latest, N, -N or @MS"));
    Ok(match text {
        "earliest" | "beginning" => Begin::At(StartAt::Place(OffsetSpec::Earliest)),
        "latest" | "end" => Begin::At(StartAt::Place(OffsetSpec::Latest)),
        text if text.starts_with('@') => Begin::At(StartAt::Place(OffsetSpec::AtTime(
            text[1..].parse().map_err(|_| wrong())?,
        ))),
        text if text.starts_with('-') => Begin::Last(text[1..].parse().map_err(|_| wrong())?),
        text => Begin::At(StartAt::Offset(text.parse().map_err(|_| wrong())?)),
    })
}

impl Consume {
    pub fn run(self) -> Result<(), Failure> {
        let connect = self.connect.clone();
        connect.run(async move |client| self.consume(client).await)
    }

    fn template(&self) -> Result<Template, Failure> {
        if let Some(format) = &self.format {
            return Template::parse(format);
        }
        let mut text = String::new();
        for (wanted, fields) in [
            (self.offsets, "%p\\t%o\\t%T\\t"),
            (self.headers, "%h\\t"),
            (self.keys, "%k\\t"),
        ] {
            text.push_str(if wanted { fields } else { "" });
        }
        Template::parse(&(text + "%v\\n"))
    }

    async fn consume(self, client: Client<UringEnv>) -> Result<(), Failure> {
        let template = self.template()?;
        let partitions = partitions_of(&client, &self.topic, &self.partitions).await?;
        let admin = Admin::new(client.clone());
        let begin = match &self.offset {
            Some(text) => begin(text)?,
            None if self.from_beginning => Begin::At(StartAt::Place(OffsetSpec::Earliest)),
            None => Begin::At(StartAt::Place(OffsetSpec::Latest)),
        };
        let mut starts = BTreeMap::new();
        for partition in &partitions {
            starts.insert(*partition, self.start(&admin, *partition, begin).await?);
        }
        let ends = match self.exit_at_end {
            true => Some(self.ends(&admin, &partitions, &starts).await?),
            false => None,
        };
        let assigned: Vec<(&str, i32, StartAt)> = starts.iter().map(|(p, at)| (self.topic.as_str(), *p, *at)).collect();
        let reset = self.offset.is_none().then_some(OffsetSpec::Earliest);
        let reader = Reader::new(
            client.clone(),
            &assigned,
            ReaderOptions {
                reset,
                ..ReaderOptions::default()
            },
        );
        let mut sink = Sink {
            template,
            json: self.connect.json,
            out: Output::new(),
            left: self.max_messages.unwrap_or(u64::MAX),
            progress: Progress::new(client.env().now(), std::io::stdout().is_terminal()),
            scratch: Vec::new(),
        };
        let done = self.pump(&client, &reader, &mut sink, ends).await;
        sink.progress.clear();
        client.close();
        sink.out.finish()?;
        done
    }

    /// Prints until there is enough, the ends are reached, or a signal says stop.
    async fn pump(
        &self,
        client: &Client<UringEnv>,
        reader: &Reader<UringEnv>,
        sink: &mut Sink,
        mut ends: Option<BTreeMap<i32, i64>>,
    ) -> Result<(), Failure> {
        let env = client.env();
        loop {
            if let Some(ends) = &mut ends {
                ends.retain(|partition, end| reader.position(&self.topic, *partition).is_none_or(|at| at < *end));
            }
            if sink.left == 0 || ends.as_ref().is_some_and(BTreeMap::is_empty) || env.stop().is_requested() {
                return Ok(());
            }
            let stopped = async {
                env.stop().requested().await;
                Ok(None)
            };
            match race(reader.poll(POLL_MS), stopped).await? {
                Some(fetched) => {
                    let limit = ends
                        .as_ref()
                        .map(|ends| ends.get(&fetched.partition).copied().unwrap_or(0));
                    sink.print(&fetched, limit, env.now())?;
                }
                None => sink.out.flush()?,
            }
        }
    }

    async fn start<E: Env>(&self, admin: &Admin<E>, partition: i32, begin: Begin) -> Result<StartAt, Failure> {
        Ok(match begin {
            Begin::At(at) => at,
            Begin::Last(count) => {
                let (earliest, latest) = offsets(admin, &self.topic, partition).await?;
                StartAt::Offset((latest - count).max(earliest))
            }
        })
    }

    /// Where each partition ends now, of those that have something from their start on.
    async fn ends<E: Env>(
        &self,
        admin: &Admin<E>,
        partitions: &[i32],
        starts: &BTreeMap<i32, StartAt>,
    ) -> Result<BTreeMap<i32, i64>, Failure> {
        let earliest = admin
            .list_offsets(&self.topic, partitions, OffsetSpec::Earliest)
            .await?;
        let latest = admin.list_offsets(&self.topic, partitions, OffsetSpec::Latest).await?;
        let mut ends = BTreeMap::new();
        for partition in partitions {
            let of = |listed: &BTreeMap<i32, crate::client::ListedOffset>| {
                listed.get(partition).and_then(|at| at.offset).unwrap_or(0)
            };
            let begins = match starts.get(partition) {
                Some(StartAt::Offset(offset)) => *offset,
                Some(StartAt::Place(OffsetSpec::Latest)) => of(&latest),
                _ => of(&earliest),
            };
            if begins < of(&latest) {
                ends.insert(*partition, of(&latest));
            }
        }
        Ok(ends)
    }
}

async fn offsets<E: Env>(admin: &Admin<E>, topic: &str, partition: i32) -> Result<(i64, i64), Failure> {
    let mut found = [0; 2];
    for (slot, spec) in found.iter_mut().zip([OffsetSpec::Earliest, OffsetSpec::Latest]) {
        let listed = admin.list_offsets(topic, &[partition], spec).await?;
        *slot = listed.get(&partition).and_then(|listed| listed.offset).unwrap_or(0);
    }
    Ok((found[0], found[1]))
}

struct Sink {
    template: Template,
    json: bool,
    out: Output,
    left: u64,
    progress: Progress,
    scratch: Vec<u8>,
}

impl Sink {
    /// Prints the records below `end`, as many as are wanted.
    fn print(&mut self, fetched: &Fetched, end: Option<i64>, now: crate::io::Monotonic) -> Result<(), Failure> {
        let mut failed = None;
        let visited: Result<(), ClientError> = fetched.for_each(|record| {
            if self.left == 0 || failed.is_some() || end.is_some_and(|end| record.offset >= end) {
                return;
            }
            self.left -= 1;
            let bytes = record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
            self.progress.add(now, bytes);
            let written = if self.json {
                self.out.line(record_json(&fetched.topic, fetched.partition, record))
            } else {
                self.scratch.clear();
                self.template
                    .write(&fetched.topic, fetched.partition, record, &mut self.scratch);
                self.out.bytes(&self.scratch)
            };
            failed = written.err();
        });
        visited?;
        match failed {
            Some(failure) => Err(failure),
            None => self.out.flush(),
        }
    }
}
