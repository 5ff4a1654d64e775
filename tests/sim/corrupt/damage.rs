//! One damage to a disk: drawn, done, and what it changed.

use std::fmt;
use std::path::{Path, PathBuf};

use ringtail::base::buffer::BLOCK_BYTES;
use ringtail::io::sim::SimEnv;
use ringtail::io::{Durability, Env, OpenOptions, write_all_at};

use super::bases::Files;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    Flip,
    Swap,
    SwapAcross,
    Stale,
    Zero,
    Cut,
    Remove,
}

pub const KINDS: [Kind; 7] = [
    Kind::Flip,
    Kind::Swap,
    Kind::SwapAcross,
    Kind::Stale,
    Kind::Zero,
    Kind::Cut,
    Kind::Remove,
];

/// A file that a damage changed.
#[derive(Clone)]
pub struct Touched {
    pub path: PathBuf,
    pub before: Vec<u8>,
    /// `None`: it is gone.
    pub now: Option<Vec<u8>>,
}

impl Touched {
    /// The bytes that changed, of the file as it was: first and behind the last. Empty if none did.
    pub fn range(&self) -> (usize, usize) {
        let Some(now) = &self.now else {
            return (0, self.before.len());
        };
        let common = self.before.len().min(now.len());
        let differs = |at: &usize| self.before[*at] != now[*at];
        let first = (0..common).find(differs);
        if now.len() < self.before.len() {
            return (first.unwrap_or(common), self.before.len());
        }
        match (first, (0..common).rfind(differs)) {
            (Some(first), Some(last)) => (first, last + 1),
            _ => (0, 0),
        }
    }

    pub fn is_same(&self) -> bool {
        self.now.as_ref() == Some(&self.before)
    }
}

impl fmt::Display for Touched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = self.range();
        write!(f, "{} [{from}, {to}) of {}", self.path.display(), self.before.len())
    }
}

/// Numbers below a bound, from a seed.
pub struct Draw(pub u64);

impl Draw {
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound.max(1)
    }
}

fn block(content: &[u8], number: usize) -> Vec<u8> {
    let from = (number * BLOCK_BYTES).min(content.len());
    let mut block = content[from..content.len().min(from + BLOCK_BYTES)].to_vec();
    block.resize(BLOCK_BYTES, 0);
    block
}

fn put(content: &mut [u8], number: usize, block: &[u8]) {
    let from = number * BLOCK_BYTES;
    let to = content.len().min(from + BLOCK_BYTES);
    content[from..to].copy_from_slice(&block[..to - from]);
}

/// A block of `content`; one that holds something three times of four.
fn some_block(draw: &mut Draw, content: &[u8]) -> usize {
    let blocks = content.len().div_ceil(BLOCK_BYTES);
    let found = draw.below(blocks);
    let holds = |number: &usize| block(content, *number).iter().any(|byte| *byte != 0);
    match draw.below(4) {
        0 => found,
        _ => (found..blocks).chain(0..found).find(holds).unwrap_or(found),
    }
}

/// Draws a damage of `kind` to `path`. `alike` tells which files hold the same kind of content.
pub fn draw(
    draw: &mut Draw,
    kind: Kind,
    path: &Path,
    files: &Files,
    past: &[Files],
    alike: impl Fn(&Path, &Path) -> bool,
) -> Vec<Touched> {
    let before = files[path].clone();
    let mut now = before.clone();
    let place = some_block(draw, &before);
    let mut touched = Vec::new();
    match kind {
        Kind::Flip => {
            let from = place * BLOCK_BYTES;
            let at = from + draw.below(BLOCK_BYTES.min(before.len() - from));
            now[at] ^= 1 << draw.below(8);
        }
        Kind::Zero => put(&mut now, place, &[0; BLOCK_BYTES]),
        Kind::Cut => now.truncate(draw.below(before.len())),
        Kind::Remove => {}
        Kind::Swap => {
            let other = some_block(draw, &before);
            put(&mut now, place, &block(&before, other));
            put(&mut now, other, &block(&before, place));
        }
        Kind::SwapAcross => {
            let others: Vec<&PathBuf> = files.keys().filter(|p| *p != path && !files[*p].is_empty()).collect();
            let near: Vec<&PathBuf> = others.iter().copied().filter(|p| alike(p, path)).collect();
            let from = if near.is_empty() || draw.below(3) == 0 {
                others
            } else {
                near
            };
            if let Some(&other) = from.get(draw.below(from.len())) {
                let theirs = &files[other];
                let there = some_block(draw, theirs);
                let mut changed = theirs.clone();
                put(&mut changed, there, &block(&before, place));
                put(&mut now, place, &block(theirs, there));
                touched.push(Touched {
                    path: other.clone(),
                    before: theirs.clone(),
                    now: Some(changed),
                });
            }
        }
        Kind::Stale => {
            // The file's own older block; if it always was the same, one that another file of its kind had there.
            let here = block(&before, place);
            let own = past.iter().filter_map(|files| files.get(path));
            let mut older: Vec<Vec<u8>> = own
                .map(|content| block(content, place))
                .filter(|b| *b != here)
                .collect();
            if older.is_empty() {
                let others = past.iter().flatten().filter(|(p, _)| alike(p, path));
                older = others
                    .map(|(_, content)| block(content, place))
                    .filter(|b| *b != here)
                    .collect();
            }
            if let Some(older) = older.get(draw.below(older.len())) {
                put(&mut now, place, older);
            }
        }
    }
    touched.push(Touched {
        path: path.to_owned(),
        before,
        now: (kind != Kind::Remove).then_some(now),
    });
    touched.retain(|touched| !touched.is_same());
    touched.reverse();
    touched
}

/// Does it to the disk, durably.
pub async fn apply(env: &SimEnv, touched: &[Touched]) {
    for Touched { path, before, now } in touched {
        let Some(now) = now else {
            env.unlink(path).await.expect("it is there");
            env.flush_directory(path.parent().expect("a folder"))
                .await
                .expect("flushed");
            continue;
        };
        let options = OpenOptions {
            create: false,
            ..OpenOptions::CREATE
        };
        let file = env.open(path, options).await.expect("it is there");
        for number in 0..now.len().div_ceil(BLOCK_BYTES) {
            let changed = block(now, number);
            if changed != block(before, number) {
                let from = number * BLOCK_BYTES;
                let bytes = bytes::Bytes::from(changed).slice(..BLOCK_BYTES.min(now.len() - from));
                let written = write_all_at(env, &file, bytes, from as u64, Durability::Cached).await;
                written.expect("written");
            }
        }
        if now.len() < before.len() {
            env.truncate(&file, now.len() as u64).await.expect("cut");
        }
        env.flush(&file).await.expect("flushed");
    }
}
