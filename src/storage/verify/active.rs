//! The end of a partition's log: the active segment as its checkpoint describes it, and what journal and segments hold
//! behind that, read as recovery would.

use std::io;
use std::path::Path;

use bytes::Bytes;

use super::segment::{Checker, LogBytes, Walked, read_companion, walk};
use super::{Pace, Report};
use crate::base::ids::PartitionId;
use crate::io::Env;
use crate::storage::build::{SUMS_HEAD_BYTES, SegmentIdentity};
use crate::storage::growing::Growing;
use crate::storage::recovery::evidence::PartitionEvidence;
use crate::storage::segment::path_of;
use crate::storage::state::PartitionState;
use crate::storage::sums::decode_rows;

/// Verifies from the checkpoint's segment on (from the first one without a checkpoint) to the end of the log.
pub async fn verify_chain<E: Env>(
    env: &E,
    folder: &Path,
    bases: &[i64],
    known: PartitionEvidence,
    report: &mut Report,
    pace: &mut impl Pace,
) -> io::Result<()> {
    let state = known.state.as_ref();
    if state.is_some_and(|state| state.damaged) {
        report.problem(
            folder,
            None,
            "recovery found durable batches missing or wrong: the partition is not served",
        );
        return Ok(());
    }
    let first = state.map_or(bases.first().copied().unwrap_or(0), |state| state.boundary.segment);
    let mut base = first;
    loop {
        let log = LogBytes::open(env, path_of(folder, base, "log"), pieces_of(&known, base)).await?;
        let mut checker = Checker::new(folder, base);
        let mut at = Walked {
            position: 0,
            offset: base,
            stop: None,
        };
        report.segments += 1;
        if state.is_none() {
            check_owner(env, folder, base, known.id, report).await?;
        }
        if let Some(state) = state.filter(|_| base == first) {
            match verify_described(env, folder, state, &log, &mut checker, report, pace).await? {
                Some(walked) => at = walked,
                None => return Ok(()),
            }
        }
        at = walk(env, &log, at, log.end(), &mut checker, report, pace).await?;
        let goes_on = at.position > 0 && at.offset > base;
        let pieces = known.pieces.iter().any(|piece| piece.segment == at.offset);
        if goes_on && (pieces || bases.contains(&at.offset)) {
            base = at.offset;
            continue;
        }
        if at.offset < known.reach {
            let what = format!(
                "batches end at offset {}, those up to {} were durable: {:?}",
                at.offset, known.reach, at.stop
            );
            report.problem(&log.path, at.position, what);
        }
        for stray in bases.iter().filter(|&&other| other > at.offset) {
            report.note(
                &path_of(folder, *stray, "log"),
                "begins behind the log's end: the next start removes it",
            );
        }
        return Ok(());
    }
}

/// Verifies a segment up to the boundary that `state` describes; where that is, unless batches end before it.
pub async fn verify_described<E: Env>(
    env: &E,
    folder: &Path,
    state: &PartitionState,
    log: &LogBytes<E>,
    checker: &mut Checker,
    report: &mut Report,
    pace: &mut impl Pace,
) -> io::Result<Option<Walked>> {
    let boundary = &state.boundary;
    describe(env, folder, state, checker, report).await?;
    let begin = Walked {
        position: 0,
        offset: boundary.segment,
        stop: None,
    };
    let at = walk(env, log, begin, boundary.position, checker, report, pace).await?;
    if (at.position, at.offset) == (boundary.position, boundary.offset) {
        return Ok(Some(at));
    }
    let what = format!(
        "batches end at offset {}, those up to {} were stored: {:?}",
        at.offset, boundary.offset, at.stop
    );
    report.problem(&log.path, at.position, what);
    Ok(None)
}

/// Without a checkpoint the sums' head may tell that `partition.metadata` names the wrong topic.
async fn check_owner<E: Env>(
    env: &E,
    folder: &Path,
    base: i64,
    id: PartitionId,
    report: &mut Report,
) -> io::Result<()> {
    let path = path_of(folder, base, "sums");
    let head = read_companion(env, &path, Some(SUMS_HEAD_BYTES as u64)).await?;
    match head.as_deref().and_then(SegmentIdentity::from_sums_head) {
        Some(identity) if identity.partition != id => {
            let (topic, index) = (identity.partition.topic, identity.partition.index);
            let what = format!("names another topic than {path:?}, which is of partition {index} of topic {topic}");
            report.problem(&folder.join("partition.metadata"), None, what);
        }
        _ => {}
    }
    Ok(())
}

/// What checkpoint and journal hold of a segment. Below what the checkpoint calls stored the file alone counts, whatever the
/// journal still has: a start does not look there.
fn pieces_of(known: &PartitionEvidence, base: i64) -> Vec<(u64, Bytes)> {
    let state = known.state.as_ref().filter(|state| state.boundary.segment == base);
    let stored = state.map_or(0, |state| state.stored);
    let journaled = known
        .pieces
        .iter()
        .filter(|piece| piece.segment == base && piece.end() > stored);
    let clipped = journaled.map(|piece| {
        let skip = stored.saturating_sub(piece.position);
        (piece.position + skip, piece.bytes.slice(skip as usize..))
    });
    let mut pieces: Vec<(u64, Bytes)> = clipped.collect();
    pieces.extend(state.map(|state| (state.stored, state.tail.clone())));
    pieces
}

/// Gives the checker the companions as the checkpoint knows them: the blocks in the files, and what follows them.
async fn describe<E: Env>(
    env: &E,
    folder: &Path,
    state: &PartitionState,
    checker: &mut Checker,
    report: &mut Report,
) -> io::Result<()> {
    let build = &state.build;
    let mut whole = Vec::new();
    for (kind, growing) in [
        ("index", &build.offsets),
        ("timeindex", &build.times),
        ("sums", &build.sums),
    ] {
        let path = path_of(folder, state.boundary.segment, kind);
        let mut content = match growing.stored() {
            0 => Vec::new(),
            stored => read_companion(env, &path, Some(stored)).await?.unwrap_or_default(),
        };
        report.bytes += content.len() as u64;
        content.extend_from_slice(growing.rest());
        if !is_whole(growing, &content) {
            report.problem(&path, None, "does not match the sum that was kept of it");
        }
        whole.push(content);
    }
    let sums = whole.pop().unwrap_or_default();
    let stored = build.sums.stored() as usize;
    let mut rows = sums.get(SUMS_HEAD_BYTES..stored).unwrap_or_default().to_vec();
    rows.extend(build.unstored_rows(&state.boundary));
    checker.rows = decode_rows(checker.base, (0, checker.base), &rows, state.boundary.position);
    checker.identity = Some(build.identity);
    checker.times = whole.pop().unwrap_or_default();
    checker.index = whole.pop().unwrap_or_default();
    Ok(())
}

fn is_whole(growing: &Growing, content: &[u8]) -> bool {
    content.len() as u64 == growing.bytes() && crc32c::crc32c(content) == growing.crc()
}
