//! The seed corpora, made here and committed beside: deterministic, so that a change of a format shows as a change of files.

use std::collections::BTreeMap;

mod kafka;
mod native;
mod storage;
mod texts;

/// The seeds of one target, by name.
pub type Seeds = BTreeMap<String, Vec<u8>>;

/// A folder of seeds, and what makes them.
type Folder = (&'static str, fn(&mut Seeds));

pub const FOLDERS: &[Folder] = &[
    ("arena", storage::arena),
    ("batch_validator", kafka::batches),
    ("checkpoint", storage::checkpoint),
    ("config", texts::config),
    ("frame_decoder", kafka::frames),
    ("journal", storage::journal),
    ("listeners", texts::listeners),
    ("message_decoder", kafka::messages),
    ("meta_properties", texts::meta_properties),
    ("metadata_log", storage::metadata_log),
    ("names", texts::names),
    ("native_frame", native::frames),
    ("record_reader", kafka::records),
    ("segment_files", storage::segment_files),
];

fn put(folder: &mut Seeds, name: &str, bytes: &[u8]) {
    folder.insert(name.to_owned(), bytes.to_vec());
}
