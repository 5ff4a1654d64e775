//! Names that say what something is: files of a log directory and of a partition, ids of topics and directories. Claims: no panic, and
//! what was read is written in the same way.

use ringtail::base::ids::TopicId;
use ringtail::cluster::{DirectoryId, check_topic_name};
use ringtail::storage::formats::{OwnFile, base_name, base_of, file_name, shard_name};

use super::memory::bounded;

pub fn run(input: &[u8]) {
    let Ok(name) = std::str::from_utf8(input) else { return };
    bounded(name.len(), || {
        if let Some(id) = TopicId::parse(name) {
            assert_eq!(id.to_string(), name);
            assert_eq!(DirectoryId::parse(name), Some(DirectoryId(id.0)));
        }
        let _ = check_topic_name(name);
        if let Some(base) = base_of(name) {
            assert_eq!(file_name(base, "log"), name);
        }
    });
    let Some(own) = bounded(name.len(), || OwnFile::parse(name)) else {
        return;
    };
    let again = match own {
        OwnFile::Base { start } => base_name(start),
        OwnFile::Shard { start, shard, number } => shard_name(start, shard, number),
        OwnFile::Journal { start, shard, number } => format!("ringtail-journal-{start}-{shard}-{number}"),
    };
    assert_eq!(again, name);
}
